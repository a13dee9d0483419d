"""What the finished splits of a run left on disk, in one form for one database and for several.

N images, K bins.
"""

import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from datasets.scale import RatingScale
from experiments.results.schema import is_record, require_form
from experiments.training.run_folder import CONFIG, LOG, METRICS, PREDICTIONS, SPLIT, SPLIT_FOLDER, require_one_config
from utils.config import load_config
from utils.errors import MissingFileError, UserError, one_line
from utils.files import read_object
from utils.metrics import emd
from utils.settings import Config

NAMES = ("database", "image")  # columns of texts
REQUIRED = ("image", "target_mos", "pred_mos", "target_sos", "pred_sos")

Array = np.ndarray


@dataclass(frozen=True)
class FinishedSplit:
    """One split: its config, metrics.json, split.json, the records of its epochs and predictions.csv."""

    number: int
    folder: Path
    config: Config
    metrics: dict[str, Any]
    origin: dict[str, Any]
    log: list[dict[str, Any]]
    predictions: pd.DataFrame

    @property
    def finished_at(self) -> float:
        """Seconds since 1970."""
        return (self.folder / METRICS).stat().st_mtime

    @cached_property
    def tests(self) -> "list[ScoredPart]":
        """The test part of each database."""
        return [ScoredPart.of(self, number) for number in range(len(self.config.members))]


@dataclass(frozen=True)
class ScoredPart:
    """The test images of one database in a split.

    Args:
        title: Of the database.
        root: Folder of its images.
        scale: Its rating scale.
        origin: Of this database in split.json: the parts, their hash, the label recipe.
        metrics: After the last epoch.
        selections: Metrics by way of selection.
        ceiling: The noise ceiling, {} where it is not known.
        intervals: Of each metric, both ends, {} where they are not known.
        units: What these were drawn by: the `unit` and the `count` of them, {} where it is not known.
        pit: Share of images in each tenth, None where it is not known.
        predictions: The rows of predictions.csv.
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
    def of(cls, split: FinishedSplit, number: int) -> "ScoredPart":
        """Of database `number` of the config, from 0."""
        config, member, metrics = split.config, split.config.members[number], split.metrics
        title = member.title or member.name
        stated = (metrics, metrics.get("selections", {}), split.origin, split.predictions)
        details = [metrics.get(key) for key in ("noise_ceiling", "intervals", "interval_units", "pit_histogram")]
        if config.several:
            stated = _of_one(title, *stated)
            details = [(of_databases or {}).get(title) for of_databases in details]
        of_test, selections, origin, predictions = stated
        ceiling, intervals, units, pit = details
        scale = RatingScale(**(member.scale or config.scale).model_dump())
        described = (ceiling or {}, intervals or {}, units or {}, pit)
        return cls(title, Path(member.root), scale, origin, of_test, selections, *described, predictions)

    def values(self, column: str) -> Array:
        """A column of predictions.csv (N,), float64."""
        return self.predictions[column].to_numpy(dtype=np.float64)

    def dos(self, side: str) -> Array | None:
        """Distributions (N, K) of `target` or `pred`, lowest score first; None where they are not in predictions.csv.

        They are not where the network has other bins than the labels.
        """
        columns = [f"{side}_p{k}" for k in range(1, self.scale.num_bins + 1)]
        present = set(columns) <= set(self.predictions.columns)
        return self.predictions[columns].to_numpy(dtype=np.float64) if present else None

    @cached_property
    def distances(self) -> Array:
        """How far each prediction is from its label, (N,): their EMD, or where there are no DOS, that of the MOS."""
        pred, target = self.dos("pred"), self.dos("target")
        if pred is None:
            return np.abs(self.values("pred_mos") - self.values("target_mos"))
        return emd(pred, target)


def split_folders(run: Path) -> dict[int, Path]:
    """The folders split_NN of a run, by number.

    Raises:
        MissingFileError: No such folder.
        UserError: It is not that of a run.
    """
    if not run.is_dir():
        raise MissingFileError(f"{run} is not a folder; name the folder of a run, such as checkpoint/demo")
    if SPLIT_FOLDER.fullmatch(run.resolve().name) and (run / CONFIG).exists():
        raise UserError(f"{run} is one split; name the folder of its run, {run.resolve().parent}")
    folders = {int(match[1]): path for path in run.iterdir() if (match := SPLIT_FOLDER.fullmatch(path.name))}
    if not folders:
        raise UserError(f"{run} holds no split_NN; name the folder of a run, such as checkpoint/demo")
    return dict(sorted(folders.items()))


def finished_splits(run: Path) -> list[FinishedSplit]:
    """Every split of a run that has a metrics.json, by number.

    Raises:
        MissingFileError: No such folder.
        UserError: It is not that of a run, no split is finished, they have different settings, or a file is damaged.
    """
    finished = [_read(number, path) for number, path in split_folders(run).items() if (path / METRICS).exists()]
    if not finished:
        raise UserError(f"{run}: none of its splits is finished; main.py --resume goes on with them")
    require_one_config(run, {split.number: split.config for split in finished})
    return finished


def _read(number: int, folder: Path) -> FinishedSplit:
    config, metrics, origin = load_config(folder / CONFIG), read_object(folder / METRICS), read_object(folder / SPLIT)
    titles = [member.title or member.name for member in config.members]
    require_form(folder, metrics, origin, titles if config.several else ())
    with _undamaged(folder / LOG) as text:
        log = [json.loads(line) for line in text.splitlines()]
        if not log:
            raise ValueError("no epoch in it")
        wrong = [line for line, record in enumerate(log, start=1) if not is_record(record)]
        if wrong:
            raise ValueError(f"line {wrong[0]} is not the record of an epoch")
    with _undamaged(folder / PREDICTIONS) as text:
        predictions = _predictions_of(text, config.several)
    return FinishedSplit(number, folder, config, metrics, origin, log, predictions)


@contextmanager
def _undamaged(path: Path) -> Iterator[str]:
    """The text of a file; what is wrong with it as an error that names it."""
    try:
        yield path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise UserError(f"{path} is missing or damaged ({one_line(error)}); put it back or delete the split") from error


def _predictions_of(text: str, several: bool) -> pd.DataFrame:
    """The table as it was written: a picture called `NA` or `007` keeps its name."""
    table = pd.read_csv(io.StringIO(text), dtype=str, keep_default_na=False)
    missing = [name for name in (*REQUIRED, *(["database"] if several else [])) if name not in table]
    if missing:
        raise ValueError(f"no column {', '.join(missing)}")
    table = table.astype({name: np.float64 for name in table.columns if name not in NAMES})
    if len(table) == 0 or not np.isfinite(table.drop(columns=list(NAMES), errors="ignore")).all(axis=None):
        raise ValueError("no rows, or values that are not finite")
    return table


def _of_one(title: str, metrics: dict, selections: dict, origin: dict, predictions: pd.DataFrame) -> tuple:
    """What is said of one database of several."""
    return (
        metrics["databases"][title],
        {name: of_selection["databases"][title] for name, of_selection in selections.items()},
        origin["databases"][title],
        predictions[predictions["database"] == title],
    )
