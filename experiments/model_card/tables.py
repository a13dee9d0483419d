"""The tables of a model card, in Markdown."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from datasets.readers import with_defaults
from datasets.scale import RatingScale
from experiments.model_card.evaluations import COVERAGES, Calibration, DatabaseResults
from experiments.results.lines import HYPOTHESIS_NOTE, SOS_METRICS
from experiments.results.tables import metric_heading
from experiments.schema import SplitContent
from utils.metrics import IN_UNITS
from utils.settings import Config
from utils.tables import DASH, number, to_markdown

METRICS = ("srcc", "plcc", "krcc", "rmse", "sos_srcc", "emd", "jsd", "coverage_dos_90")
DIGITS = 3
HYPOTHESIS = "hypothesis"


def training_table(config: Config, split: SplitContent | None) -> str:
    """Return the parts and labels of each database of the training; dashes if the file does not record them."""
    rows = []
    for settings in with_defaults(config).dataset:
        row = {"database": settings.title, "scale": RatingScale.from_settings(settings.scale).describe()}
        entry = split.databases[settings.title] if split else None
        row |= {part: len(getattr(entry, part)) if entry else DASH for part in ("train", "validation", "test")}
        row["DOS labels"] = entry.labels.dos.replace("_", " ") if entry else settings.dos.replace("_", " ")
        row["SOS labels"] = {"file": "measured"}.get(entry.labels.sos, entry.labels.sos) if entry else DASH
        rows.append({name: str(value) for name, value in row.items()})
    columns = {"train": "training images", "validation": "validation images", "test": "test images"}
    return to_markdown(pd.DataFrame(rows).rename(columns=columns), names=len(rows[0]))


def results_table(evaluations: Sequence[DatabaseResults], labels: Mapping[str, Any]) -> str:
    """Return the metrics of each database with their 95 % intervals, where these are known.

    Args:
        evaluations: The results, one database per column.
        labels: Databases of the training, as in split.json.
    """
    columns = {"metric": ["images", "scale", *(metric_heading(name) for name in METRICS)]}
    for evaluation in evaluations:
        title, scale = evaluation.title, evaluation.scale
        entry = labels.get(title, {"labels": {}})["labels"]
        cells = [str(evaluation.metrics["images"]), f"{scale.low:g} to {scale.high:g}"]
        for name in METRICS:
            value = evaluation.metrics["databases"][title].get(name)
            digits = DIGITS - 1 if name in IN_UNITS and scale.high - scale.low > 10 else DIGITS
            low, high = (number(end, digits) for end in evaluation.interval(name))
            interval = f" ({low} to {high})" if (low, high) != (DASH, DASH) else ""
            mark = " †" if name in SOS_METRICS and entry.get("sos") == HYPOTHESIS else ""
            cells.append(DASH if value is None else f"{number(value, digits)}{interval}{mark}")
        columns[title] = cells
    table = to_markdown(pd.DataFrame(columns), names=1)
    return f"{table}\n\n† {HYPOTHESIS_NOTE}." if "†" in table else table


def calibration_table(calibrations: Mapping[str, Mapping[str, Calibration]]) -> str:
    """Return the coverages of each database before and after the temperature."""
    rows = [
        {"database": title, "temperature": when, **{name: number(one.coverage[name], DIGITS) for name in COVERAGES}}
        for title, pair in calibrations.items()
        for when, one in pair.items()
    ]
    columns = {name: metric_heading(name).lower().replace("dos", "DOS") for name in COVERAGES}
    return to_markdown(pd.DataFrame(rows).rename(columns=columns), names=2)


def pit_table(calibrations: Mapping[str, Mapping[str, Calibration]]) -> str:
    """Return the share of images, in percent, in each tenth of the PIT before and after the temperature."""
    rows = []
    for title, pair in calibrations.items():
        for when, one in pair.items():
            tenths = {f"{k / 10:g}–{(k + 1) / 10:g}": number(100 * share, 1) for k, share in enumerate(one.pit)}
            rows.append({"database": title, "temperature": when, **tenths})
    return to_markdown(pd.DataFrame(rows), names=2)


def failures_table(rows: pd.DataFrame) -> str:
    """Return MOS and SOS, labelled and predicted, of rows of predictions.csv."""
    names = {"target_mos": "MOS", "pred_mos": "predicted MOS", "target_sos": "SOS", "pred_sos": "predicted SOS"}
    table = rows[[*names]].map(lambda value: number(value, 1)).rename(columns=names)
    table.insert(
        0, "image", [f"{chr(ord('a') + place)}) {name.rpartition('/')[2]}" for place, name in enumerate(rows["image"])]
    )
    return to_markdown(table, names=1)


def image_heading(place: int, name: str) -> str:
    """Return the heading of an image of the figure, such as `a) 1.bmp`, by its place from 0."""
    return f"{chr(ord('a') + place)}) {name.rpartition('/')[2]}"
