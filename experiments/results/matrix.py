"""The cross-database matrix: a table for each metric, with a row for each run and a column for each database."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from filelock import FileLock, Timeout

from experiments.results.lines import SUMMARY
from experiments.results.schema import read_evaluation
from experiments.training.run_folder import METRICS
from utils.errors import UserError, printable
from utils.files import write_text
from utils.metrics import as_numbers, metric_title
from utils.tables import DASH, LATEX_NEEDS, captioned_latex, escape_markdown, mean_std, to_markdown

NAME = "matrix"
SHOWN = ("srcc", "plcc")  # on the terminal
WAIT = 60  # seconds, for another process that writes the same matrix
OWN, OPTIMISTIC, TRAINED_ON = "*", "†", "‡"
MARKS = {
    OWN: "a database that the run was trained on; only images that it was not trained on",
    OPTIMISTIC: "the epoch was selected on these test images: optimistic",
    TRAINED_ON: "includes images that the run was trained on",
}
SPREAD = "Mean ± standard deviation over splits."


def write_matrix(output: Path) -> str:
    """Write the matrix of all results in a folder; return SRCC, PLCC and all notes as text.

    The .md and .tex files are for readers; the .csv file has one row for each cell and mark. With fewer than two
    results, nothing is written and the text contains only the notes.

    Raises:
        UserError: Another process is writing the matrix.
    """
    if not output.is_dir():
        return ""
    try:
        with FileLock(output / f".{NAME}.lock", timeout=WAIT):  # several evaluations may finish at the same time
            results, notes = read_results(output)
            if len(results) < 2:
                return "\n".join(notes)
            metrics = [metric for metric in SUMMARY if any(metric in result for result in results)]
            tables = {metric: matrix(results, metric) for metric in metrics}
            notes = [matrix_note(results), *map(escape_markdown, notes)]
            pages = [to_markdown(table, names=1) for table in tables.values()]
            write_text(output / f"{NAME}.md", "\n\n".join([*pages, *notes]) + "\n")
            pages = [captioned_latex(tables[metric], f"{metric_title(metric)}. {notes[0]}", 1) for metric in metrics]
            write_text(output / f"{NAME}.tex", "\n".join([LATEX_NEEDS, *pages]))
            long_table = pd.concat([cells(results, metric) for metric in metrics])
            write_text(output / f"{NAME}.csv", long_table.to_csv(index=False))
    except Timeout as error:
        raise UserError(f"{output / NAME} is being written by another process; wait for it and try again") from error
    return "\n\n".join([*(to_markdown(tables[metric], names=1) for metric in SHOWN if metric in tables), *notes])


def read_results(output: Path) -> tuple[list[dict[str, Any]], list[str]]:
    """Return the metrics of each database in each metrics.json in a folder, and notes on files that are not valid."""
    results, notes = [], []
    for path in sorted(output.rglob(METRICS)):
        try:
            content = read_evaluation(path)
            named = {**content, "run": printable(content["run"])}
            results += [{**named, "database": title, **scores} for title, scores in content["databases"].items()]
        except UserError as error:
            notes.append(printable(f"Not in the matrix: {error}."))
    return results, notes


def matrix_note(results: list[dict[str, Any]]) -> str:
    """Return the note below the matrix: the marks that it contains, and unfinished trainings."""
    used = {mark for result in results for mark in result_marks(result)}
    marks = [f"{mark} {text}." for mark, text in MARKS.items() if mark in used]
    unfinished = sorted({result["checkpoint"] for result in results if not result["finished"]})
    unfinished_note = [f"Training not finished when evaluated: {', '.join(unfinished)}."] if unfinished else []
    return printable(" ".join([SPREAD, *marks, *unfinished_note, *_mixed(results)]))


def _mixed(results: list[dict[str, Any]]) -> list[str]:
    """Return a note on columns whose results are on different labels."""
    labels: dict[str, set[str]] = {}
    for result in results:
        labels.setdefault(result["database"], set()).add(result["target"]["labels"])
    titles = sorted(title for title, hashes in labels.items() if len(hashes) > 1)
    return [f"Different labels under one title, not comparable: {', '.join(titles)}."] if titles else []


def result_marks(result: dict[str, Any]) -> str:
    """Return the marks of one result."""
    trained_on = result["trained_on"] > 0
    holds = {OWN: result["own"] and not trained_on, OPTIMISTIC: result["optimistic"], TRAINED_ON: trained_on}
    return "".join(mark for mark, applies in holds.items() if applies)


def matrix(results: list[dict[str, Any]], metric: str) -> pd.DataFrame:
    """Return the table of one metric, as text; the first column is named after it.

    If splits of a run have different marks, its cell has a value for each.
    """
    rows: dict[str, dict[str, str]] = {}
    for cell in cells(results, metric).itertuples():
        value = mean_std(cell.mean, cell.std) + ("" if np.isnan(cell.mean) else cell.mark)
        row = rows.setdefault(cell.run, {f"{metric_title(metric)}, trained on": cell.run})
        row[cell.database] = f"{row[cell.database]}; {value}" if cell.database in row else value
    databases = sorted({result["database"] for result in results})
    return pd.DataFrame(list(rows.values())).fillna(DASH)[[f"{metric_title(metric)}, trained on", *databases]]


def cells(results: list[dict[str, Any]], metric: str) -> pd.DataFrame:
    """Return mean, standard deviation (ddof 1) and number of splits of a metric for each run, database and mark."""
    values: dict[tuple[str, str, bool, str], list[float | None]] = {}
    for result in results:
        key = (result["run"], result["database"], result["own"], result_marks(result))
        values.setdefault(key, []).append(result.get(metric))
    rows = []
    for (run, database, own, mark), values_by_split in values.items():
        numbers = as_numbers(values_by_split)
        std = numbers.std(ddof=1) if len(numbers) > 1 else np.nan
        rows.append([metric, run, database, own, mark, numbers.mean(), std, len(numbers)])
    return pd.DataFrame(rows, columns=["metric", "run", "database", "own", "mark", "mean", "std", "splits"])
