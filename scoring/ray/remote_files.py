"""Object stores, as pyarrow knows them: s3://, gs://, abfs://, hdfs://, and file:// for trials."""

import fnmatch
import glob
import posixpath
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
from pyarrow import fs

from scoring.defaults import is_remote
from scoring.pictures import Encoded
from utils.errors import MissingFileError, UserError, one_line


def filesystem_of(place: str) -> tuple[fs.FileSystem, str]:
    """The file system of a URI or a path, and what the place is called there.

    Raises:
        UserError: A store that pyarrow does not know.
    """
    if not is_remote(place):
        return fs.LocalFileSystem(), str(Path(place).absolute())
    try:
        return fs.FileSystem.from_uri(place)
    except (pa.ArrowException, OSError, ValueError, ImportError) as error:
        raise UserError(f"{place}: no such object store: {one_line(error)}; known: s3, gs, abfs, hdfs, file") from error


def list_remote(place: str, recursive: bool, is_picked: Callable[[str], bool]) -> Iterator[str]:
    """What a URI means: of a folder or a pattern those objects that are picked, sorted by name; else the URI itself.

    Raises:
        MissingFileError: A pattern that nothing fits.
        UserError: The store does not answer.
    """
    pattern = glob.has_magic(place)
    folder = posixpath.dirname(place) if pattern else place
    if glob.has_magic(folder) or "**" in place:
        raise UserError(f"{place}: in object stores only the last part is a pattern; name the folder, with --recursive")
    filesystem, path = filesystem_of(folder)
    with _asking(place):
        if filesystem.get_file_info(path).type != fs.FileType.Directory:
            if pattern:
                raise MissingFileError(f"no object fits the pattern {place!r}")
            yield place  # one that does not exist becomes a row with its error
            return
        found = filesystem.get_file_info(fs.FileSelector(path, recursive=recursive and not pattern))
    below = sorted(info.path[len(path) :].strip("/") for info in found if info.type == fs.FileType.File)
    named = posixpath.basename(place) if pattern else "*"
    fitting = [name for name in below if is_picked(name) and fnmatch.fnmatchcase(name, named)]
    if pattern and not fitting:
        raise MissingFileError(f"no object fits the pattern {place!r}")
    yield from (f"{folder.rstrip('/')}/{name}" for name in fitting)


def remote_image(uri: str) -> Encoded:
    """An object as an image; it is fetched when it is read."""
    return Encoded(uri, lambda: read_remote(uri))


def read_remote(uri: str) -> bytes:
    """The bytes of an object.

    Raises:
        MissingFileError: There is none by this name.
        UserError: It cannot be read.
    """
    filesystem, path = filesystem_of(uri)
    try:
        with filesystem.open_input_stream(path) as stream:
            return stream.read()
    except FileNotFoundError as error:
        raise MissingFileError(f"image {uri} does not exist") from error
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{uri} cannot be read: {one_line(error)}") from error


@contextmanager
def _asking(place: str) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{place} cannot be read: {one_line(error)}") from error
