"""The cross-database matrix: a table for each metric, with a row for each run and a column for each database."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from experiments.results.lines import SUMMARY
from experiments.results.statistics import describe
from experiments.schema import EvaluationMetrics
from experiments.training.run_folder import METRICS, file_lock, read_checked
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
    with file_lock(output / NAME, "wait for it and try again", WAIT):  # several evaluations may finish at once
        results, notes = read_results(output)
        if len(results) < 2:
            return "\n".join(notes)
        numbers = matrix_numbers(results)
        tables = {metric: matrix(group) for metric, group in numbers.groupby("metric", sort=False)}
        notes = [matrix_note(results), *map(escape_markdown, notes)]
        pages = {metric: to_markdown(table, names=1) for metric, table in tables.items()}
        write_text(output / f"{NAME}.md", "\n\n".join([*pages.values(), *notes]) + "\n")
        captions = {metric: f"{metric_title(metric)}. {notes[0]}" for metric in tables}
        floats = [captioned_latex(table, captions[metric], 1) for metric, table in tables.items()]
        write_text(output / f"{NAME}.tex", "\n".join([LATEX_NEEDS, *floats]))
        write_text(output / f"{NAME}.csv", numbers.to_csv(index=False))
    return "\n\n".join([*(pages[metric] for metric in SHOWN if metric in pages), *notes])


def read_results(output: Path) -> tuple[list[dict[str, Any]], list[str]]:
    """Return the metrics of each database in each metrics.json in a folder, and notes on files that are not valid."""
    results, notes = [], []
    for path in sorted(output.rglob(METRICS)):
        try:
            content = read_checked(path, EvaluationMetrics)
            named = {**content, "run": printable(content["run"])}
            results += [{**named, "database": title, **scores} for title, scores in content["databases"].items()]
        except UserError as error:
            notes.append(printable(f"Not in the matrix: {error}."))
    return results, notes


def matrix_note(results: list[dict[str, Any]]) -> str:
    """Return the note below the matrix: its marks, unfinished trainings, columns of different labels."""
    used = {mark for result in results for mark in result_marks(result)}
    marks = [f"{mark} {text}." for mark, text in MARKS.items() if mark in used]
    unfinished = sorted({result["checkpoint"] for result in results if not result["finished"]})
    unfinished_note = [f"Training not finished when evaluated: {', '.join(unfinished)}."] if unfinished else []
    labels = {(result["database"], result["target"]["labels"]) for result in results}
    mixed = sorted(title for title, count in Counter(title for title, _ in labels).items() if count > 1)
    mixed_note = [f"Different labels under one title, not comparable: {', '.join(mixed)}."] if mixed else []
    return printable(" ".join([SPREAD, *marks, *unfinished_note, *mixed_note]))


def result_marks(result: dict[str, Any]) -> str:
    """Return the marks of one result."""
    trained_on = result["trained_on"] > 0
    holds = {OWN: result["own"] and not trained_on, OPTIMISTIC: result["optimistic"], TRAINED_ON: trained_on}
    return "".join(mark for mark, applies in holds.items() if applies)


def matrix_numbers(results: list[dict[str, Any]]) -> pd.DataFrame:
    """Return mean, standard deviation and number of splits for each metric, run, database and mark."""
    splits: dict[tuple[str, str, bool, str], list[dict[str, Any]]] = {}
    for result in results:
        key = (result["run"], result["database"], result["own"], result_marks(result))
        splits.setdefault(key, []).append(result)
    rows = []
    for metric in [metric for metric in SUMMARY if any(metric in result for result in results)]:
        for key, members in splits.items():
            mean, std, _ = describe(as_numbers([member.get(metric) for member in members]))
            rows.append([metric, *key, mean, std, len(members)])
    return pd.DataFrame(rows, columns=["metric", "run", "database", "own", "mark", "mean", "std", "splits"])


def matrix(numbers: pd.DataFrame) -> pd.DataFrame:
    """Return the table of one metric, as text; the first column is named after it.

    If splits of a run have different marks, its cell has a value for each.
    """
    texts = [mean_std(row.mean, row.std) + ("" if np.isnan(row.mean) else row.mark) for row in numbers.itertuples()]
    cells = numbers.assign(text=texts).groupby(["run", "database"])["text"].agg("; ".join).unstack(fill_value=DASH)
    heading = f"{metric_title(numbers['metric'].iloc[0])}, trained on"
    return cells.loc[numbers["run"].unique()].rename_axis(index=heading, columns=None).reset_index()
