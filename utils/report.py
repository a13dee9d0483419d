"""What a split leaves behind for people: the epoch line, the log, predictions and metrics."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from utils.files import to_json, write_json_lines, write_text
from utils.metrics import distribution_metrics, score_metrics

Array = np.ndarray

LOG, METRICS, PREDICTIONS = "log.jsonl", "metrics.json", "predictions.csv"
SUMMARY = ("srcc", "plcc", "krcc", "rmse", "jsd", "emd")


def split_metrics(pred: dict[str, Array], target: dict[str, Array]) -> dict[str, float]:
    """Every metric of a test part in one dict.

    Args:
        pred: `mos` (N,), `sos` (N,) and `dos` (N, K).
        target: The same.

    Returns:
        The keys of `score_metrics` and `distribution_metrics`; the latter's `rmse` is called `dos_rmse` here.
    """
    of_dos = distribution_metrics(pred["dos"], target["dos"])
    return {
        **score_metrics(pred["mos"], target["mos"]),
        **{"dos_rmse" if name == "rmse" else name: value for name, value in of_dos.items()},
    }


def predictions_table(names: list[str], pred: dict[str, Array], target: dict[str, Array]) -> pd.DataFrame:
    """One row per image: image, target_mos, pred_mos, target_sos, pred_sos, target_p1..pK, pred_p1..pK."""
    table = {"image": names}
    for quantity in ("mos", "sos"):
        table |= {"target_" + quantity: target[quantity], "pred_" + quantity: pred[quantity]}
    for side, values in (("target", target), ("pred", pred)):
        table |= {f"{side}_p{k}": column for k, column in enumerate(values["dos"].T, start=1)}
    return pd.DataFrame(table)


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
    shown = ((name.upper(), metrics[name]) for name in SUMMARY)
    return "  ".join(f"{name} {math.nan if value is None else value:.4f}" for name, value in shown)


def write_log(folder: Path, history: list[dict[str, Any]]) -> None:
    """`log.jsonl`: one record per finished epoch, rewritten whole so that it always agrees with the checkpoint."""
    write_json_lines(folder / LOG, history)


def write_results(folder: Path, predictions: pd.DataFrame, metrics: dict[str, Any]) -> None:
    """`predictions.csv`, then `metrics.json`, whose presence says that the split is finished."""
    write_text(folder / PREDICTIONS, predictions.to_csv(index=False))
    write_text(folder / METRICS, to_json(metrics, indent=2) + "\n")


def summary_of_splits(metrics: list[dict[str, Any]]) -> str:
    """Mean and standard deviation over splits of the main metrics, as lines of text."""
    lines = [f"{len(metrics)} splits, last epoch, mean (standard deviation):"]
    for name in SUMMARY:
        values = np.array([np.nan if split[name] is None else split[name] for split in metrics], dtype=np.float64)
        lines.append(f"  {name.upper():5} {values.mean():.4f} ({values.std(ddof=1):.4f})")
    return "\n".join(lines)
