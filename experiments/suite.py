"""One experiment, or several as a suite: load their configs and find the folders of their splits."""

import glob
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from datasets.readers import with_defaults
from experiments.training.run_folder import RunFolder, require_split
from experiments.training.tensorboard import require_tensorboard
from models import with_pixel_statistics
from utils.config import load_config
from utils.errors import MissingFileError, UserError
from utils.files import require_place
from utils.settings import Config


@dataclass(frozen=True)
class Experiment:
    """A config and the folders of the splits to run, by number."""

    config: Config
    folders: dict[int, RunFolder]

    @property
    def path(self) -> Path:
        """Folder of the run."""
        return next(iter(self.folders.values())).path.parent


def is_override(text: str) -> bool:
    """Return whether an argument is `key.subkey=value` rather than a file."""
    return bool(re.match(r"[\w.]+=", text)) and not os.path.isfile(text)


def load_configs(places: Sequence[str], overrides: list[str]) -> list[Config]:
    """Return the configs of files and of patterns such as `configs/ablations/*.yaml`, with the same overrides.

    Raises:
        MissingFileError: A file does not exist, or no file matches a pattern.
        UserError: A config is not valid.
    """
    paths = []
    for place in places:
        found = [place] if Path(place).exists() else sorted(glob.glob(place, recursive=True))
        if not found and glob.has_magic(place):
            raise MissingFileError(f"--config: no file matches {place!r}")
        paths += found or [place]
    return [with_pixel_statistics(with_defaults(load_config(path, overrides))) for path in dict.fromkeys(paths)]


def make_experiments(configs: Sequence[Config], split: int | None, resume: bool, overwrite: bool) -> list[Experiment]:
    """Return the experiments of different configs, checked before anything is written.

    Raises:
        UserError: A config has no such split, two configs write to the same folder, a run exists and may not be
            continued or overwritten, or TensorBoard is not installed.
    """
    experiments = []
    for config in [config for number, config in enumerate(configs) if config not in configs[:number]]:
        if split is not None:
            require_split(config, split)
        numbers = range(1, config.protocol.splits + 1) if split is None else [split]
        folders = {number: RunFolder.for_split(config, number) for number in numbers}
        experiments.append(Experiment(config, folders))
    paths = [str(experiment.path) for experiment in experiments]
    repeated = sorted({path for path in paths if paths.count(path) > 1})
    if repeated:
        raise UserError(
            f"--config: more than one config writes to {', '.join(repeated)}; set a different run.name in each file, "
            "not on the command line, where it applies to all"
        )
    for experiment in experiments:
        require_place(experiment.path)
        if experiment.config.logging.tensorboard:
            require_tensorboard()
        for folder in () if overwrite else experiment.folders.values():
            folder.check_overwrite(experiment.config, resume)
    return experiments


def resume_advice(suite: bool, overwrite: bool, remaining: Sequence[Experiment]) -> str:
    """Return how to continue after an interruption; repeating --overwrite would delete what was just trained.

    Args:
        suite: Whether there are several experiments.
        overwrite: Whether they replace existing runs.
        remaining: Experiments that were not started.
    """
    if not suite:
        return f"--resume{' instead of --overwrite' if overwrite else ''} continues it"
    old = [
        experiment.config.run.name
        for experiment in remaining
        if overwrite and any(folder.started for folder in experiment.folders.values())
    ]
    unchanged = f"; unchanged: {', '.join(old)}; to restart them, run their configs with --overwrite" if old else ""
    return f"the same command{' without --overwrite' if overwrite else ''} continues it{unchanged}"
