"""Files in object stores that pyarrow supports: s3://, gs://, abfs://, hdfs://, and file:// for trials."""

import fnmatch
import glob
import posixpath
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
from pyarrow import fs

from scoring.defaults import WEB, is_remote, local_path
from scoring.parquet import arrow_errors
from scoring.pictures import Encoded
from utils.errors import MissingFileError, UserError, one_line


def open_filesystem(place: str) -> tuple[fs.FileSystem, str]:
    """Return the file system of a URI or path, and the path within it.

    Raises:
        UserError: pyarrow does not support the object store.
    """
    if not is_remote(place):
        return fs.LocalFileSystem(), str(Path(place).absolute())
    if place.lower().startswith(WEB):
        local_path(place)  # says what to do
    try:
        return fs.FileSystem.from_uri(place)
    except (pa.ArrowException, OSError, ValueError, ImportError) as error:
        raise UserError(f"{place}: no such object store: {one_line(error)}; known: s3, gs, abfs, hdfs, file") from error


def list_remote(place: str, recursive: bool, is_selected: Callable[[str], bool]) -> Iterator[str]:
    """Yield the selected objects of a folder or pattern, sorted by name; for anything else, the URI itself.

    Raises:
        MissingFileError: Nothing matches the pattern.
        UserError: The object store does not answer.
    """
    is_pattern = glob.has_magic(place)
    folder = posixpath.dirname(place) if is_pattern else place
    if glob.has_magic(folder) or "**" in place:
        raise UserError(f"{place}: in object stores only the last part is a pattern; name the folder, with --recursive")
    filesystem, path = open_filesystem(folder)
    objects = []
    with arrow_errors(f"{place} cannot be read"):
        if filesystem.get_file_info(path).type == fs.FileType.Directory:
            objects = filesystem.get_file_info(fs.FileSelector(path, recursive=recursive and not is_pattern))
        elif not is_pattern:
            yield place  # a missing object becomes a row with its error
            return
    names = sorted(info.path[len(path) :].strip("/") for info in objects if info.type == fs.FileType.File)
    pattern = posixpath.basename(place) if is_pattern else "*"
    matching = [name for name in names if fnmatch.fnmatchcase(name, pattern) and is_selected(name)]
    if is_pattern and not matching:
        raise MissingFileError(f"no object matches the pattern {place!r}")
    yield from (f"{folder.rstrip('/')}/{name}" for name in matching)


def remote_image(uri: str) -> Encoded:
    """Return an object as an image that is fetched when it is read."""

    def read() -> bytes:
        filesystem, path = open_filesystem(uri)
        with arrow_errors(f"{uri} cannot be read"):
            try:
                with filesystem.open_input_stream(path) as stream:
                    return stream.read()
            except FileNotFoundError as error:
                raise MissingFileError(f"image {uri} does not exist") from error

    return Encoded(uri, read)
