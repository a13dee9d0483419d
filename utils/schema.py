"""The schema of files with a version: their base class, the check, and what every checkpoint contains.

What training and evaluation write besides is in experiments/schema.py.
"""

from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, FiniteFloat

from utils.config import validated
from utils.errors import SHOWN, UserError, shortened
from utils.settings import Config, ScaleSettings

VERSION = 1
TRAIN_MOS = "train_mos"  # in split.json: percentiles of the MOS labels of the training images, from 0 to 1


class Content(BaseModel):
    """Base class of the schema: frozen, unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class TrainingLabels(BaseModel):
    """What scoring needs of a checkpoint's split.json."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    train_mos: tuple[FiniteFloat, ...] = ()


class CheckpointContent(BaseModel):
    """What scoring needs of a checkpoint besides the weights; training adds keys of its own."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    version: int
    config: Config
    scale: ScaleSettings
    split: TrainingLabels | None = None


Schema = TypeVar("Schema", bound=BaseModel)


def checked(schema: type[Schema], content: dict[str, Any], path: str | Path) -> Schema:
    """Return the content of a file, validated by its schema; called before writing and after reading.

    Raises:
        UserError: The version is another, or a key is not valid.
    """
    require_version(content, path)
    try:
        return validated(schema, content, str(path))
    except UserError as error:
        raise UserError(f"{error}; restore the file, or write it again") from error


def require_version(content: dict[str, Any], path: str | Path) -> None:
    """Check that a file has the version of this code."""
    found = content.get("version")
    if type(found) is not int or found != VERSION:
        stated = "no version" if found is None else f"version {shortened(str(found), SHOWN)}"
        raise UserError(
            f"{path} has {stated}, and this code reads version {VERSION}; write the file again with this code, or use "
            "the code that wrote it"
        )
