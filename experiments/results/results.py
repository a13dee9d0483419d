"""The finished splits of a run, read from disk.

N images, K bins.
"""

import io
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from datasets.scale import RatingScale
from experiments.results.schema import read_metrics, read_origin
from experiments.training.run_folder import (
    CONFIG,
    LOG,
    METRICS,
    PREDICTIONS,
    SPLIT_FOLDER,
    RunFolder,
    require_one_config,
)
from utils.config import load_config, validated
from utils.errors import MissingFileError, UserError, one_line
from utils.metrics import emd
from utils.schema import EpochRecord
from utils.settings import Config, DatasetSettings

NAMES = ("database", "image")  # text columns
REQUIRED = (*NAMES, "target_mos", "pred_mos", "target_sos", "pred_sos")

Array = np.ndarray


@dataclass(frozen=True)
class FinishedSplit:
    """One finished split: config, metrics.json, databases of split.json, epoch records and predictions.csv."""

    number: int
    folder: Path
    config: Config
    metrics: dict[str, Any]
    origin: dict[str, Any]
    log: list[dict[str, Any]]
    predictions: pd.DataFrame

    @property
    def finished_at(self) -> float:
        """Time at which the split finished, in seconds since 1970."""
        return (self.folder / METRICS).stat().st_mtime

    @cached_property
    def tests(self) -> "list[ScoredPart]":
        """Test part of each database."""
        return [ScoredPart.from_split(self, settings) for settings in self.config.dataset]


@dataclass(frozen=True)
class ScoredPart:
    """The test images of one database in a split.

    Args:
        title: Title of the database.
        root: Folder of its images.
        scale: Its rating scale.
        origin: Its entry in split.json: the parts, their hash, the label recipe.
        metrics: Metrics after the last epoch.
        selections: Metrics by selection.
        ceiling: Noise ceiling, {} if unknown.
        intervals: Both ends of the interval of each metric.
        units: `unit` that the bootstrap draws, and their `count`.
        pit: Share of images in each tenth of the PIT, or None if unknown.
        predictions: Rows of predictions.csv.
    """

    title: str
    root: Path
    scale: RatingScale
    origin: dict[str, Any]
    metrics: dict[str, Any]
    selections: dict[str, dict[str, Any]]
    ceiling: dict[str, Any]
    intervals: dict[str, Any]
    units: dict[str, Any]
    pit: list[float] | None
    predictions: pd.DataFrame

    @classmethod
    def from_split(cls, split: FinishedSplit, settings: DatasetSettings) -> "ScoredPart":
        """Return the test part of one database of the config."""
        metrics, title = split.metrics, settings.title
        return cls(
            title=title,
            root=Path(settings.root),
            scale=RatingScale.from_settings(settings.scale),
            origin=split.origin[title],
            metrics=metrics["databases"][title],
            selections={name: scores["databases"][title] for name, scores in metrics["selections"].items()},
            ceiling=metrics["noise_ceiling"][title] or {},
            intervals=metrics["intervals"][title],
            units=metrics["interval_units"][title],
            pit=metrics["pit_histogram"][title],
            predictions=split.predictions[split.predictions["database"] == title],
        )

    def values(self, column: str) -> Array:
        """Return a column of predictions.csv (N,), float64."""
        return self.predictions[column].to_numpy(dtype=np.float64)

    def dos(self, side: str) -> Array | None:
        """Return the distributions (N, K) of `target` or `pred`, lowest score first.

        None if predictions.csv does not contain them: the network's bins are not those of the labels.
        """
        columns = [f"{side}_p{k}" for k in range(1, self.scale.num_bins + 1)]
        present = set(columns) <= set(self.predictions.columns)
        return self.predictions[columns].to_numpy(dtype=np.float64) if present else None

    @cached_property
    def distances(self) -> Array:
        """Distance of each prediction from its label, (N,): their EMD, or without DOS the absolute MOS difference."""
        pred, target = self.dos("pred"), self.dos("target")
        if pred is None:
            return np.abs(self.values("pred_mos") - self.values("target_mos"))
        return emd(pred, target)


def split_folders(run: Path) -> dict[int, Path]:
    """Return the folders split_NN of a run, by number.

    Raises:
        MissingFileError: The folder does not exist.
        UserError: It is not the folder of a run.
    """
    if not run.is_dir():
        raise MissingFileError(f"{run} is not a folder; name the folder of a run, such as checkpoint/demo")
    if SPLIT_FOLDER.fullmatch(run.resolve().name) and (run / CONFIG).exists():
        raise UserError(f"{run} is one split; name the folder of its run, {run.resolve().parent}")
    folders = {int(match[1]): path for path in run.iterdir() if (match := SPLIT_FOLDER.fullmatch(path.name))}
    if not folders:
        raise UserError(f"{run} contains no split_NN; name the folder of a run, such as checkpoint/demo")
    return dict(sorted(folders.items()))


def finished_splits(run: Path) -> list[FinishedSplit]:
    """Return every split of a run that has a metrics.json, by number.

    Raises:
        MissingFileError: The folder does not exist.
        UserError: It is not the folder of a run, no split is finished, splits have different settings, or a file is
        damaged.
    """
    finished = [_read(number, path) for number, path in split_folders(run).items() if (path / METRICS).exists()]
    if not finished:
        raise UserError(f"{run}: no split is finished; main.py --resume continues them")
    require_one_config(run, {split.number: split.config for split in finished})
    return finished


def _read(number: int, folder: Path) -> FinishedSplit:
    config = load_config(folder / CONFIG)
    metrics, origin = read_metrics(RunFolder(folder), config), read_origin(RunFolder(folder), config)
    with _undamaged(folder / LOG) as text:
        log = [json.loads(line) for line in text.splitlines()]
        if not log:
            raise ValueError("no epoch in it")
        for line, record in enumerate(log, start=1):
            validated(EpochRecord, record, f"line {line}")
    with _undamaged(folder / PREDICTIONS) as text:
        predictions = _parse_predictions(text, [settings.title for settings in config.dataset])
    return FinishedSplit(number, folder, config, metrics, origin, log, predictions)


@contextmanager
def _undamaged(path: Path) -> Iterator[str]:
    """Yield the text of a file; turn an error into one that names the file."""
    try:
        yield path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise UserError(f"{path} is missing or damaged ({one_line(error)}); restore it or delete the split") from error


def _parse_predictions(text: str, titles: Sequence[str]) -> pd.DataFrame:
    """Return predictions.csv with a `database` column; names such as `NA` or `007` stay text."""
    table = pd.read_csv(io.StringIO(text), dtype=str, keep_default_na=False)
    if len(titles) == 1:
        table["database"] = titles[0]
    missing = [name for name in REQUIRED if name not in table]
    if missing:
        raise ValueError(f"no column {', '.join(missing)}")
    table = table.astype({name: np.float64 for name in table.columns if name not in NAMES})
    if len(table) == 0 or not np.isfinite(table.drop(columns=list(NAMES))).all(axis=None):
        raise ValueError("no rows, or values that are not finite")
    return table
