"""What a split leaves behind for people: the epoch line, the log, predictions and metrics."""

import math
from typing import Any

import numpy as np
import pandas as pd

from utils.metrics import distribution_metrics, score_metrics

Array = np.ndarray

SUMMARY = ("srcc", "plcc", "krcc", "rmse", "jsd", "emd")
IN_UNITS = ("rmse", "rmse_raw")  # of the scale: no mean over databases with different ones
CEILING = ("mos_srcc", "mos_plcc", "sos_srcc", "sos_plcc", "emd")


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


def joined_metrics(metrics: dict[str, dict[str, float]]) -> dict[str, Any]:
    """Metrics of a part of several databases, by title, in one dict: the means over databases, and `databases`.

    What is in units of a scale has no mean. The metrics of one database are passed through as they are.
    """
    if len(metrics) == 1:
        return next(iter(metrics.values()))
    names = [name for name in next(iter(metrics.values())) if name not in IN_UNITS]
    means = {name: float(np.mean([of_one[name] for of_one in metrics.values()])) for name in names}
    return {**means, "databases": metrics}


def joined_predictions(tables: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """Predictions of several databases, by title, in one table with `database` in front; of one, as they are."""
    if len(tables) == 1:
        return next(iter(tables.values()))
    parts = [table.assign(database=title) for title, table in tables.items()]
    table = pd.concat(parts, ignore_index=True)
    return table[["database", *table.columns.drop("database")]]


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
    shown = ((name.upper(), metrics[name]) for name in SUMMARY if name in metrics)
    return "  ".join(f"{name} {math.nan if value is None else value:.4f}" for name, value in shown)


def results_lines(metrics: dict[str, Any]) -> str:
    """The last epoch of a finished split, and the selected one where it is another, with a word on how honest it is.

    Beside them the noise ceiling, where it is known: what a perfect predictor would reach with these labels.
    """
    lines = [f"last epoch      {metrics_line(metrics)}", *_database_lines(metrics)]
    if metrics["selection"] != "last":
        lines.append(f"selected epoch  {metrics_line(metrics['selected'])}  ({_selected(metrics)})")
        lines += _database_lines(metrics["selected"])
    ceilings = metrics["noise_ceiling"] or {}
    by_title = ceilings if "databases" in metrics else {"": ceilings}
    lines += [f"noise ceiling   {ceiling_line(ceiling)} {title}" for title, ceiling in by_title.items() if ceiling]
    return "\n".join(f"  {line.rstrip()}" for line in lines)


def ceiling_line(ceiling: dict[str, float]) -> str:
    """The noise ceiling by bootstrap, in brackets by split half; what is not defined shows as nan."""
    plain = {name: math.nan if value is None else value for name, value in ceiling.items()}
    shown = (
        f"{name.replace('_', ' ').upper()} {plain[name]:.3f} ({plain[f'split_half_{name}']:.3f})" for name in CEILING
    )
    return "  ".join(shown)


def summary_of_splits(splits: list[dict[str, Any]]) -> str:
    """Mean and standard deviation over splits of the main metrics, of the last and of the selected epochs.

    Of several databases, those of each follow the means over them.
    """
    lines = [f"{len(splits)} splits, mean (standard deviation):"]
    rows = [("last epoch", splits)]
    if splits[0]["selection"] != "last":
        rows.append((f"selected by {splits[0]['selection']}", [split["selected"] for split in splits]))
    for title, row in list(rows):
        of_one = {name: [split["databases"][name] for split in row] for name in row[0].get("databases", {})}
        rows += [(f"{title}, {name}", metrics) for name, metrics in of_one.items()]
    for title, row in rows:
        lines.append(f"  {title}")
        for name in SUMMARY:
            if name not in row[0]:
                continue
            values = np.array([np.nan if split[name] is None else split[name] for split in row], dtype=np.float64)
            lines.append(f"    {name.upper():5} {values.mean():.4f} ({values.std(ddof=1):.4f})")
    return "\n".join(lines)


def _database_lines(metrics: dict[str, Any]) -> list[str]:
    return [f"  {title:13} {metrics_line(of_one)}" for title, of_one in metrics.get("databases", {}).items()]


def _selected(metrics: dict[str, Any]) -> str:
    how = {"release": "best SRCC on the test part: optimistic", "validation": "best SRCC on the validation part"}
    return f"epoch {metrics['selected_epoch']}, {how[metrics['selection']]}"
