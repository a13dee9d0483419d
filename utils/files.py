"""Files that are there whole or not at all."""

import errno
import glob
import hashlib
import json
import math
import os
import platform
import shutil
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from utils.errors import MachineError, UserError, one_line

DOOMED = ".deleted"  # behind a dot and the name of a folder that is being deleted
LONGEST_NAME = 150  # bytes
FULL_OR_BROKEN = (errno.ENOSPC, errno.EFBIG, errno.EIO, *([errno.EDQUOT] if hasattr(errno, "EDQUOT") else []))


def write_atomically(path: str | Path, write: Callable[[BinaryIO], Any]) -> None:
    """Lets `write` fill a temporary file beside `path`, flushes it to the disk and renames it.

    Raises:
        MachineError: The disk is full or broken; what was at `path` is still there.
        UserError: The place is not writable; likewise.
    """
    path = Path(path)
    host, process = platform.node(), os.getpid()
    temporary = path.with_name(f".{_short(path.name)}.{host}.{process}.{threading.get_native_id()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(path, host)
        try:
            with open(temporary, "wb") as file:
                write(file)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
            _flush_folder(path.parent)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise not_written(path, error) from error


def not_written(place: str | Path, error: OSError) -> UserError:
    """What the system says of a place that cannot be written: a mistake, or a machine that is full or broken."""
    kind = MachineError if error.errno in FULL_OR_BROKEN else UserError
    return kind(f"{place} cannot be written: {error.strerror or one_line(error)}")


def _remove_leftovers(path: Path, host: str) -> None:
    """Removes the temporary files of killed processes of this machine; another one's may be alive."""
    for leftover in path.parent.glob(f".{glob.escape(f'{_short(path.name)}.{host}.')}*.tmp"):
        process = leftover.name.split(".")[-3]
        if os.name == "posix" and process.isdigit() and not _is_alive(int(process)):
            leftover.unlink(missing_ok=True)


def _short(name: str) -> str:
    """A name to which others may be added: systems allow 255 bytes."""
    return name if len(os.fsencode(name)) <= LONGEST_NAME else hashlib.sha256(os.fsencode(name)).hexdigest()


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)  # sends nothing
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        pass
    return True


def _flush_folder(folder: Path) -> None:
    """Makes a new name last through a power cut, where the system can."""
    if os.name != "posix":
        return
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


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


def require_place(path: str | Path) -> None:
    """Refuses a folder that cannot be made or written into, and makes nothing.

    Raises:
        UserError: A file is in the way, or the folder or the one above it is not writable.
    """
    path = Path(path)
    there = next((above for above in (path, *path.absolute().parents) if os.path.exists(above)), path)
    if not there.is_dir():
        raise UserError(f"folder {path} cannot be made: {there} is a file")
    if not os.access(there, os.W_OK | os.X_OK):
        raise UserError(f"folder {path} cannot be {'written' if there == path else 'made'}: {there} is not writable")


def delete_folder(path: str | Path) -> None:
    """Deletes a folder with all that is in it, where it is there.

    It gets another name first: whenever the process is killed, the folder is there whole or not at all. What a killed
    process has left under that name is deleted, too.

    Raises:
        UserError: Something in it cannot be deleted.
    """
    path = Path(path)
    doomed = path.with_name(f".{path.name}{DOOMED}")
    try:
        if doomed.exists():
            shutil.rmtree(doomed)
        if path.exists():
            shutil.rmtree(path if path.is_symlink() else path.rename(doomed))  # of a link, rmtree says that it is one
    except OSError as error:
        raise UserError(
            f"folder {path} cannot be deleted: {error.strerror or one_line(error)} ({error.filename})"
        ) from error


def read_object(path: str | Path) -> dict[str, Any]:
    """The content of a JSON file that holds an object.

    Raises:
        UserError: No such file, a damaged one, or one that holds something else.
    """
    content = read_json(path)
    if not isinstance(content, dict):
        raise UserError(f"{path} is missing or damaged (an object is expected, got {type(content).__name__})")
    return content


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
    """Standard JSON: numbers that are not finite become null, bytes of a path that are no UTF-8 an escape of JSON."""
    text = json.dumps(_finite(value), indent=indent, ensure_ascii=False)
    return text.encode(errors="backslashreplace").decode()


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
