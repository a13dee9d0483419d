"""Atomic file writing, JSON, and folders."""

import errno
import glob
import hashlib
import json
import math
import os
import platform
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, BinaryIO

from utils.errors import MachineError, UserError, one_line

DOOMED = ".deleted"  # suffix of a folder that is being deleted; its name also gets a leading dot
LONGEST_NAME = 150  # bytes
BLOCK = 2**20  # bytes read at a time
LARGEST = 2**28  # bytes of a file that is read at once; label files of a million images are smaller
DISK_ERRORS = (errno.ENOSPC, errno.EFBIG, errno.EIO, *([errno.EDQUOT] if hasattr(errno, "EDQUOT") else []))
REMEDIES = {  # by the number of an error, what helps
    errno.ENOSPC: "free some space or files there",
    errno.EFBIG: "raise the limit on the size of a file (`ulimit -f`)",
    errno.EIO: "check the disk",
    errno.EROFS: "mount the disk for writing",
    errno.EACCES: "change the permissions",
    errno.EPERM: "change the permissions",
    **({errno.EDQUOT: "free some space of your quota"} if hasattr(errno, "EDQUOT") else {}),
}
OTHER_REMEDY = "mend that, or name another place"
RESTORE = "restore or delete it"  # a file of the project that is missing or damaged
AGAIN = " and try again"  # ends the message of a file that cannot be written


def write_atomically(path: str | Path, write: Callable[[BinaryIO], Any]) -> None:
    """Let `write` fill a temporary file next to `path`, flush it to the disk and rename it.

    Raises:
        MachineError: The disk is full or broken; an existing file at `path` is unchanged.
        UserError: The file cannot be written; an existing one is unchanged.
    """
    path = Path(path)
    temporary = temporary_beside(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(path)
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


def link_or_copy(source: Path, target: Path) -> None:
    """Make `target` a hard link to a file, which takes no space, or a copy where the disk has no links.

    Raises:
        MachineError: The disk is full or broken.
        UserError: The file cannot be written.
    """
    try:
        target.unlink(missing_ok=True)
        os.link(source, target)
    except OSError:
        with reading(source), open(source, "rb") as file:
            write_atomically(target, lambda copy: shutil.copyfileobj(file, copy))


def file_hash(path: str | Path, digest: Any = None) -> str:
    """Return a file's SHA-256, or the hash of a `hashlib` object that is updated with its content, as hexadecimal."""
    digest = hashlib.sha256() if digest is None else digest
    with open(path, "rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()


def not_written(place: str | Path, error: OSError, how: str = "", action: str = "written") -> UserError:
    """Return the error for a place that cannot be written: MachineError if the disk is full or broken.

    Args:
        place: The place.
        error: The error.
        how: How to try again, with a space before it.
        action: What was tried, `written` or `created`.
    """
    kind = MachineError if error.errno in DISK_ERRORS else UserError
    remedy = REMEDIES.get(error.errno, OTHER_REMEDY)
    return kind(f"{place} cannot be {action}: {error.strerror or one_line(error)}; {remedy}{AGAIN}{how}")


def temporary_beside(path: Path) -> Path:
    """Return the place beside a file or folder in which this thread makes it."""
    thread = threading.get_native_id()
    return path.with_name(f".{_short_name(path.name)}.{platform.node()}.{os.getpid()}.{thread}.tmp")


def remove_leftovers(path: Path) -> None:
    """Remove what killed processes on this machine left; those on other machines may still be running."""
    for leftover in path.parent.glob(f".{glob.escape(f'{_short_name(path.name)}.{platform.node()}.')}*.tmp"):
        process = leftover.name.split(".")[-3]
        if os.name != "posix" or not process.isdigit() or _is_alive(int(process)):
            continue
        if leftover.is_dir():
            shutil.rmtree(leftover, ignore_errors=True)
        else:
            leftover.unlink(missing_ok=True)


def _short_name(name: str) -> str:
    """Return the name, or its hash if it is too long to be extended; systems allow 255 bytes."""
    return name if len(os.fsencode(name)) <= LONGEST_NAME else hashlib.sha256(os.fsencode(name)).hexdigest()


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)  # sends no signal
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        pass
    return True


def _flush_folder(folder: Path) -> None:
    """Make a rename survive a power cut, if the system supports it."""
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
    """Turn an OSError while reading into a UserError that names the file or folder."""
    try:
        yield
    except UserError:
        raise
    except OSError as error:
        raise UserError(f"{error.filename or place} cannot be read: {error.strerror or one_line(error)}") from error


def read_limited(path: str | Path, limit: int = LARGEST) -> bytes:
    """Return the content of a file that has at most `limit` bytes, whatever size it states.

    Raises:
        UserError: The file cannot be read, or is larger.
    """
    with reading(path), open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size  # of a file; of a device or pipe 0
        content = read_at_most(file, limit + 1) if size <= limit else b""
    if max(size, len(content)) > limit:
        raise UserError(f"{path} has more than {limit // 2**20} MB; a file of this kind is much smaller")
    return content


def read_at_most(file: IO[bytes], count: int) -> bytes:
    """Return the next `count` bytes of a file, or what there is; `file.read(count)` would allocate them beforehand."""
    blocks = []
    while count and (block := file.read(min(count, BLOCK))):
        blocks.append(block)
        count -= len(block)
    return b"".join(blocks)


def choose_format(name: str | None, output: str | Path | None, suffixes: Mapping[str, str], default: str) -> str:
    """Return the requested format, else the one for the suffix of the output, else the default.

    Raises:
        UserError: The suffix belongs to no format.
    """
    if name is not None or output is None:
        return name or default
    suffix = Path(output).suffix.lower()
    if suffix not in suffixes:
        raise UserError(f"--output: {output} should end with {', '.join(suffixes)}, or name the --format")
    return suffixes[suffix]


def make_folder(path: str | Path) -> None:
    """Create a folder and its parents if they do not exist.

    Raises:
        MachineError: The disk is full or broken.
        UserError: The folder cannot be created.
    """
    try:
        Path(path).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise not_written(f"folder {path}", error, action="created") from error


def require_place(path: str | Path) -> None:
    """Check, without creating anything, that a folder can be created and written to.

    Raises:
        UserError: A file is in the way, or the folder or its parent is not writable.
    """
    path = Path(path)
    existing = next((folder for folder in (path, *path.absolute().parents) if os.path.exists(folder)), path)
    if not existing.is_dir():
        raise UserError(f"folder {path} cannot be created: {existing} is a file; name another")
    if not os.access(existing, os.W_OK | os.X_OK):
        action, remedy = "written" if existing == path else "created", REMEDIES[errno.EACCES]
        raise UserError(f"folder {path} cannot be {action}: {existing} is not writable; {remedy}, or name another")


@contextmanager
def temporary_folder(prefix: str = "richiqa_") -> Iterator[Path]:
    """Yield an empty folder where the system puts temporary files, and delete it after the block.

    Args:
        prefix: Beginning of its name.

    Raises:
        MachineError: The disk is full or broken.
        UserError: The folder cannot be created.
    """
    try:
        folder = Path(tempfile.mkdtemp(prefix=prefix))
    except OSError as error:
        raise not_written(f"the folder for temporary files ({error.filename or 'TMPDIR'})", error) from error
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def new_folder(path: str | Path) -> Iterator[Path]:
    """Yield an empty temporary folder beside `path`, which replaces `path` if the block succeeds, else is deleted.

    Raises:
        MachineError: The disk is full or broken; an existing folder at `path` is unchanged.
        UserError: The folder cannot be written; an existing one is unchanged.
    """
    path = Path(path).absolute()
    temporary = temporary_beside(path)
    make_folder(path.parent)
    try:
        remove_leftovers(path)
        delete_folder(temporary)  # of a killed process that had the same number
        temporary.mkdir()
        yield temporary
        delete_folder(path)
        temporary.rename(path)
        _flush_folder(path.parent)
    except UserError:
        raise
    except OSError as error:
        raise not_written(path, error) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def delete_file(path: Path) -> None:
    """Delete a file, if it exists.

    Raises:
        MachineError: The disk is broken.
        UserError: The file cannot be deleted.
    """
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise not_written(path, error) from error


def delete_folder(path: str | Path) -> None:
    """Delete a folder and its contents, if it exists.

    The folder is renamed first, so that a killed process leaves it either complete or gone. Remains of a killed process
    are deleted as well.

    Raises:
        UserError: Part of the contents cannot be deleted, or it is a link.
    """
    path = Path(path)
    doomed = path.with_name(f".{path.name}{DOOMED}")
    try:
        if doomed.exists():
            shutil.rmtree(doomed)
        if path.exists():
            if path.is_symlink():  # the folder that it refers to may hold more
                raise UserError(
                    f"folder {path} cannot be deleted: it is a symbolic link; remove it, or link the folder above it"
                )
            shutil.rmtree(path.rename(doomed))
    except OSError as error:
        raise UserError(
            f"folder {path} cannot be deleted: {error.strerror or one_line(error)} ({error.filename})"
        ) from error


def read_object(path: str | Path) -> dict[str, Any]:
    """Return the content of a JSON file that contains an object.

    Raises:
        UserError: The file is missing or damaged, or contains something else.
    """
    content = read_json(path)
    if not isinstance(content, dict):
        raise UserError(
            f"{path} is missing or damaged (an object is expected, got {type(content).__name__}); {RESTORE}"
        )
    return content


def read_json(path: str | Path) -> Any:
    """Return the content of a JSON file.

    Raises:
        UserError: The file is missing or damaged.
    """
    try:
        return json.loads(read_limited(path).decode("utf-8-sig"), object_pairs_hook=_unique_keys)
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path} is missing or damaged ({one_line(error)}); {RESTORE}") from error


def write_text(path: str | Path, text: str) -> None:
    """Write a UTF-8 text file completely or not at all."""
    write_atomically(path, lambda file: file.write(text.encode()))


def to_json(value: Any, indent: int | None = None) -> str:
    """Return standard JSON: numbers that are not finite become null; bytes that are not UTF-8 are escaped."""
    text = json.dumps(_finite(value), indent=indent, ensure_ascii=False)
    return text.encode(errors="backslashreplace").decode()


def write_json_lines(path: str | Path, values: Iterable[dict]) -> None:
    """Write one JSON object per line."""
    write_text(path, "".join(to_json(value) + "\n" for value in values))


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
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
