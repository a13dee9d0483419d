"""What a report draws of its splits, with captions; charts.py draws it.

N images, S splits, E epochs.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from experiments.results import charts
from experiments.results.charts import Series
from experiments.results.lines import HYPOTHESIS_NOTE
from experiments.results.results import FinishedSplit, ScoredPart
from experiments.results.tables import CEILING_KEYS, is_hypothetical, metric_heading
from utils.metrics import CENTRAL, as_numbers, fit_logistic, logistic
from utils.svg import Chart
from utils.tables import number

TERMS = {"total": "ink", "dos": "dark dashed", "mos": "middle", "sos": "middle dotted"}
RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")

Array = np.ndarray


@dataclass(frozen=True)
class Drawing:
    """A chart and its caption."""

    chart: Chart
    caption: str


def training_curves(splits: Sequence[FinishedSplit]) -> list[Drawing]:
    """Return the curves of loss, SRCC, EMD and learning rate; with several databases also the SRCC of each."""
    thin = " Thin: each split; thick: their mean." if len(splits) > 1 else ""
    drawings = [
        _loss_curves(splits, thin),
        _metric_curves(splits, "srcc", None, thin),
        _metric_curves(splits, "emd", None, thin),
        _rate_curve(splits, thin),
    ]
    if len(splits[0].tests) > 1:
        drawings += [
            _metric_curves(splits, "srcc", database_index, thin) for database_index in range(len(splits[0].tests))
        ]
    return drawings


def part_drawings(part: ScoredPart) -> list[Drawing]:
    """Return the charts of MOS, SOS, residuals and, if known, the PIT histogram."""
    pred, target = part.values("pred_mos"), part.values("target_mos")
    fit = fit_logistic(pred, target)
    mapped = pred if fit is None else logistic(pred, *fit)
    after = "after the logistic fit" if fit is not None else "without the logistic fit, which failed"
    metrics = {name: number(part.metrics.get(name)) for name in ("srcc", "plcc", "rmse", "sos_srcc", "sos_plcc")}
    hypothesis = f" {HYPOTHESIS_NOTE[0].upper()}{HYPOTHESIS_NOTE[1:]}." if is_hypothetical(part) else ""
    drawings = [
        Drawing(
            charts.scatter("MOS", pred, target, part.scale, fit),
            f"Label against prediction, {len(pred)} test images. SRCC {metrics['srcc']}; {after}: PLCC "
            f"{metrics['plcc']}, RMSE {metrics['rmse']}.",
        ),
        Drawing(
            charts.scatter("SOS", part.values("pred_sos"), part.values("target_sos"), part.scale),
            f"Label against prediction. SRCC {metrics['sos_srcc']}, PLCC {metrics['sos_plcc']}, without a fit."
            f"{hypothesis}",
        ),
        Drawing(
            charts.residuals(mapped, target, part.scale),
            f"Prediction minus label, {after}. Any imperfect predictor falls from left to right, since it predicts "
            "towards the middle.",
        ),
    ]
    if part.pit is not None:
        drawings.append(Drawing(charts.pit(part.pit), _pit_caption(part)))
    return drawings


def _loss_curves(splits: Sequence[FinishedSplit], thin: str) -> Drawing:
    values = {term: _over_epochs(splits, lambda record, term=term: record.get("train", {}).get(term)) for term in TERMS}
    series = [Series(term, values[term], TERMS[term]) for term in TERMS if np.isfinite(values[term]).any()]
    chart = charts.curves("Loss", series or [Series("total", values["total"])], "training loss", axis="log")
    return Drawing(chart, f"Training loss and its unweighted terms.{thin}")


def _rate_curve(splits: Sequence[FinishedSplit], thin: str) -> Drawing:
    """Return the learning rate, scaled by a power of ten to keep the axis labels short."""
    rates = _over_epochs(splits, lambda record: record.get("lr"))
    largest = np.nanmax(rates, initial=0)
    power = int(np.floor(np.log10(largest))) if largest > 0 else 0
    unit = f" (10{str(power).translate(RAISED)})" if power else ""
    series = [Series("learning rate", rates / 10.0**power)]
    chart = charts.curves("Learning rate", series, f"learning rate{unit}", axis="from zero")
    return Drawing(chart, f"At the end of each epoch.{thin}")


def _metric_curves(splits: Sequence[FinishedSplit], metric: str, database_index: int | None, thin: str) -> Drawing:
    """Return a metric on the test and validation part, for one database or the mean over all."""
    is_mean = database_index is None and len(splits[0].tests) > 1
    tests = [split.tests[database_index or 0] for split in splits]
    title = tests[0].title if database_index is not None else None

    def pick(part: str) -> Callable[[dict], float | None]:
        def value(record: dict[str, Any]) -> float | None:
            scores = record.get(part) or {}
            return (scores if title is None else scores.get("databases", {}).get(title, {})).get(metric)

        return value

    series = [Series("test", _over_epochs(splits, pick("test")))]
    validation = _over_epochs(splits, pick("validation"))
    if np.isfinite(validation).any():
        series.append(Series("validation", validation, "middle dashed"))
    ceilings = as_numbers([test.ceiling.get(CEILING_KEYS[metric]) for test in tests])
    ceiling = float(ceilings.mean()) if not is_mean else np.nan
    axis = "from zero" if metric == "emd" else "linear"
    known = np.isfinite(ceiling)
    of = f", {title}" if title is not None else ", mean over the databases" if is_mean else ""
    name = f"{metric_heading(metric)} by epoch{of}"
    chart = charts.curves(name, series, metric_heading(metric), ceiling if known else None, axis)
    on = " and the ".join(one.name for one in series)
    estimate = " Noise ceiling of the test part by bootstrap, which is optimistic." if known else ""
    return Drawing(chart, f"On the {on} part.{thin}{estimate}")


def _over_epochs(splits: Sequence[FinishedSplit], pick: Callable[[dict], float | None]) -> Array:
    """Return a value of each split and epoch, (S, E), NaN where it is missing."""
    values = np.full((len(splits), max(len(split.log) for split in splits)), np.nan)
    for row, split in zip(values, splits, strict=True):
        row[: len(split.log)] = as_numbers([pick(record) for record in split.log])
    return values


def _pit_caption(part: ScoredPart) -> str:
    covered = [
        f"{100 * value:.1f} % in the central {share} %"
        for share in CENTRAL
        if (value := part.metrics.get(f"coverage_{share}")) is not None
    ]
    coverage = f" Coverage, MOS labels within the predicted distribution: {', '.join(covered)}." if covered else ""
    return (
        "With perfect predictions, the PIT of single opinions is uniform. The MOS is a mean of many opinions and lies "
        f"near the middle of their distribution, so a peak in the middle is expected.{coverage}"
    )
