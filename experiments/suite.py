"""One experiment, or several as a suite: the configs that are meant, and the folders of their splits."""

import glob
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from datasets.readers import with_defaults
from experiments.training.run_folder import RunFolder, require_split
from experiments.training.tensorboard import require_tensorboard
from utils.config import load_config
from utils.errors import MissingFileError, UserError
from utils.files import require_place
from utils.settings import Config


@dataclass(frozen=True)
class Experiment:
    """A config and, by number, the folders of those of its splits that are to be run."""

    config: Config
    folders: dict[int, RunFolder]

    @classmethod
    def of(cls, config: Config, split: int | None) -> "Experiment":
        """All splits, or only this one.

        Raises:
            UserError: There is no such split.
        """
        if split is not None:
            require_split(config, split)
        numbers = range(1, config.protocol.splits + 1) if split is None else [split]
        return cls(config, {number: RunFolder.of(config, number) for number in numbers})

    @property
    def path(self) -> Path:
        """The folder of the run."""
        return next(iter(self.folders.values())).path.parent

    @property
    def started(self) -> bool:
        """Whether any of its splits is there."""
        return any(folder.started for folder in self.folders.values())

    def check_overwrite(self, resume: bool, overwrite: bool) -> None:
        """Refuses what is not meant or cannot be logged, before anything is written."""
        require_place(self.path)
        if self.config.logging.tensorboard:
            require_tensorboard()
        for folder in () if overwrite else self.folders.values():
            folder.check_overwrite(self.config, resume)


def is_override(text: str) -> bool:
    """Whether an argument is `key.subkey=value` rather than a file."""
    return bool(re.match(r"[\w.]+=", text)) and not Path(text).is_file()


def load_configs(places: Sequence[str], overrides: list[str]) -> list[Config]:
    """The configs of files and of patterns such as `configs/ablations/*.yaml`, each with the same overrides.

    Raises:
        MissingFileError: A file that does not exist, or a pattern that fits none.
        UserError: A config that is not allowed.
    """
    paths = []
    for place in places:
        found = [place] if Path(place).exists() else sorted(glob.glob(place, recursive=True))
        if not found and glob.has_magic(place):
            raise MissingFileError(f"--config: no file fits {place!r}")
        paths += found or [place]
    return [with_defaults(load_config(path, overrides)) for path in dict.fromkeys(paths)]


def require_different_names(experiments: Sequence[Experiment]) -> None:
    """Refuses a suite in which one run would overwrite another."""
    paths = [experiment.path for experiment in experiments]
    twice = sorted({str(path) for path in paths if paths.count(path) > 1})
    if twice:
        raise UserError(
            f"--config: more than one config writes to {', '.join(twice)}; give each its own run.name, in its file "
            "rather than on the command line, which counts for all"
        )


def different(configs: Sequence[Config]) -> list[Config]:
    """Each once: an ablation may be the recipe itself, under the name of its run."""
    return [config for number, config in enumerate(configs) if config not in configs[:number]]


def how_to_go_on(suite: bool, overwrite: bool, waiting: Sequence[Experiment]) -> str:
    """What to say after an interruption; --overwrite once more would start anew what has just been begun.

    Args:
        suite: Whether there are several experiments.
        overwrite: Whether they replace what was there.
        waiting: Those that were not begun.
    """
    if not suite:
        return f"--resume{' in place of --overwrite' if overwrite else ''} goes on"
    old = [experiment.config.run.name for experiment in waiting if overwrite and experiment.started]
    those = f"; {', '.join(old)} still as before: start anew with --overwrite and their configs alone" if old else ""
    return f"the same command{' without --overwrite' if overwrite else ''} goes on{those}"
