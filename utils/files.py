"""Files that are there whole or not at all."""

import json
import math
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from utils.errors import UserError, one_line


def write_atomically(path: str | Path, write: Callable[[BinaryIO], Any]) -> None:
    """Lets `write` fill a temporary file beside `path`, flushes it to the disk and renames it.

    Raises:
        UserError: The disk is full, or the place is not writable; what was at `path` is still there.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.tmp")  # the same at each try, so that a killed one leaves no heap
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open(temporary, "wb") as file:
                write(file)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror or one_line(error)}") from error


@contextmanager
def reading(place: str | Path) -> Iterator[None]:
    """What the system says of a file or folder that may not be read, as an error that names it.

    Raises:
        UserError: Instead of an OSError.
    """
    try:
        yield
    except UserError:
        raise
    except OSError as error:
        raise UserError(f"{error.filename or place} cannot be read: {error.strerror or one_line(error)}") from error


def make_folder(path: str | Path) -> None:
    """A folder and those above it, where they are not there yet.

    Raises:
        UserError: The place is not writable.
    """
    try:
        Path(path).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"folder {path} cannot be made: {error.strerror or one_line(error)}") from error


def read_json(path: str | Path) -> Any:
    """The content of a JSON file.

    Raises:
        UserError: No such file, or a damaged one.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8-sig"), object_pairs_hook=_without_repeats)
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path} is missing or damaged ({one_line(error)})") from error


def write_text(path: str | Path, text: str) -> None:
    """A UTF-8 text file, whole or not at all."""
    write_atomically(path, lambda file: file.write(text.encode()))


def to_json(value: Any, indent: int | None = None) -> str:
    """Standard JSON: numbers that are not finite become null."""
    return json.dumps(_finite(value), indent=indent, ensure_ascii=False)


def write_json_lines(path: str | Path, values: Iterable[dict]) -> None:
    """One JSON object a line."""
    write_text(path, "".join(to_json(value) + "\n" for value in values))


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"given twice: {next(name for name in names if names.count(name) > 1)}")
    return content


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
