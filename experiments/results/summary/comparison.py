"""The summary of runs: metrics, comparison with a baseline, and notes on what cannot be compared."""

from collections.abc import Callable, Sequence

import pandas as pd

from experiments.results.lines import HYPOTHESIS_NOTE, SELECTION_NOTES, SOS_METRICS, SUMMARY
from experiments.results.summary.runs import MEAN, choose_runs, groups, read_runs
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
    splits, notes = read_runs(found, baseline, selection)
    metrics = choose_metrics(names, splits)
    pairs, unpaired = pair_up(splits, baseline) if baseline is not None else ({}, [])
    numbers = summary_table(splits, metrics, selection, pairs)
    notes += [*undefined(splits, metrics), *hypothetical(splits, metrics), *unpaired]
    if baseline is not None:
        notes += incomparable(numbers, pairs, baseline)
    notes = [printable(note) for note in notes]
    if form == "csv":
        return numbers.to_csv(index=False), [f"Selection {selection}: {SELECTION_NOTES[selection]}.", *notes]
    return PAGES[form](make_sections(numbers, splits, baseline), notes), notes


def choose_metrics(names: str | None, splits: pd.DataFrame) -> list[str]:
    """Return the requested metrics, or the main ones that the runs have.

    Raises:
        UserError: No run has a requested metric.
    """
    known = dict.fromkeys(
        name
        for scores in splits["scores"]
        for name, value in scores.items()
        if name != "epoch" and not isinstance(value, dict)
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


def pair_up(splits: pd.DataFrame, baseline: str) -> tuple[dict[tuple[str, str], Pair], list[str]]:
    """Return what can be compared with the baseline, by run and database, and notes on what cannot.

    Raises:
        UserError: No run can be compared.
    """
    base_rows = dict(iter(splits[splits["run"] == baseline].groupby("database")))
    pairs, notes = {}, []
    for (run, database), rows in groups(splits[splits["run"] != baseline]):
        place = f"{run} on {database}"
        if database not in base_rows:
            if database != MEAN:
                notes.append(f"Not compared: {place}, on which {baseline} was not tested.")
            continue
        both = rows.merge(base_rows[database], on="split", suffixes=("", "_base"))
        same_images = both["images"] == both["images_base"]
        other, single = both["split"][~same_images], {*rows["split"]} ^ {*base_rows[database]["split"]}
        reasons = [f"{listed(other)} not the same as in {baseline} (hash in split.json)"] if len(other) else []
        reasons += [f"{listed(sorted(single))} not finished in both"] if single else []
        notes += [f"Not compared: {place}, {'; '.join(reasons)}."] if reasons else []
        both = both[same_images]
        same_labels = both["labels"] == both["labels_base"]
        if not (same_labels | (both["mos"] == both["mos_base"])).all():
            notes.append(
                f"Not compared: {place}, tested with other MOS labels or on another scale than {baseline} (mos_hash in "
                "split.json)."
            )
        elif len(both):
            pairs[run, database] = Pair(both, same_labels.all())
            if not same_labels.all():
                notes.append(
                    f"{place}: trained and tested with other labels than {baseline} (labels.hash in split.json), so "
                    "metrics of SOS and DOS are not compared."
                )
    if not pairs:
        raise UserError(
            f"--baseline: no run shares a split with {baseline} and has the same MOS labels. {' '.join(notes)}"
        )
    return pairs, notes


def listed(numbers: Sequence[int]) -> str:
    """Return `split 1 is` or `splits 1, 2 are`."""
    names = ", ".join(map(str, numbers))
    return f"split {names} is" if len(numbers) == 1 else f"splits {names} are"


def undefined(splits: pd.DataFrame, metrics: Sequence[str]) -> list[str]:
    """Return notes on metrics that are undefined in some split and so have no mean."""
    notes = []
    for (run, database), rows in groups(splits):
        for metric in metrics:
            numbers = rows["split"][[scores.get(metric, 0) is None for scores in rows["scores"]]]
            if len(numbers):
                notes.append(f"{run} on {database}: {metric_title(metric)} of {listed(numbers)} not defined.")
    return notes


def incomparable(numbers: pd.DataFrame, pairs: dict[tuple[str, str], Pair], baseline: str) -> list[str]:
    """Return a note that explains why no metric can be compared with the baseline, if that is so."""
    if numbers["difference"].notna().any():
        return []
    metrics = numbers["metric"].unique()
    other = [metric for metric in metrics if not all(pair.covers(metric) for pair in pairs.values())]
    reasons = {
        "against other labels": other,
        "missing or not defined in a split of either run": [metric for metric in metrics if metric not in other],
    }
    texts = [f"{', '.join(map(metric_title, found))} ({reason})" for reason, found in reasons.items() if found]
    return [f"No differences from {baseline}: none of the metrics can be compared, {' and '.join(texts)}."]


def hypothetical(splits: pd.DataFrame, metrics: Sequence[str]) -> list[str]:
    """Return a note on SOS metrics that carry no information beyond the MOS."""
    sos_titles = [metric_title(metric) for metric in metrics if metric in SOS_METRICS]
    places = [f"{run} on {database}" for (run, database), _ in groups(splits[splits["hypothesis"]])]
    return [f"{', '.join(sos_titles)} of {'; '.join(places)}: {HYPOTHESIS_NOTE}."] if sos_titles and places else []
