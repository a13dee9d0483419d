"""A summary of runs: which metrics, what can be compared with the baseline, and in words what cannot."""

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

from experiments.results.lines import HYPOTHESIS_NOTE, OF_SOS, SELECTION_NOTES, SUMMARY
from experiments.results.summary.runs import MEAN, Row, choose_runs, read_runs
from experiments.results.summary.tables import Pair, latex_page, markdown_page, numbers_of, sections_of
from utils.errors import UserError, did_you_mean, printable
from utils.metrics import title_of

PAGES: dict[str, Callable] = {"markdown": markdown_page, "latex": latex_page}


def summarise(
    places: Sequence[str], baseline: str | None, selection: str, names: str | None, form: str
) -> tuple[str, list[str]]:
    """The summary of runs as text, and the notes on it.

    Args:
        places: Folders of runs, folders that hold such, and patterns.
        baseline: Folder or name of the run that the others are compared with; None: none.
        selection: Which epoch the metrics are of, one of SELECTION_NOTES.
        names: Metrics with commas between; None: the main ones.
        form: `markdown`, `latex` or `csv`; in the first two the text has the notes in it.

    Raises:
        UserError: A run that was named has nothing to show, nothing can be compared, or a metric is unknown.
    """
    found, baseline = choose_runs(places, baseline)
    rows, notes = read_runs(found, baseline, selection)
    metrics = choose_metrics(names, rows)
    pairs, unpaired = pair_up(rows, baseline) if baseline is not None else ({}, [])
    numbers = numbers_of(rows, metrics, selection, pairs)
    notes += [*undefined(rows, metrics), *hypothetical(rows, metrics), *unpaired]
    if baseline is not None:
        notes += incomparable(numbers, pairs, baseline)
    notes = [printable(note) for note in notes]
    if form == "csv":
        return numbers.to_csv(index=False), [f"Selection {selection}: {SELECTION_NOTES[selection]}.", *notes]
    return PAGES[form](sections_of(numbers, rows, baseline), notes), notes


def choose_metrics(names: str | None, rows: Sequence[Row]) -> list[str]:
    """The metrics that are asked for, or the main ones that there are.

    Raises:
        UserError: One that no run has.
    """
    results = [result for row in rows for result in row.results.values()]
    known = dict.fromkeys(
        name
        for result in results
        for name, value in result.items()
        if name != "epoch" and (value is None or isinstance(value, (int, float)))
    )
    if names is None:
        return [name for name in SUMMARY if name in known]
    wanted = list(dict.fromkeys(name.strip() for name in names.split(",")))
    if "" in wanted:
        raise UserError(
            f"--metrics: an empty name in {names!r}; write names with a comma between two, such as srcc,plcc"
        )
    for name in wanted:
        if name not in known:
            raise UserError(
                f"--metrics: {name!r} is not in the metrics of these runs{did_you_mean(name, known)}; allowed: "
                f"{', '.join(known)}"
            )
    return wanted


def pair_up(rows: Sequence[Row], baseline: str) -> tuple[dict[tuple[str, str], Pair], list[str]]:
    """What can be compared with the baseline, by run and database, and in words what cannot.

    Raises:
        UserError: Nothing can.
    """
    of_baseline = {row.database: row for row in rows if row.run == baseline}
    pairs, notes = {}, []
    for row in rows:
        if row.run == baseline:
            continue
        if row.database not in of_baseline:
            if row.database != MEAN:
                notes.append(f"Not compared: {row.run} on {row.database}, which {baseline} was not tested on.")
            continue
        base, place = of_baseline[row.database], f"{row.run} on {row.database}"
        both = [number for number in row.results if number in base.results]
        same = [number for number in both if row.origins[number].split == base.origins[number].split]
        other, single = [n for n in both if n not in same], sorted(row.results.keys() ^ base.results.keys())
        reasons = [f"{listed(other)} not the same as in {baseline} (hash in split.json)"] if other else []
        reasons += [f"{listed(single)} not finished in both"] if single else []
        if reasons:
            notes.append(f"Not compared: {place}, {'; '.join(reasons)}.")
        if same:
            pair, of_labels = pair_of(row, base, same)
            pairs |= {(row.run, row.database): pair} if pair else {}
            notes += of_labels
    if not pairs:
        raise UserError(
            f"--baseline: no run has a split in common with {baseline}, with the same MOS labels. {' '.join(notes)}"
        )
    return pairs, notes


def pair_of(row: Row, base: Row, splits: list[int]) -> tuple[Pair | None, list[str]]:
    """A row and that of the baseline over these splits, None where the MOS labels differ; and what labels change."""
    place = f"{row.run} on {row.database}"
    origins = [(row.origins[number], base.origins[number]) for number in splits]
    if not all(one.same_mos(other) for one, other in origins):
        return None, [
            f"Not compared: {place}, tested with other MOS labels or on another scale than {base.run} (mos_hash in "
            "split.json)."
        ]
    same_labels = all(one.labels == other.labels for one, other in origins)
    notes = []
    if not same_labels:
        notes.append(
            f"{place}: trained and tested with other labels than {base.run} (labels.hash in split.json), so that "
            "metrics of SOS and DOS are not compared."
        )
    test_share = float(np.mean([one.test / one.train if one.train else np.nan for one, _ in origins]))
    return Pair(base, splits, same_labels, test_share), notes


def listed(numbers: Sequence[int]) -> str:
    """`split 1 is`, `splits 1, 2 are`."""
    names = ", ".join(map(str, numbers))
    return f"split {names} is" if len(numbers) == 1 else f"splits {names} are"


def undefined(rows: Sequence[Row], metrics: Sequence[str]) -> list[str]:
    """Metrics that are null in some split, so that they have no mean."""
    notes = []
    for row in rows:
        for metric in metrics:
            numbers = [number for number, result in row.results.items() if result.get(metric, 0) is None]
            if numbers:
                notes.append(f"{row.run} on {row.database}: {title_of(metric)} of {listed(numbers)} not defined.")
    return notes


def incomparable(numbers: pd.DataFrame, pairs: dict[tuple[str, str], Pair], baseline: str) -> list[str]:
    """Why there is no table of differences, where no metric can be compared with the baseline."""
    if numbers["difference"].notna().any():
        return []
    of_pairs = [line for line in numbers.itertuples() if (line.run, line.database) in pairs]
    other = {line.metric for line in of_pairs if not pairs[line.run, line.database].covers(line.metric)}
    reasons = {
        "against other labels": other,
        "not there or not defined in a split of either run": {line.metric for line in of_pairs} - other,
    }
    said = [
        f"{', '.join(title_of(metric) for metric in dict.fromkeys(numbers['metric']) if metric in found)} ({reason})"
        for reason, found in reasons.items()
        if found
    ]
    return [f"No difference from {baseline} and no p: none of the metrics can be compared, {' and '.join(said)}."]


def hypothetical(rows: Sequence[Row], metrics: Sequence[str]) -> list[str]:
    """Where metrics of the SOS say nothing that those of the MOS do not."""
    of_sos = [title_of(metric) for metric in metrics if metric in OF_SOS]
    places = [f"{row.run} on {row.database}" for row in rows if any(of.hypothesis for of in row.origins.values())]
    if not of_sos or not places:
        return []
    return [f"{', '.join(of_sos)} of {'; '.join(places)}: {HYPOTHESIS_NOTE}."]
