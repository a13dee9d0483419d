"""The summary of runs: metrics, comparison with a baseline, and notes on what cannot be compared."""

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

from experiments.results.lines import HYPOTHESIS_NOTE, SELECTION_NOTES, SOS_METRICS, SUMMARY
from experiments.results.summary.runs import MEAN, Row, choose_runs, read_runs
from experiments.results.summary.tables import Pair, latex_page, make_sections, markdown_page, summary_table
from utils.errors import UserError, did_you_mean, printable
from utils.metrics import metric_title

PAGES: dict[str, Callable] = {"markdown": markdown_page, "latex": latex_page}


def summarise(
    places: Sequence[str], baseline: str | None, selection: str, names: str | None, form: str
) -> tuple[str, list[str]]:
    """Return the summary of runs as text, and the notes on it.

    Args:
        places: Folders of runs, folders that contain runs, and patterns.
        baseline: Folder or name of the run to compare the others with, or None.
        selection: One of SELECTION_NOTES.
        names: Comma-separated metrics, or None for the main ones.
        form: `markdown`, `latex` or `csv`; the text of the first two contains the notes.

    Raises:
        UserError: A named run has no results, no run can be compared, or a metric is unknown.
    """
    found, baseline = choose_runs(places, baseline)
    rows, notes = read_runs(found, baseline, selection)
    metrics = choose_metrics(names, rows)
    pairs, unpaired = pair_up(rows, baseline) if baseline is not None else ({}, [])
    numbers = summary_table(rows, metrics, selection, pairs)
    notes += [*undefined(rows, metrics), *hypothetical(rows, metrics), *unpaired]
    if baseline is not None:
        notes += incomparable(numbers, pairs, baseline)
    notes = [printable(note) for note in notes]
    if form == "csv":
        return numbers.to_csv(index=False), [f"Selection {selection}: {SELECTION_NOTES[selection]}.", *notes]
    return PAGES[form](make_sections(numbers, rows, baseline), notes), notes


def choose_metrics(names: str | None, rows: Sequence[Row]) -> list[str]:
    """Return the requested metrics, or the main ones that the runs have.

    Raises:
        UserError: No run has a requested metric.
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
    requested = list(dict.fromkeys(name.strip() for name in names.split(",")))
    if "" in requested:
        raise UserError(f"--metrics: {names!r} contains an empty name; separate names by commas, such as srcc,plcc")
    for name in requested:
        if name not in known:
            raise UserError(
                f"--metrics: {name!r} is not a metric of these runs{did_you_mean(name, known)}; allowed: "
                f"{', '.join(known)}"
            )
    return requested


def pair_up(rows: Sequence[Row], baseline: str) -> tuple[dict[tuple[str, str], Pair], list[str]]:
    """Return what can be compared with the baseline, by run and database, and notes on what cannot.

    Raises:
        UserError: No run can be compared.
    """
    baseline_rows = {row.database: row for row in rows if row.run == baseline}
    pairs, notes = {}, []
    for row in rows:
        if row.run == baseline:
            continue
        if row.database not in baseline_rows:
            if row.database != MEAN:
                notes.append(f"Not compared: {row.run} on {row.database}, on which {baseline} was not tested.")
            continue
        base, place = baseline_rows[row.database], f"{row.run} on {row.database}"
        both = [number for number in row.results if number in base.results]
        same = [number for number in both if row.origins[number].split == base.origins[number].split]
        other, single = [n for n in both if n not in same], sorted(row.results.keys() ^ base.results.keys())
        reasons = [f"{listed(other)} not the same as in {baseline} (hash in split.json)"] if other else []
        reasons += [f"{listed(single)} not finished in both"] if single else []
        if reasons:
            notes.append(f"Not compared: {place}, {'; '.join(reasons)}.")
        if same:
            pair, label_notes = make_pair(row, base, same)
            pairs |= {(row.run, row.database): pair} if pair else {}
            notes += label_notes
    if not pairs:
        raise UserError(
            f"--baseline: no run shares a split with {baseline} and has the same MOS labels. {' '.join(notes)}"
        )
    return pairs, notes


def make_pair(row: Row, base: Row, splits: list[int]) -> tuple[Pair | None, list[str]]:
    """Return a row paired with the baseline over these splits, None if MOS labels differ, and notes on the labels."""
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
            f"{place}: trained and tested with other labels than {base.run} (labels.hash in split.json), so metrics of "
            "SOS and DOS are not compared."
        )
    test_share = float(np.mean([one.test / one.train if one.train else np.nan for one, _ in origins]))
    return Pair(base, splits, same_labels, test_share), notes


def listed(numbers: Sequence[int]) -> str:
    """Return `split 1 is` or `splits 1, 2 are`."""
    names = ", ".join(map(str, numbers))
    return f"split {names} is" if len(numbers) == 1 else f"splits {names} are"


def undefined(rows: Sequence[Row], metrics: Sequence[str]) -> list[str]:
    """Return notes on metrics that are undefined in some split and so have no mean."""
    notes = []
    for row in rows:
        for metric in metrics:
            numbers = [number for number, result in row.results.items() if result.get(metric, 0) is None]
            if numbers:
                notes.append(f"{row.run} on {row.database}: {metric_title(metric)} of {listed(numbers)} not defined.")
    return notes


def incomparable(numbers: pd.DataFrame, pairs: dict[tuple[str, str], Pair], baseline: str) -> list[str]:
    """Return a note that explains why no metric can be compared with the baseline, if that is so."""
    if numbers["difference"].notna().any():
        return []
    paired = [line for line in numbers.itertuples() if (line.run, line.database) in pairs]
    other = {line.metric for line in paired if not pairs[line.run, line.database].covers(line.metric)}
    reasons = {
        "against other labels": other,
        "missing or not defined in a split of either run": {line.metric for line in paired} - other,
    }
    texts = [
        f"{', '.join(metric_title(metric) for metric in dict.fromkeys(numbers['metric']) if metric in found)} ({reason})"
        for reason, found in reasons.items()
        if found
    ]
    return [f"No differences from {baseline}: none of the metrics can be compared, {' and '.join(texts)}."]


def hypothetical(rows: Sequence[Row], metrics: Sequence[str]) -> list[str]:
    """Return a note on SOS metrics that carry no information beyond the MOS."""
    sos_titles = [metric_title(metric) for metric in metrics if metric in SOS_METRICS]
    places = [f"{row.run} on {row.database}" for row in rows if any(each.hypothesis for each in row.origins.values())]
    if not sos_titles or not places:
        return []
    return [f"{', '.join(sos_titles)} of {'; '.join(places)}: {HYPOTHESIS_NOTE}."]
