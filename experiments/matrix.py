"""The cross-database matrix: a row for each run, a column for each database, a table for each metric."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from utils.files import write_text
from utils.report import SUMMARY, as_numbers, title_of
from utils.tables import DASH, to_latex, to_markdown

NAME = "matrix"
SHOWN = ("srcc", "plcc")  # on the terminal
OWN = "*"
NOTE = "Mean ± standard deviation over splits. * a database that the run was trained on: only its own test images."


def write_matrix(results: list[dict[str, Any]], output: Path) -> str:
    """Writes the matrix as .md and .tex for people, as .csv with one row for each cell; returns SRCC and PLCC as text.

    Args:
        results: Of every checkpoint on every database: `run`, `database`, `own` and metrics.
        output: Folder.
    """
    metrics = [metric for metric in SUMMARY if any(metric in result for result in results)]
    tables = {metric: matrix(results, metric) for metric in metrics}
    write_text(output / f"{NAME}.md", "\n\n".join([*map(to_markdown, tables.values()), NOTE]) + "\n")
    write_text(output / f"{NAME}.tex", "\n".join([*map(to_latex, tables.values()), f"% {NOTE}\n"]))
    write_text(output / f"{NAME}.csv", pd.concat([cells(results, metric) for metric in metrics]).to_csv(index=False))
    return "\n\n".join([*(to_markdown(tables[metric]) for metric in SHOWN), NOTE])


def matrix(results: list[dict[str, Any]], metric: str) -> pd.DataFrame:
    """One metric, each cell a text; the first column bears its name."""
    rows: dict[str, dict[str, str]] = {}
    for cell in cells(results, metric).itertuples():
        spread = "" if np.isnan(cell.std) else f" ± {cell.std:.4f}"
        value = DASH if np.isnan(cell.mean) else f"{cell.mean:.4f}{spread}{OWN if cell.own else ''}"
        rows.setdefault(cell.run, {f"{title_of(metric)}, trained on": cell.run})[cell.database] = value
    return pd.DataFrame(list(rows.values())).fillna(DASH)


def cells(results: list[dict[str, Any]], metric: str) -> pd.DataFrame:
    """One metric, a row for each run and database: mean and standard deviation (ddof 1) over splits, their number."""
    values: dict[tuple[str, str, bool], list[float | None]] = {}
    for result in results:
        values.setdefault((result["run"], result["database"], result["own"]), []).append(result.get(metric))
    rows = []
    for (run, database, own), of_splits in values.items():
        numbers = as_numbers(of_splits)
        std = numbers.std(ddof=1) if len(numbers) > 1 else np.nan
        rows.append([metric, run, database, own, numbers.mean(), std, len(numbers)])
    return pd.DataFrame(rows, columns=["metric", "run", "database", "own", "mean", "std", "splits"])
