"""The cross-database matrix: a row for each run, a column for each database, a table for each metric."""

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
from utils.metrics import as_numbers, title_of
from utils.tables import DASH, LATEX_NEEDS, captioned_latex, escape_markdown, mean_std, to_markdown

NAME = "matrix"
SHOWN = ("srcc", "plcc")  # on the terminal
WAIT = 60  # seconds, for another process that writes the same matrix
OWN, OPTIMISTIC, TRAINED_ON = "*", "†", "‡"
MARKS = {
    OWN: "a database that the run was trained on: only images that it was not trained on",
    OPTIMISTIC: "the epoch was chosen on these test images: optimistic",
    TRAINED_ON: "with images that the run was trained on",
}
SPREAD = "Mean ± standard deviation over splits."


def write_matrix(output: Path) -> str:
    """Writes the matrix of every result under a folder, and returns SRCC and PLCC with all notes as text.

    As .md and .tex for people, as .csv with one row for each cell and mark. Nothing is written, and the text has the
    notes alone, where there are fewer than two results.

    Raises:
        UserError: Another process does not come to an end with it.
    """
    if not output.is_dir():
        return ""
    try:
        with FileLock(output / f".{NAME}.lock", timeout=WAIT):  # several evaluations may end at once
            results, notes = read_results(output)
            if len(results) < 2:
                return "\n".join(notes)
            metrics = [metric for metric in SUMMARY if any(metric in result for result in results)]
            tables = {metric: matrix(results, metric) for metric in metrics}
            notes = [note_of(results), *map(escape_markdown, notes)]
            pages = [to_markdown(table, names=1) for table in tables.values()]
            write_text(output / f"{NAME}.md", "\n\n".join([*pages, *notes]) + "\n")
            pages = [captioned_latex(tables[metric], f"{title_of(metric)}. {notes[0]}", 1) for metric in metrics]
            write_text(output / f"{NAME}.tex", "\n".join([LATEX_NEEDS, *pages]))
            of_cells = pd.concat([cells(results, metric) for metric in metrics])
            write_text(output / f"{NAME}.csv", of_cells.to_csv(index=False))
    except Timeout as error:
        raise UserError(f"{output / NAME} is being written by another process; wait for it and try again") from error
    return "\n\n".join([*(to_markdown(tables[metric], names=1) for metric in SHOWN if metric in tables), *notes])


def read_results(output: Path) -> tuple[list[dict[str, Any]], list[str]]:
    """The metrics of each database in each metrics.json under a folder, and notes on files that do not fit."""
    results, notes = [], []
    for path in sorted(output.rglob(METRICS)):
        try:
            content = read_evaluation(path)
            named = {**content, "run": printable(content["run"])}
            results += [{**named, "database": title, **scores} for title, scores in content["databases"].items()]
        except UserError as error:
            notes.append(printable(f"Left out of the matrix: {error}."))
    return results, notes


def note_of(results: list[dict[str, Any]]) -> str:
    """What a reader of the matrix has to know: the marks that are in it, trainings that are not finished."""
    used = {mark for result in results for mark in mark_of(result)}
    marks = [f"{mark} {text}." for mark, text in MARKS.items() if mark in used]
    unfinished = sorted({result["checkpoint"] for result in results if not result["finished"]})
    open_ended = [f"Training not finished when evaluated: {', '.join(unfinished)}."] if unfinished else []
    return printable(" ".join([SPREAD, *marks, *open_ended, *_mixed(results)]))


def _mixed(results: list[dict[str, Any]]) -> list[str]:
    """Columns that are no single database."""
    labels: dict[str, set[str]] = {}
    for result in results:
        labels.setdefault(result["database"], set()).add(result["target"]["labels"])
    titles = sorted(title for title, hashes in labels.items() if len(hashes) > 1)
    return [f"Scored on different labels under one title, not to be compared: {', '.join(titles)}."] if titles else []


def mark_of(result: dict[str, Any]) -> str:
    """The marks of one result."""
    trained_on = result["trained_on"] > 0
    holds = {OWN: result["own"] and not trained_on, OPTIMISTIC: result["optimistic"], TRAINED_ON: trained_on}
    return "".join(mark for mark, said in holds.items() if said)


def matrix(results: list[dict[str, Any]], metric: str) -> pd.DataFrame:
    """One metric, each cell a text; the first column bears its name.

    Where the splits of a run have different marks, its cell has a value for each.
    """
    rows: dict[str, dict[str, str]] = {}
    for cell in cells(results, metric).itertuples():
        value = mean_std(cell.mean, cell.std) + ("" if np.isnan(cell.mean) else cell.mark)
        row = rows.setdefault(cell.run, {f"{title_of(metric)}, trained on": cell.run})
        row[cell.database] = f"{row[cell.database]}; {value}" if cell.database in row else value
    databases = sorted({result["database"] for result in results})
    return pd.DataFrame(list(rows.values())).fillna(DASH)[[f"{title_of(metric)}, trained on", *databases]]


def cells(results: list[dict[str, Any]], metric: str) -> pd.DataFrame:
    """One metric, a row for each run, database and mark: mean, standard deviation (ddof 1) and number of splits."""
    values: dict[tuple[str, str, bool, str], list[float | None]] = {}
    for result in results:
        key = (result["run"], result["database"], result["own"], mark_of(result))
        values.setdefault(key, []).append(result.get(metric))
    rows = []
    for (run, database, own, mark), of_splits in values.items():
        numbers = as_numbers(of_splits)
        std = numbers.std(ddof=1) if len(numbers) > 1 else np.nan
        rows.append([metric, run, database, own, mark, numbers.mean(), std, len(numbers)])
    return pd.DataFrame(rows, columns=["metric", "run", "database", "own", "mark", "mean", "std", "splits"])
