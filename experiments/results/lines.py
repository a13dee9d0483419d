"""Printed lines: the metrics of each epoch while training, then selections, noise ceilings, means over splits."""

import math
import shlex
from typing import Any

import numpy as np

from datasets.noise_ceiling import ceiling_line
from experiments.training.run_folder import RunFolder
from utils.metrics import as_numbers, metric_title

Array = np.ndarray

SUMMARY = ("srcc", "plcc", "krcc", "rmse", "sos_srcc", "jsd", "emd")
SELECTION_NOTES = {
    "last": "the last epoch",
    "validation": "best SRCC on the validation part",
    "release": "each metric at its best epoch on the test part: optimistic",
}
SOS_METRICS = ("sos_srcc", "sos_plcc")
HYPOTHESIS_NOTE = "the SOS labels are a function of the MOS labels (the SOS hypothesis), not measured"


def epoch_line(record: dict[str, Any], epochs: int) -> str:
    """Return the line of an epoch for the terminal."""
    train, test = record["train"], record["test"]
    losses = ", ".join(f"{name} {train[name]:.4f}" for name in ("dos", "mos", "sos", "rank") if name in train)
    width = len(str(epochs))
    return (
        f"epoch {record['epoch']:{width}}/{epochs}  loss {train['total']:.3f} ({losses})  test {metrics_line(test)}  "
        f"{record['seconds']:.0f} s"
    )


def metrics_line(metrics: dict[str, Any]) -> str:
    """Return the main metrics of a part in one line; an undefined correlation is shown as nan."""
    shown = ((metric_title(name), metrics[name]) for name in SUMMARY if name in metrics)
    return "  ".join(f"{name} {math.nan if value is None else value:.4f}" for name, value in shown)


def results_lines(metrics: dict[str, Any]) -> str:
    """Return the results of a finished split: every selection, with how it selects its epoch.

    The noise ceiling, if known, follows: estimates of what a perfect predictor would reach.
    """
    lines = []
    for selection, scores in metrics["selections"].items():
        lines.append(f"{selection:14}  {metrics_line(scores)}  ({selection_note(selection, scores)})")
        lines += [f"  {title:13} {metrics_line(each)}" for title, each in database_metrics(scores).items()]
    for part in metrics["undefined"]:
        lines.append(
            f"the SRCC of the {part} part is not defined in any epoch, so no epoch can be selected by it; if "
            "protocol.selection uses it, best.pt is the last epoch"
        )
    for title, ceiling in metrics["noise_ceiling"].items():
        name = f" {title}" if len(metrics["noise_ceiling"]) > 1 else ""
        lines += [f"noise ceiling   {ceiling_line(ceiling)}{name}"] if ceiling else []
    return "\n".join(f"  {line}" for line in lines)


def database_metrics(metrics: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the metrics of each database by title; {} for a single database, whose metrics are the means."""
    return metrics["databases"] if len(metrics["databases"]) > 1 else {}


def selection_note(selection: str, metrics: dict[str, Any]) -> str:
    """Return which epoch a selection reports, and how it selects it."""
    epoch = f"epoch {metrics['epoch']}, " if "epoch" in metrics else ""
    return f"{epoch}{SELECTION_NOTES[selection]}"


def split_summary(splits: list[dict[str, Any]]) -> str:
    """Return mean and standard deviation over splits of the main metrics, for every selection.

    With several databases, those of each follow the means over them.
    """
    lines = [f"{len(splits)} splits, mean (standard deviation):"]
    for selection in dict.fromkeys(name for split in splits for name in split["selections"]):
        if any(selection not in split["selections"] for split in splits):
            lines.append(f"  {selection}: omitted, since its SRCC is not defined in every split")
            continue
        row = [split["selections"][selection] for split in splits]
        title = f"{selection} ({SELECTION_NOTES[selection]})"
        rows = {title: row} | {
            f"{title}, {name}": [split["databases"][name] for split in row] for name in database_metrics(row[0])
        }
        for title, values_by_split in rows.items():
            lines.append(f"  {title}")
            for name in SUMMARY:
                if name in values_by_split[0]:
                    values = as_numbers([split.get(name) for split in values_by_split])
                    lines.append(f"    {metric_title(name):8} {values.mean():.4f} ({values.std(ddof=1):.4f})")
    return "\n".join(lines)


def closing_lines(last: RunFolder, splits: list[dict[str, Any]]) -> str:
    """Return the summary of finished splits, and how to score an image with the last one if it has a best.pt."""
    lines = [split_summary(splits)] if len(splits) > 1 else []
    if last.best.exists():
        command = f"python inference.py IMAGE --checkpoint {shlex.quote(str(last.best))}"
        lines.append(f"score an image with it: {command}")
    return "".join(f"{line}\n" for line in lines)
