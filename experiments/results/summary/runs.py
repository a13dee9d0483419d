"""Find the folders of runs and read the test metrics of their finished splits."""

import glob
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pandas.core.groupby import DataFrameGroupBy

from experiments.results.results import FinishedSplit, read_finished
from experiments.training.run_folder import CONFIG, SPLIT_FOLDER, split_folders
from utils.config import load_config
from utils.errors import MissingFileError, UserError, did_you_mean, printable, some_of
from utils.files import reading
from utils.metrics import as_numbers

MEAN = "mean"  # over the databases of a run
SHOWN = 8  # names in one message


def find_runs(places: Sequence[str]) -> dict[Path, bool]:
    """Return the folders of runs in the order given, each once, and whether a folder was named itself.

    Args:
        places: Folders of runs, folders that contain runs, and patterns.

    Raises:
        MissingFileError: A place contains no runs.
    """
    found: dict[Path, tuple[Path, bool]] = {}
    for place in places:
        with reading(place):
            runs, named = _runs_at(place)
            for run in runs:
                before = found.get(run.resolve(), (run, False))
                found[run.resolve()] = before[0], before[1] or named
    return dict(found.values())


def _runs_at(place: str) -> tuple[list[Path], bool]:
    if not place:
        raise UserError("RUN is empty; name the folder of a run or of runs, such as checkpoint/demo")
    path = Path(place)
    fitting = [path] if path.exists() else sorted(map(Path, glob.glob(place)))
    runs = [run for fit in fitting for run in ([fit] if is_run(fit) else _runs_in(fit))]
    if runs:
        return runs, runs == [path]
    if SPLIT_FOLDER.fullmatch(path.name) and is_run(path.parent):
        raise UserError(f"{place} is one split; name the folder of its run, {path.parent}")
    if path.exists():
        raise MissingFileError(
            f"{place} neither is nor contains a run, a folder with split_NN/{CONFIG} as main.py writes it; a quoted "
            f"pattern skips other folders, such as '{path.parent}/*'"
        )
    beside = [run.name for run in _runs_in(path.parent)]
    raise MissingFileError(
        f"run {place} does not exist{did_you_mean(path.name, beside)}; runs in {path.parent}: "
        f"{some_of(beside, SHOWN) or 'none'}"
    )


def is_run(path: Path) -> bool:
    """Return whether main.py has started a split in this folder."""
    return any(folder.configured for folder in split_folders(path).values())


def _runs_in(path: Path) -> list[Path]:
    return [folder for folder in sorted(path.iterdir()) if is_run(folder)] if path.is_dir() else []


def choose_runs(places: Sequence[str], baseline: str | None) -> tuple[dict[Path, tuple[str, bool]], str | None]:
    """Return the folders with the name of each run and whether it was named itself, and the name of the baseline.

    A baseline that is not among the runs comes first.
    """
    found, chosen = find_runs(places), None
    if baseline is not None:
        names = run_names(found)
        chosen = next((path for path, name in names.items() if name == printable(baseline)), Path(baseline))
        if not is_run(chosen):
            raise MissingFileError(
                f"--baseline: {baseline} is neither the folder of a run nor the name of one of these"
                f"{did_you_mean(baseline, names.values())}: {', '.join(names.values())}"
            )
        among = [path for path in found if path.resolve() == chosen.resolve()]
        chosen = next(iter(among), chosen)
        found = {**({} if among else {chosen: True}), **found, chosen: True}
    names = run_names(found)
    return {path: (names[path], named) for path, named in found.items()}, names.get(chosen)


def run_names(paths: Collection[Path]) -> dict[Path, str]:
    """Return the name of each run as it is shown: its folder's name, or the whole path if two have the same."""
    names = [path.resolve().name for path in paths]
    return {
        path: printable(str(path) if names.count(name) > 1 else name) for path, name in zip(paths, names, strict=True)
    }


def read_runs(
    places: dict[Path, tuple[str, bool]], baseline: str | None, selection: str
) -> tuple[pd.DataFrame, list[str]]:
    """Return a table of the splits of all runs, by database, and notes.

    A run without results is omitted unless it was named.

    Returns:
        A row for each run, database and finished split. Columns: `run`; `database`, its title, or MEAN for the mean
        over the databases of a run, which come last; `name` of the database in the config; number of the `split`;
        `images`, `labels` and `mos`, hashes of the images in each part, of the labels, and of the MOS labels and their
        scale; `hypothesis`, whether SOS labels are computed by the SOS hypothesis; `train` and `test`, numbers of
        images; `scores`, metrics by name.

    Raises:
        UserError: A named run has no results, or no run has.
    """
    rows, notes = [], []
    for path, (name, named) in places.items():
        try:
            run_rows, remarks = read_run(path, name, selection)
        except UserError as error:
            if named:
                raise
            notes.append(f"Omitted: {error}.")
            continue
        rows += run_rows
        notes += remarks
    if not rows:
        raise UserError(f"there is nothing to summarise. {' '.join(notes)}")
    if baseline is not None and len({row["run"] for row in rows}) == 1:
        found = f"{baseline} is the only run; name another to compare with it"
        raise UserError(f"--baseline: {' '.join([found, *notes])}")
    order = [*dict.fromkeys(row["database"] for row in rows if row["database"] != MEAN), MEAN]
    return pd.DataFrame(sorted(rows, key=lambda row: order.index(row["database"]))), notes


def read_run(path: Path, name: str, selection: str) -> tuple[list[dict[str, Any]], list[str]]:
    """Return the rows of a run, see `read_runs`, and notes.

    Raises:
        UserError: No split is finished, the splits have different settings, or a file does not fit its schema.
    """
    folders = split_folders(path)
    bare = [folder.path.name for folder in folders.values() if folder.finished and not folder.configured]
    if bare:  # it would be omitted
        raise UserError(
            f"{path}: {some_of(bare, SHOWN)} finished, but without {CONFIG}; restore it or delete the split"
        )
    started = {number: load_config(folder.path / CONFIG) for number, folder in folders.items() if folder.configured}
    expected = max(*(config.protocol.splits for config in started.values()), *started)
    splits = {split.number: split for split in read_finished(path, folders)}
    if not splits:
        raise UserError(
            f"{path}: none of its {expected} splits is finished; main.py --resume with its config continues it"
        )
    missing = [str(number) for number in range(1, expected + 1) if number not in splits]
    unfinished = f"{name}: {len(splits)} of {expected} splits are finished; unfinished: {', '.join(missing)}."
    rows = [row for split in splits.values() for row in _rows(name, split, selection)]
    return rows, [unfinished] if len(splits) < expected else []


def _rows(run: str, split: FinishedSplit, selection: str) -> list[dict[str, Any]]:
    """Return a row for each database of a split, and for their mean if there are several."""
    selections = split.metrics["selections"]
    if selection not in selections:
        raise UserError(
            f"{split.folder}: no selection {selection!r}; available: {', '.join(selections)}. `validation` needs "
            "a validation part, such as protocol.validation_fraction=0.1"
        )
    scores, names = selections[selection], {settings.title: settings.name for settings in split.config.dataset}
    members = {title: [title] for title in names} | ({MEAN: sorted(names)} if len(names) > 1 else {})
    rows = []
    for database, titles in members.items():
        entries = {title: split.origin[title] for title in titles}
        labels = {title: entry["labels"] for title, entry in entries.items()}
        rows.append(
            {
                "run": run,
                "database": database,
                "name": names.get(database, ""),
                "split": split.number,
                "images": " ".join(f"{title} {entry['hash']}" for title, entry in entries.items()),
                "labels": " ".join(f"{title} {made['hash']}" for title, made in labels.items()),
                "mos": " ".join(f"{title} {made['mos_hash']}" for title, made in labels.items()),
                "hypothesis": any(made["sos"] == "hypothesis" for made in labels.values()),
                "train": sum(len(entry["train"]) for entry in entries.values()),
                "test": sum(len(entry["test"]) for entry in entries.values()),
                "scores": scores["databases"].get(database, scores),
            }
        )
    return rows


def groups(splits: pd.DataFrame) -> DataFrameGroupBy:
    """Return the splits of each run on each database, in order."""
    return splits.groupby(["run", "database"], sort=False)


def metric_values(scores: Iterable[dict[str, Any]], metric: str) -> np.ndarray:
    """Return a metric of each split (S,), float64; NaN where it is undefined or missing."""
    return as_numbers([each.get(metric) for each in scores])
