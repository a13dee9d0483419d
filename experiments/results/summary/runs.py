"""Find the folders of runs and read the test metrics of their finished splits."""

import glob
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from experiments.results.schema import read_metrics, read_origin
from experiments.training.run_folder import CONFIG, METRICS, SPLIT_FOLDER, RunFolder, require_one_config
from utils.config import load_config
from utils.errors import MissingFileError, UserError, did_you_mean, printable, some_of
from utils.files import reading
from utils.metrics import as_numbers
from utils.settings import Config

MEAN = "mean"  # over the databases of a run
SHOWN = 8  # names in one message


@dataclass(frozen=True)
class Origin:
    """The images and labels of a split.

    Args:
        split: Hash of the images in each part.
        labels: Hash of MOS, SOS and DOS.
        mos: Hash of the MOS labels and their scale.
        hypothesis: Whether the SOS labels are computed from the MOS labels by the SOS hypothesis.
        train: Number of training images.
        test: Number of test images.
    """

    split: str
    labels: str
    mos: str
    hypothesis: bool
    train: int
    test: int

    @classmethod
    def from_split_file(cls, entry: dict[str, Any]) -> "Origin":
        """Return the origin from a database's entry in split.json."""
        labels = entry["labels"]
        sizes = len(entry["train"]), len(entry["test"])
        return cls(entry["hash"], labels["hash"], labels["mos_hash"], labels["sos"] == "hypothesis", *sizes)

    @classmethod
    def joined(cls, databases: "dict[str, Origin]") -> "Origin":
        """Return the origin of several databases together, from the origin of each by title."""
        members, origins = sorted(databases.items()), databases.values()
        hashes = (
            " ".join(f"{title} {getattr(origin, key)}" for title, origin in members)
            for key in ("split", "labels", "mos")
        )
        sizes = sum(origin.train for origin in origins), sum(origin.test for origin in origins)
        return cls(*hashes, any(origin.hypothesis for origin in origins), *sizes)

    def same_mos(self, other: "Origin") -> bool:
        """Return whether both have the same MOS on the same scale."""
        return self.labels == other.labels or self.mos == other.mos


@dataclass(frozen=True)
class Row:
    """Test metrics of a run on one database.

    Args:
        run: Name of the run.
        database: Title of the database, or MEAN for the mean over all of them.
        name: Name of the database in the config, empty for the mean.
        results: Metrics of each finished split, by its number.
        origins: Origin of each finished split; for the mean, of all databases together.
    """

    run: str
    database: str
    name: str
    results: dict[int, dict[str, Any]]
    origins: dict[int, Origin]

    def values(self, metric: str, numbers: Sequence[int] | None = None) -> np.ndarray:
        """Return a metric of these splits, or of all, (S,) float64; NaN where it is undefined or missing."""
        numbers = list(self.results) if numbers is None else numbers
        return as_numbers([self.results[number].get(metric) for number in numbers])


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
    if is_run(path):
        return [path], True
    fitting = [path] if path.exists() else sorted(map(Path, glob.glob(place)))
    runs = [run for fit in fitting for run in ([fit] if is_run(fit) else _runs_in(fit))]
    if runs:
        return runs, False
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
    return bool(_split_folders(path))


def _runs_in(path: Path) -> list[Path]:
    return [folder for folder in sorted(path.iterdir()) if is_run(folder)] if path.is_dir() else []


def _split_folders(path: Path) -> dict[int, RunFolder]:
    """Return the splits that were started, by number."""
    started = path.glob(f"split_*/{CONFIG}")
    matches = ((SPLIT_FOLDER.fullmatch(file.parent.name), file.parent) for file in started)
    return dict(sorted((int(match[1]), RunFolder(folder)) for match, folder in matches if match))


def run_names(paths: Sequence[Path]) -> dict[Path, str]:
    """Return the name of each run as it is shown: its folder's name, or the whole path if two have the same."""
    names = [path.resolve().name for path in paths]
    return {
        path: printable(str(path) if names.count(name) > 1 else name) for path, name in zip(paths, names, strict=True)
    }


def read_run(path: Path, name: str, selection: str) -> tuple[list[Row], list[str]]:
    """Return the rows of a run, one for each database and their mean, and notes.

    Raises:
        UserError: No split is finished, the splits have different settings, or a file does not fit its schema.
    """
    folders = _split_folders(path)
    _require_configs(path)
    configs = {number: load_config(folder.path / CONFIG) for number, folder in folders.items()}
    expected = max(*(config.protocol.splits for config in configs.values()), *configs)
    finished = {number: folder for number, folder in folders.items() if folder.finished}
    if not finished:
        raise UserError(
            f"{path}: none of its {expected} splits is finished; main.py --resume with its config continues it"
        )
    notes = []
    if len(finished) < expected:
        missing = [str(number) for number in range(1, expected + 1) if number not in finished]
        notes = [f"{name}: {len(finished)} of {expected} splits are finished; unfinished: {', '.join(missing)}."]
    config = require_one_config(path, {number: configs[number] for number in finished})
    results = {number: _results(folder, config, selection) for number, folder in finished.items()}
    origins = {
        number: {title: Origin.from_split_file(entry) for title, entry in read_origin(folder, config).items()}
        for number, folder in finished.items()
    }
    return _rows(name, config, results, origins), notes


def _require_configs(path: Path) -> None:
    """Check that no finished split lacks its config, since it would be omitted."""
    finished = (file.parent for file in sorted(path.glob(f"split_*/{METRICS}")))
    bare = [
        folder.name for folder in finished if SPLIT_FOLDER.fullmatch(folder.name) and not (folder / CONFIG).exists()
    ]
    if bare:
        raise UserError(
            f"{path}: {some_of(bare, SHOWN)} finished, but without {CONFIG}; restore it or delete the split"
        )


def _results(folder: RunFolder, config: Config, selection: str) -> dict[str, Any]:
    """Return the test metrics of a finished split that a selection reports."""
    selections = read_metrics(folder, config)["selections"]
    if selection not in selections:
        raise UserError(
            f"{folder.path}: no selection {selection!r}; available: {', '.join(selections)}. `validation` needs "
            "a validation part, such as protocol.validation_fraction=0.1"
        )
    return selections[selection]


def _rows(
    run: str, config: Config, results: dict[int, dict[str, Any]], origins: dict[int, dict[str, Origin]]
) -> list[Row]:
    rows = [
        Row(
            run,
            settings.title,
            settings.name,
            {number: result["databases"][settings.title] for number, result in results.items()},
            {number: titled[settings.title] for number, titled in origins.items()},
        )
        for settings in config.dataset
    ]
    if len(rows) > 1:
        joined = {number: Origin.joined(titled) for number, titled in origins.items()}
        rows.append(Row(run, MEAN, "", results, joined))
    return rows


def choose_runs(places: Sequence[str], baseline: str | None) -> tuple[dict[Path, tuple[str, bool]], str | None]:
    """Return the folders with the name of each run and whether it was named itself, and the name of the baseline.

    A baseline that is not among the runs comes first.
    """
    found = find_runs(places)
    names = run_names(list(found))
    if baseline is None:
        return {path: (names[path], named) for path, named in found.items()}, None
    chosen = next((path for path, name in names.items() if name == printable(baseline)), Path(baseline))
    if not is_run(chosen):
        raise MissingFileError(
            f"--baseline: {baseline} is neither the folder of a run nor the name of one of these"
            f"{did_you_mean(baseline, names.values())}: {', '.join(names.values())}"
        )
    among = next((path for path in found if path.resolve() == chosen.resolve()), None)
    found = {**({} if among else {chosen: True}), **found, among or chosen: True}
    names = run_names(list(found))
    return {path: (names[path], named) for path, named in found.items()}, names[among or chosen]


def read_runs(
    places: dict[Path, tuple[str, bool]], baseline: str | None, selection: str
) -> tuple[list[Row], list[str]]:
    """Return the rows of all runs, by database, and notes; a run without results is omitted unless it was named.

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
    if baseline is not None and len({row.run for row in rows}) == 1:
        found = f"{baseline} is the only run; name another to compare with it"
        raise UserError(f"--baseline: {' '.join([found, *notes])}")
    return by_database(rows), notes


def by_database(rows: Sequence[Row]) -> list[Row]:
    """Return the rows grouped by database, in order of appearance; means come last."""
    order = [*dict.fromkeys(row.database for row in rows if row.database != MEAN), MEAN]
    return sorted(rows, key=lambda row: order.index(row.database))
