"""Metrics as lines of text: epochs, selections, noise ceilings, summaries over splits."""

import math
import shlex
from typing import Any

import numpy as np

from datasets.noise_ceiling import ceiling_line
from experiments.training.run_folder import RunFolder
from utils.metrics import as_numbers, title_of

Array = np.ndarray

SUMMARY = ("srcc", "plcc", "krcc", "rmse", "sos_srcc", "jsd", "emd")
SELECTION_NOTES = {
    "last": "the last epoch",
    "validation": "best SRCC on the validation part",
    "release": "each metric at its best epoch on the test part: optimistic",
}
OF_SOS = ("sos_srcc", "sos_plcc")
HYPOTHESIS_NOTE = "the SOS labels are a function of the MOS labels (the SOS hypothesis), not measured"


def epoch_line(record: dict[str, Any], epochs: int) -> str:
    """One line for the terminal."""
    train, test = record["train"], record["test"]
    losses = ", ".join(f"{name} {train[name]:.4f}" for name in ("dos", "mos", "sos"))
    width = len(str(epochs))
    return (
        f"epoch {record['epoch']:{width}}/{epochs}  loss {train['total']:.3f} ({losses})  test {metrics_line(test)}  "
        f"{record['seconds']:.0f} s"
    )


def metrics_line(metrics: dict[str, Any]) -> str:
    """The main metrics of a part; a correlation that is not defined shows as nan."""
    shown = ((title_of(name), metrics[name]) for name in SUMMARY if name in metrics)
    return "  ".join(f"{name} {math.nan if value is None else value:.4f}" for name, value in shown)


def results_lines(metrics: dict[str, Any]) -> str:
    """A finished split: every selection, with a word on how honest it is.

    Beside them the noise ceiling, where it is known: estimates of what a perfect predictor would reach.
    """
    lines = []
    for selection, of_selection in metrics["selections"].items():
        lines.append(f"{selection:14}  {metrics_line(of_selection)}  ({explained(selection, of_selection)})")
        lines += [f"  {title:13} {metrics_line(of_one)}" for title, of_one in parts_of_mean(of_selection).items()]
    for part in metrics["undefined"]:
        lines.append(
            f"the SRCC of the {part} part is not defined in any epoch: none can be chosen by it, and where "
            "protocol.selection would, best.pt is of the last"
        )
    ceilings = metrics["noise_ceiling"]
    lines += [f"noise ceiling   {ceiling_line(ceiling)} {title}" for title, ceiling in ceilings.items() if ceiling]
    return "\n".join(f"  {line}" for line in lines)


def parts_of_mean(metrics: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The metrics of each database, by title, that a mean is of; {} where the mean is of one, and says the same."""
    return metrics["databases"] if len(metrics["databases"]) > 1 else {}


def explained(selection: str, metrics: dict[str, Any]) -> str:
    """What a selection is, and which epoch it chose."""
    epoch = f"epoch {metrics['epoch']}, " if "epoch" in metrics else ""
    return f"{epoch}{SELECTION_NOTES[selection]}"


def summary_of_splits(splits: list[dict[str, Any]]) -> str:
    """Mean and standard deviation over splits of the main metrics, of every selection.

    Those of each database follow the means over them.
    """
    lines = [f"{len(splits)} splits, mean (standard deviation):"]
    for selection in dict.fromkeys(name for split in splits for name in split["selections"]):
        if any(selection not in split["selections"] for split in splits):
            lines.append(f"  {selection}: not in every split, since its SRCC is not defined there")
            continue
        row = [split["selections"][selection] for split in splits]
        title = f"{selection} ({SELECTION_NOTES[selection]})"
        rows = {title: row} | {
            f"{title}, {name}": [split["databases"][name] for split in row] for name in parts_of_mean(row[0])
        }
        for title, of_splits in rows.items():
            lines.append(f"  {title}")
            for name in SUMMARY:
                if name in of_splits[0]:
                    values = as_numbers([split.get(name) for split in of_splits])
                    lines.append(f"    {title_of(name):8} {values.mean():.4f} ({values.std(ddof=1):.4f})")
    return "\n".join(lines)


def end_lines(last: RunFolder, splits: list[dict[str, Any]]) -> str:
    """The summary of finished splits, and how to score an image with the last one."""
    lines = [summary_of_splits(splits)] if len(splits) > 1 else []
    command = f"python inference.py IMAGE --checkpoint {shlex.quote(str(last.best))}"
    return "\n".join([*lines, f"score an image with it: {command}"])
