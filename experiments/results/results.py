"""The finished splits of a run, read from disk.

N images, K bins.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd

from datasets.scale import RatingScale
from experiments.schema import EpochRecord, SplitMetrics
from experiments.training.run_folder import CONFIG, FREE_KEYS, LOG, METRICS, PREDICTIONS, SPLIT, RunFolder, read_checked
from utils.config import changed_keys, load_config, validated
from utils.errors import UserError, one_line, some_of
from utils.files import RESTORE
from utils.metrics import emd
from utils.settings import Config, DatasetSettings

NAMES = ("database", "image")  # text columns
SHOWN = 8  # keys in one message
REQUIRED = (*NAMES, "target_mos", "pred_mos", "target_sos", "pred_sos")

Array = np.ndarray
Content = TypeVar("Content")


@dataclass(frozen=True)
class FinishedSplit:
    """One finished split: its config, metrics.json and databases of split.json; large files are read when needed."""

    number: int
    folder: Path
    config: Config
    metrics: dict[str, Any]
    origin: dict[str, Any]

    @classmethod
    def read(cls, number: int, folder: RunFolder) -> "FinishedSplit":
        """Return the split in a folder.

        Raises:
            UserError: A file does not fit its schema, or the databases of config.yaml.
        """
        config = load_config(folder.path / CONFIG)
        titles = [settings.title for settings in config.dataset]
        files = {METRICS: read_checked(folder.path / METRICS, SplitMetrics), SPLIT: folder.origin()}
        for name, content in files.items():
            if set(titles) != content["databases"].keys():
                raise UserError(
                    f"{folder.path / name}: databases: {', '.join(content['databases']) or 'none'}; expected, from "
                    f"config.yaml beside it: {', '.join(titles)}; restore the file, or train the split again"
                )
        return cls(number, folder.path, config, files[METRICS], files[SPLIT]["databases"])

    @cached_property
    def log(self) -> pd.DataFrame:
        """Records of the epochs, with columns such as `train.total` and `test.databases.TITLE.srcc`."""
        return undamaged(self.folder / LOG, _read_log)

    @cached_property
    def predictions(self) -> pd.DataFrame:
        """predictions.csv, always with a column `database`."""
        return undamaged(self.folder / PREDICTIONS, lambda path: read_predictions(path, list(self.origin)))

    @cached_property
    def tests(self) -> "list[ScoredPart]":
        """Test part of each database."""
        return [ScoredPart(self, settings) for settings in self.config.dataset]


class ScoredPart:
    """The test images of one database in a split.

    Attributes:
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

    def __init__(self, split: FinishedSplit, settings: DatasetSettings):
        metrics, self.title = split.metrics, settings.title
        self.root = Path(settings.root)
        self.scale = RatingScale.from_settings(settings.scale)
        self.origin = split.origin[self.title]
        self.metrics = metrics["databases"][self.title]
        self.selections = {name: scores["databases"][self.title] for name, scores in metrics["selections"].items()}
        self.ceiling = metrics["noise_ceiling"][self.title] or {}
        self.intervals = metrics["intervals"][self.title]
        self.units = metrics["interval_units"][self.title]
        self.pit = metrics["pit_histogram"][self.title]
        self.predictions = split.predictions[split.predictions["database"] == self.title]

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


def read_finished(run: Path, folders: dict[int, RunFolder]) -> list[FinishedSplit]:
    """Return the splits of a run that have a metrics.json, by number.

    Raises:
        UserError: Splits have different settings, or a file is damaged.
    """
    splits = [FinishedSplit.read(number, folder) for number, folder in folders.items() if folder.finished]
    for split in splits[1:]:
        changed = changed_keys(splits[0].config, split.config, ignored=FREE_KEYS)
        if changed:
            raise UserError(
                f"{run}: splits {splits[0].number} and {split.number} were trained with different settings and cannot "
                f"be averaged: {some_of(changed, SHOWN)}; train one of them again with main.py --split N --overwrite"
            )
    return splits


def undamaged(path: Path, read: Callable[[Path], Content]) -> Content:
    """Return what `read` returns for a file; turn an error into one that names the file."""
    try:
        return read(path)
    except (OSError, ValueError) as error:
        raise UserError(f"{path} is missing or damaged ({one_line(error)}); {RESTORE}") from error


def _read_log(path: Path) -> pd.DataFrame:
    log = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    if not log:
        raise ValueError("no epoch in it")
    for line, record in enumerate(log, start=1):
        validated(EpochRecord, record, f"line {line}")
    return pd.json_normalize(log)


def read_predictions(path: Path, titles: Sequence[str]) -> pd.DataFrame:
    """Return predictions.csv with a `database` column; names such as `NA` or `007` stay text."""
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    if len(titles) == 1:
        table["database"] = titles[0]
    missing = [name for name in REQUIRED if name not in table]
    if missing:
        raise ValueError(f"no column {', '.join(missing)}")
    table = table.astype({name: np.float64 for name in table.columns if name not in NAMES})
    if len(table) == 0 or not np.isfinite(table.drop(columns=list(NAMES))).all(axis=None):
        raise ValueError("no rows, or values that are not finite")
    return table
