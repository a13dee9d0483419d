"""Write the log as TensorBoard event files."""

import math
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pandas as pd

from utils.errors import UserError, one_line
from utils.files import delete_folder

FOLDER = "tensorboard"
UNNAMED = ("epoch", "seconds")


def require_tensorboard() -> None:
    """Check that TensorBoard is installed.

    Raises:
        UserError: It is not installed.
    """
    try:
        _summary_writer()
    except ImportError as error:
        raise UserError(
            "logging.tensorboard: TensorBoard is not installed; run `pip install tensorboard`, or set it to false"
        ) from error


def _summary_writer() -> type:
    """Return torch's writer of event files, which then writes them itself.

    Where TensorFlow is installed, TensorBoard would write by it: that takes seconds to import, and reports a full disk
    with errors of its own.
    """
    sys.modules.setdefault("tensorboard.compat.notf", ModuleType("notf"))  # by which TensorBoard is told so
    from torch.utils.tensorboard import SummaryWriter  # noqa: PLC0415, an optional package

    return SummaryWriter


def write_events(folder: Path, history: list[dict[str, Any]]) -> None:
    """Write event files of all epochs so far under `<folder>/tensorboard`.

    Existing ones are replaced, so that a resumed run shows each epoch once. Tags are such as `train/total`, `test/srcc`
    and `lr`; the step is the epoch.

    Raises:
        UserError: The files cannot be deleted or written.
    """
    delete_folder(folder / FOLDER)
    try:
        with _summary_writer()(folder / FOLDER) as writer:
            for record in history:
                (values,) = pd.json_normalize(record, sep="/").to_dict("records")
                for tag, value in values.items():
                    if tag not in UNNAMED and isinstance(value, (int, float)) and math.isfinite(value):
                        writer.add_scalar(tag, value, record["epoch"])
    except OSError as error:
        raise UserError(
            f"{folder / FOLDER} cannot be written: {error.strerror or one_line(error)}; fix this and use --resume, "
            "or continue without it: --resume logging.tensorboard=false"
        ) from error
