"""The log as TensorBoard event files."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from utils.errors import UserError, one_line
from utils.files import delete_folder

FOLDER = "tensorboard"
UNNAMED = ("epoch", "seconds")


def require_tensorboard() -> None:
    """Says what to install where TensorBoard is missing, before a training begins.

    Raises:
        UserError: It is missing.
    """
    try:
        import torch.utils.tensorboard  # noqa: F401, PLC0415
    except ImportError as error:
        raise UserError(
            "logging.tensorboard: the package is not installed; `pip install tensorboard`, or leave it false"
        ) from error


def write_events(folder: Path, history: list[dict[str, Any]]) -> None:
    """Event files of all epochs so far under `<folder>/tensorboard`, in place of those before.

    They are written anew each time, so that a resumed run shows no epoch twice. Tags are such as `train/total`,
    `test/srcc`, `lr`; the step is the epoch.

    Raises:
        UserError: The old ones cannot be deleted, or the place is not writable.
    """
    from torch.utils.tensorboard import SummaryWriter  # noqa: PLC0415, an optional package

    delete_folder(folder / FOLDER)
    try:
        with SummaryWriter(folder / FOLDER) as writer:
            for record in history:
                for tag, value in _scalars(record):
                    writer.add_scalar(tag, value, record["epoch"])
    except OSError as error:
        raise UserError(
            f"{folder / FOLDER} cannot be written: {error.strerror or one_line(error)}; mend that and --resume, with "
            "logging.tensorboard=false if need be"
        ) from error


def _scalars(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _scalars(value, f"{prefix}{name}/")
        elif isinstance(value, (int, float)) and name not in UNNAMED and math.isfinite(value):
            yield f"{prefix}{name}", value
