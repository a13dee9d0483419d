"""Find images from files, folders, patterns and lists, in a stable order. Imports nothing heavy."""

import codecs
import csv
import glob
import io
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from scoring.defaults import IMAGE_COLUMNS, IMAGE_SUFFIXES, SHARD_SUFFIXES, is_remote
from utils.errors import MissingFileError, UserError, did_you_mean, one_line, some_of

STDIN = "-"
TABLES = {".csv": ",", ".tsv": "\t"}
SHOWN = 8  # names in one message


@dataclass(frozen=True)
class Inputs:
    """Inputs given on the command line.

    Args:
        places: Files, folders and patterns; `-` is a list on the standard input.
        lists: Files with image names, one per line, or CSV and TSV with a header.
        recursive: Whether subfolders are searched.
        image_column: Column of image names in CSV lists; None: `image` or `path`.
        root: Base folder of relative names in lists; None: the working folder.
        excluded: Folders and files to skip, such as those that are written to.
        with_shards: Whether to include object stores and files with many images, which the Ray engine reads.
    """

    places: Sequence[str]
    lists: Sequence[str] = ()
    recursive: bool = False
    image_column: str | None = None
    root: str | None = None
    excluded: Sequence[str] = ()
    with_shards: bool = False

    @property
    def suffixes(self) -> frozenset[str]:
        """Suffixes of files selected from folders."""
        return IMAGE_SUFFIXES | SHARD_SUFFIXES if self.with_shards else IMAGE_SUFFIXES


def find_images(inputs: Inputs) -> list[str]:
    """Return the paths of all inputs: first the places in their order, then the lists.

    Images in a folder are sorted by name and precede those in its subfolders; hidden files and linked folders are
    skipped. A path is repeated only if a list repeats it. Whether a file is an image is checked when it is opened.

    Raises:
        MissingFileError: Nothing matches a pattern, or a list does not exist.
        UserError: No image is found, or a list cannot be read.
    """
    found: dict[str, None] = {}
    for place in inputs.places:
        if _is_excluded(place, inputs):
            raise UserError(f"{place} is both an input and an output; write to another place")
        if place != STDIN:
            found.update(dict.fromkeys(_images_at(place, inputs)))
    paths = list(found)
    for path in [*([STDIN] if STDIN in inputs.places else []), *inputs.lists]:
        paths += _images_in_list(path, inputs)
    if not paths:
        if not inputs.places:
            raise UserError(f"--list: no image name in {', '.join(inputs.lists)}")
        hint = "" if inputs.recursive else "; --recursive also searches subfolders"
        named = some_of([*inputs.places, *inputs.lists], SHOWN)
        raise UserError(f"no image in {named}: files ending in {', '.join(sorted(inputs.suffixes))}{hint}")
    return paths


def _images_at(place: str, inputs: Inputs) -> Iterator[str]:
    if inputs.with_shards and is_remote(place):
        from scoring.ray.remote_files import list_remote  # noqa: PLC0415, imports pyarrow

        yield from list_remote(place, inputs.recursive, lambda path: _is_selected(path, inputs))
        return
    if os.path.isdir(place):
        yield from _images_in(place, inputs)
        return
    if os.path.lexists(place) or not glob.has_magic(place):
        yield place  # a missing file becomes a row with its error
        return
    matching = sorted(glob.glob(place, recursive=True), key=os.fsencode)
    if not matching:
        raise MissingFileError(f"no file matches the pattern {place!r}")
    for path in matching:
        if any(_is_excluded(folder, inputs) for folder in (path, *Path(path).parents)):
            continue
        if os.path.isdir(path):
            yield from _images_in(path, inputs)
        elif _is_selected(path, inputs):
            yield path


def _images_in(folder: str, inputs: Inputs) -> Iterator[str]:
    """Yield the images in a folder; a folder that cannot be listed is an error."""
    excluded = {os.path.realpath(path) for path in inputs.excluded}
    names = {os.path.basename(path) for path in excluded}  # spares resolving each of a million entries
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: os.fsencode(entry.name))
    except OSError as error:
        raise UserError(f"folder {folder} cannot be read: {error.strerror or one_line(error)}") from error
    subfolders = []
    for entry in entries:
        if entry.name in names and os.path.realpath(entry.path) in excluded:
            continue
        is_folder = entry.is_dir(follow_symlinks=False)
        if _is_selected(entry.name, inputs):
            yield entry.path  # a folder with such a name becomes an error when it is opened
        if is_folder and inputs.recursive:
            subfolders.append(entry.path)
    for path in subfolders:
        yield from _images_in(path, inputs)


def _is_excluded(path: str | Path, inputs: Inputs) -> bool:
    return any(os.path.realpath(path) == os.path.realpath(folder) for folder in inputs.excluded)


def _is_selected(path: str, inputs: Inputs) -> bool:
    return os.path.splitext(path)[1].lower() in inputs.suffixes and not os.path.basename(path).startswith(".")


def _images_in_list(path: str, inputs: Inputs) -> list[str]:
    content = _read_list(path)
    name = "the standard input" if path == STDIN else path
    delimiter = TABLES.get(Path(path).suffix.lower())
    if path == STDIN and inputs.image_column is not None:
        delimiter = ","
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise UserError(f"{name} is UTF-16; save it as UTF-8")
    content = content.removeprefix(codecs.BOM_UTF8)
    if delimiter is not None:
        names = _names_in_table(content, delimiter, name, inputs.image_column)
    elif inputs.image_column is not None:
        raise UserError(f"--image-column: {path} has no columns; use a list ending in {' or '.join(TABLES)}")
    else:
        separator = b"\0" if b"\0" in content else b"\n"  # written by `find -print0` and by `find`
        lines = (line.removesuffix(b"\r") for line in content.split(separator))
        names = [os.fsdecode(line) for line in lines if line.strip()]
    root = inputs.root
    return [os.path.join(root, name) for name in names] if root else names


def _read_list(path: str) -> bytes:
    if path == STDIN:
        if sys.stdin is None:
            raise UserError("-: there is no standard input to read a list from; name a file with --list")
        return sys.stdin.buffer.read()
    try:
        return Path(path).read_bytes()
    except FileNotFoundError as error:
        raise MissingFileError(f"--list: {path} does not exist") from error
    except OSError as error:
        raise UserError(f"--list: {path} cannot be read: {error.strerror or one_line(error)}") from error


def _names_in_table(content: bytes, delimiter: str, source: str, column: str | None) -> list[str]:
    text = content.decode("utf-8", "surrogateescape")
    rows = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter)
    titles = [title for title in rows.fieldnames or () if title is not None]
    chosen = choose_column(source, titles, column, IMAGE_COLUMNS, "--image-column")
    try:
        names = [row[chosen] for row in rows]
    except csv.Error as error:
        raise UserError(f"{source}, line {rows.line_num}: {one_line(error)}; a quotation mark may be open") from error
    if not all(names):
        raise UserError(f"{source}: row {[bool(name) for name in names].index(False) + 1} names no image")
    return names


def choose_column(
    source: str, columns: Sequence[str], requested: str | None, defaults: Sequence[str], option: str
) -> str:
    """Return the requested column, or else the one default column that exists.

    Raises:
        UserError: The requested column does not exist, or not exactly one default column does.
    """
    candidates = [requested] if requested is not None else [name for name in defaults if name in columns]
    if len(candidates) == 1 and candidates[0] in columns:
        return candidates[0]
    wanted = " or ".join(repr(name) for name in ([requested] if requested is not None else defaults))
    problem = "more than one of the columns" if len(candidates) > 1 else "no column"
    hint = did_you_mean(requested, columns) if requested is not None else ""
    existing = ", ".join(columns) or "it has no columns"
    raise UserError(f"{source}: {problem} {wanted}{hint}; choose one with {option}: {existing}")
