"""The folder of one split of a run: its files, when it may be changed, and how it is written."""

import json
import re
import shlex
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from filelock import FileLock, Timeout
from pydantic import BaseModel

from datasets.readers import with_defaults
from experiments.schema import SplitContent, SplitMetrics, TrainingCheckpoint
from experiments.training.calibration import calibrated
from experiments.training.state import TrainingState
from experiments.training.tensorboard import write_events
from models import with_pixel_statistics
from utils.checkpoint import read_checkpoint, save_checkpoint
from utils.config import changed_keys, dump_config, load_config
from utils.distributed import main_process_only
from utils.errors import UserError
from utils.files import (
    DOOMED,
    delete_file,
    delete_folder,
    link_or_copy,
    make_folder,
    not_written,
    read_object,
    to_json,
    write_json_lines,
    write_text,
)
from utils.schema import VERSION, checked
from utils.settings import Config

LAST, BEST, CONFIG, SPLIT = "last.pt", "best.pt", "config.yaml", "split.json"
LOG, METRICS, PREDICTIONS = "log.jsonl", "metrics.json", "predictions.csv"
OLDER = re.compile(r"(last|best)_epoch_(\d+)\.pt")  # with train.keep
SPLIT_FOLDER = re.compile(r"split_(\d+)")
EPOCHS, CONSTANT = "train.epochs", "constant"
# keys that may differ when a run is resumed: they change where and how fast it runs, or what ends it, not its results
FREE_KEYS = (
    *("run.root", "dataset.root", "dataset.split_file", "dataset.cache", "dataset.cache_folder"),
    *("protocol.splits", "protocol.parallel_splits"),
    *(
        "train.device",
        "train.threads",
        "train.workers",
        "train.save_steps",
        "train.on_nonfinite",
        "train.skip_limit",
        "train.deterministic",
        "train.keep",
        "train.checkpointing",
        "logging.tensorboard",
    ),
)


@contextmanager
def file_lock(path: Path, advice: str, timeout: float = 0) -> Iterator[None]:
    """Lock a file or folder that is being written against other processes; a lock file stays beside it.

    Args:
        path: The file or folder, which may not exist yet.
        advice: Next step, for the message.
        timeout: Seconds to wait for another process.

    Raises:
        UserError: Another process has locked it, or the lock file cannot be written.
    """
    make_folder(path.parent)
    lock = FileLock(path.with_name(f".{path.name}.lock"), timeout=timeout)
    try:
        lock.acquire()
    except Timeout as error:
        raise UserError(f"{path} is being written by another process; {advice}") from error
    except OSError as error:
        raise not_written(path, error) from error
    try:
        yield
    finally:
        lock.release()


@dataclass(frozen=True)
class RunFolder:
    """`<root>/<name>/split_NN`. With several processes, process 0 writes it while the others wait."""

    path: Path

    @classmethod
    def for_split(cls, config: Config, number: int) -> "RunFolder":
        """Return the folder of a split, counted from 1."""
        return cls(Path(config.run.root) / config.run.name / f"split_{number:02d}")

    @property
    def started(self) -> bool:
        """Whether the folder contains results that could be lost."""
        return any((self.path / name).exists() for name in (LAST, BEST, METRICS))

    @property
    def configured(self) -> bool:
        return (self.path / CONFIG).exists()

    @property
    def resumable(self) -> bool:
        return (self.path / LAST).exists()

    @property
    def finished(self) -> bool:
        return (self.path / METRICS).exists()

    @property
    def best(self) -> Path:
        return self.path / BEST

    def lock(self) -> AbstractContextManager[None]:
        """Lock the folder against other processes until the block ends or this process dies; see `file_lock`."""
        return file_lock(self.path, "wait for it, or use another run.name")

    def check_overwrite(self, config: Config, resume: bool) -> None:
        """Check that an existing run may be continued.

        Raises:
            UserError: `resume` is False, or the run was started with other settings.
        """
        if not self.started:
            return
        if not resume:
            raise UserError(
                f"{self.path} already contains a run; --resume continues it, --overwrite restarts it, run.name=NAME "
                "starts another"
            )
        before = self._config()
        longer = before.train.epochs < config.train.epochs
        steady = config.schedule.name == CONSTANT and config.schedule.warmup == 0
        may_differ = (*FREE_KEYS, EPOCHS) if longer and steady else FREE_KEYS
        changed = changed_keys(before, config, ignored=may_differ)
        if changed:
            advice = (
                f"; with schedule.name={config.schedule.name}, the learning rate depends on the number of epochs; to "
                f"train on from these weights, use model.pretrained={self.path / LAST} run.name=NAME"
            )
            raise UserError(
                f"--resume: {self.path} was started with other settings: {'; '.join(changed)}"
                f"{advice if longer and len(changed) == 1 and changed[0].startswith(EPOCHS) else ''}"
            )

    def reopen(self, config: Config) -> None:
        """Let a split continue that was trained for fewer epochs than the config has, even if it is finished."""
        if self.resumable and self._config().train.epochs < config.train.epochs:
            with self.lock():
                for name in (METRICS, PREDICTIONS):
                    delete_file(self.path / name)
                write_text(self.path / CONFIG, dump_config(config))

    def _config(self) -> Config:
        return with_pixel_statistics(with_defaults(load_config(self.path / CONFIG)))

    def require_same_data(self, split: dict[str, Any]) -> None:
        """Check that the images and labels are those that the run was started with."""
        if self.origin()["databases"] != json.loads(to_json(split))["databases"]:
            raise UserError(
                f"--resume: the images or labels have changed since {self.path / SPLIT} was written; restore the "
                "database, or start another run with run.name=NAME"
            )

    @main_process_only
    def begin(self, config: Config, split: dict[str, Any]) -> None:
        """Empty the folder and write split.json and config.yaml."""
        delete_folder(self.path)
        write_checked(self.path / SPLIT, SplitContent, split, indent=1)
        write_text(self.path / CONFIG, dump_config(config))

    @main_process_only
    def delete_other_splits(self) -> None:
        """Delete the other splits of the run, and what an interrupted deletion left of them.

        Raises:
            UserError: Another process has locked one of them; then none is deleted.
        """
        names = {path.name.removeprefix(".").removesuffix(DOOMED) for path in self.path.parent.iterdir()}
        others = filter(SPLIT_FOLDER.fullmatch, sorted(names - {self.path.name}))
        folders = [RunFolder(self.path.with_name(name)) for name in others]
        with ExitStack() as stack:
            for folder in folders:
                stack.enter_context(folder.lock())
            for folder in folders:
                delete_folder(folder.path)

    def restore(self, state: TrainingState) -> None:
        """Restore the state as last saved, and write the log that agrees with it.

        Raises:
            UserError: There is no saved state, or it is damaged; the message says how to go back to an older one.
        """
        try:
            saved = read_checkpoint(self.path / LAST)
            checked(TrainingCheckpoint, saved, self.path / LAST)
        except UserError as error:
            raise UserError(f"{error}; {self._way_back()}") from error
        if "optimizer" not in saved:
            raise UserError(f"{self.path / LAST} contains only weights and cannot be resumed; --overwrite restarts it")
        state.restore(saved)
        main_process_only(self._write_log)(state)

    @main_process_only
    def save(self, config: Config, state: TrainingState) -> None:
        """Save the state for `restore`, at any step of an epoch; with `train.keep`, keep older ones.

        Raises:
            UserError: A weight is not finite; the state saved before is kept.
        """
        if not all(parameter.isfinite().all() for parameter in state.model.parameters()):
            raise UserError(
                f"the weights are no longer finite after epoch {state.epoch}, step {state.step}; start again with a "
                "smaller optim.lr or with optim.clip_norm=1"
            )
        temperature = state.history[-1].get("temperature") if state.history and state.step == 0 else None
        if config.train.keep and state.step == 0:
            self._keep_older(state.epoch, config.train.keep)
        self._save_checkpoint(LAST, calibrated(config, temperature), state.capture())

    @main_process_only
    def save_epoch(self, config: Config, state: TrainingState) -> None:
        """Save what an epoch has added: best.pt if it is the best, and the log.

        Call `save` next: last.pt is written last, so an interrupted save is repeated on resume.
        """
        if state.best is state.history[-1]:
            weights = {"model": state.scored_model.state_dict(), "epoch": state.epoch, "metrics": state.best}
            self._save_checkpoint(BEST, calibrated(config, state.best.get("temperature")), weights)
        self._write_log(state)
        if config.logging.tensorboard:
            write_events(self.path, state.history)

    def finish(self, predictions: pd.DataFrame, metrics: dict[str, Any]) -> None:
        """Write predictions.csv, then metrics.json, whose presence marks the split as finished."""
        write_text(self.path / PREDICTIONS, predictions.to_csv(index=False))
        write_checked(self.path / METRICS, SplitMetrics, metrics, indent=1)

    def origin(self) -> dict[str, Any]:
        """Return split.json; see `read_checked`."""
        return read_checked(self.path / SPLIT, SplitContent)

    def _keep_older(self, epoch: int, count: int) -> None:
        """Keep last.pt, which was saved before an epoch was evaluated, and best.pt; delete those of other epochs.

        Kept are the last `count` epochs. Later ones exist where somebody went back to an older one.
        """
        for name in (LAST, BEST):
            link_or_copy(self.path / name, self.path / older_name(name, epoch))
        for older, path in self._older():
            if not epoch - count < older <= epoch:
                delete_file(path)

    def _older(self) -> list[tuple[int, Path]]:
        """Return the files that `_keep_older` keeps, by epoch."""
        matches = [(OLDER.fullmatch(path.name), path) for path in self.path.iterdir()]
        return sorted((int(match[2]), path) for match, path in matches if match)

    def _way_back(self) -> str:
        """Return the next step where last.pt is damaged."""
        epochs = sorted({epoch for epoch, path in self._older() if path.name.startswith("last")}, reverse=True)
        if not epochs:
            return (
                "no older state was kept (train.keep); --overwrite restarts the split, and model.pretrained="
                f"{self.path / BEST} run.name=NAME starts from its best weights"
            )
        moves = " && ".join(
            shlex.join(["mv", str(self.path / older_name(name, epochs[0])), str(self.path / name)])
            for name in (LAST, BEST)
        )
        others = f" (also kept: {', '.join(map(str, epochs[1:]))})" if epochs[1:] else ""
        return f"to go back to epoch {epochs[0]}{others}, `{moves}`, then --resume"

    def _save_checkpoint(self, name: str, config: Config, state: dict[str, Any]) -> None:
        """Save a state with what inference needs besides the weights, and which images they were trained on."""
        plain = config.model_dump(mode="json")
        content = {"version": VERSION, "config": plain, "scale": plain["scale"], "split": self.origin(), **state}
        checked(TrainingCheckpoint, content, self.path / name)
        save_checkpoint(self.path / name, content)

    def _write_log(self, state: TrainingState) -> None:
        write_json_lines(self.path / LOG, state.history)


def older_name(name: str, epoch: int) -> str:
    """Return the name under which `train.keep` keeps a checkpoint: last_epoch_007.pt for last.pt."""
    path = Path(name)
    return f"{path.stem}_epoch_{epoch:03d}{path.suffix}"


def write_checked(path: Path, schema: type[BaseModel], content: dict[str, Any], indent: int) -> None:
    """Write a JSON file that fits its schema."""
    checked(schema, content, path)
    write_text(path, to_json(content, indent) + "\n")


def read_checked(path: Path, schema: type[BaseModel]) -> dict[str, Any]:
    """Return the content of a JSON file.

    Raises:
        UserError: The file is missing, damaged or does not fit its schema.
    """
    content = read_object(path)
    checked(schema, content, path)
    return content


def split_folders(run: Path) -> dict[int, RunFolder]:
    """Return the folders split_NN of a run, by number; {} if there is no such folder."""
    matches = [(SPLIT_FOLDER.fullmatch(path.name), path) for path in run.glob("split_*")]
    return dict(sorted((int(match[1]), RunFolder(path)) for match, path in matches if match))


def require_split(config: Config, number: int) -> None:
    """Check that the protocol has a split of this number."""
    if number > config.protocol.splits:
        raise UserError(f"--split: {number} is not one of the splits 1 to {config.protocol.splits}")
