"""Which images are meant: files, folders, patterns and lists, in a stable order. Imports nothing heavy."""

import codecs
import csv
import glob
import io
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from scoring.defaults import IMAGE_COLUMNS, SHARDS, SUFFIXES, is_remote
from utils.errors import MissingFileError, UserError, did_you_mean, one_line, some_of

STDIN = "-"
TABLES = {".csv": ",", ".tsv": "\t"}
SHOWN = 8  # names in one message


@dataclass(frozen=True)
class Inputs:
    """What a user names.

    Args:
        places: Files, folders and patterns; `-` is a list on the standard input.
        lists: Files that name images, one in each line, or CSV and TSV with a header row.
        recursive: Whether folders are searched to the bottom.
        image_column: Of CSV lists; None: `image` or `path`.
        root: Folder that relative names in lists are below; None: the working folder.
        left_out: Folders and files of which nothing is picked, such as those that are written to.
        at_scale: Whether places in object stores and files of many images are meant, too, as the Ray engine reads them.
    """

    places: Sequence[str]
    lists: Sequence[str] = ()
    recursive: bool = False
    image_column: str | None = None
    root: str | None = None
    left_out: Sequence[str] = ()
    at_scale: bool = False

    @property
    def suffixes(self) -> frozenset[str]:
        """Of what is picked from folders."""
        return SUFFIXES | SHARDS if self.at_scale else SUFFIXES


def find_images(inputs: Inputs) -> list[str]:
    """Paths of everything that is meant: what is named in its order, then what is in lists.

    Of folders, images are sorted by name, each folder before those in it, without hidden files and linked folders. A
    path that is named twice comes twice only if a list says so. What a place names need not be an image: that is found
    out when it is opened.

    Raises:
        MissingFileError: A pattern that nothing fits, or a list that does not exist.
        UserError: No image at all, or a list that cannot be read.
    """
    found: dict[str, None] = {}
    for place in inputs.places:
        if _is_left_out(place, inputs):
            raise UserError(f"{place} is scored and written to; name another place for what is written")
        if place != STDIN:
            found.update(dict.fromkeys(_images_at(place, inputs)))
    paths = list(found)
    for path in [*([STDIN] if STDIN in inputs.places else []), *inputs.lists]:
        paths += _images_of_list(path, inputs)
    if not paths:
        if not inputs.places:
            raise UserError(f"--list: no name of an image in {', '.join(inputs.lists)}")
        hint = "" if inputs.recursive else "; --recursive looks into the folders below, too"
        named = some_of([*inputs.places, *inputs.lists], SHOWN)
        raise UserError(f"no image in {named}: files that end with {', '.join(sorted(inputs.suffixes))}{hint}")
    return paths


def _images_at(place: str, inputs: Inputs) -> Iterator[str]:
    if inputs.at_scale and is_remote(place):
        from scoring.ray.remote_files import list_remote  # noqa: PLC0415, imports pyarrow

        yield from list_remote(place, inputs.recursive, lambda path: _is_picked(path, inputs))
        return
    if os.path.isdir(place):
        yield from _images_in(place, inputs)
        return
    if os.path.lexists(place) or not glob.has_magic(place):
        yield place  # one that does not exist becomes a row with its error
        return
    fitting = sorted(glob.glob(place, recursive=True), key=os.fsencode)
    if not fitting:
        raise MissingFileError(f"no file fits the pattern {place!r}")
    for path in fitting:
        if any(_is_left_out(folder, inputs) for folder in (path, *Path(path).parents)):
            continue
        if os.path.isdir(path):
            yield from _images_in(path, inputs)
        elif _is_picked(path, inputs):
            yield path


def _images_in(folder: str, inputs: Inputs) -> Iterator[str]:
    """The images of a folder; one that cannot be listed is an error, as are folders below it."""
    left_out = {os.path.realpath(path) for path in inputs.left_out}
    names = {os.path.basename(path) for path in left_out}  # a million entries are not all resolved
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: os.fsencode(entry.name))
    except OSError as error:
        raise UserError(f"folder {folder} cannot be read: {error.strerror or one_line(error)}") from error
    below = []
    for entry in entries:
        if entry.name in names and os.path.realpath(entry.path) in left_out:
            continue
        is_folder = entry.is_dir(follow_symlinks=False)
        if _is_picked(entry.name, inputs):
            yield entry.path  # a folder by such a name is told from an image when it is opened
        if is_folder and inputs.recursive:
            below.append(entry.path)
    for path in below:
        yield from _images_in(path, inputs)


def _is_left_out(path: str | Path, inputs: Inputs) -> bool:
    return any(os.path.realpath(path) == os.path.realpath(folder) for folder in inputs.left_out)


def _is_picked(path: str, inputs: Inputs) -> bool:
    return os.path.splitext(path)[1].lower() in inputs.suffixes and not os.path.basename(path).startswith(".")


def _images_of_list(path: str, inputs: Inputs) -> list[str]:
    content = _read_list(path)
    name = "the standard input" if path == STDIN else path
    delimiter = TABLES.get(Path(path).suffix.lower())
    if path == STDIN and inputs.image_column is not None:
        delimiter = ","
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise UserError(f"{name} is UTF-16; save it as UTF-8")
    content = content.removeprefix(codecs.BOM_UTF8)
    if delimiter is not None:
        names = _names_of_table(content, delimiter, name, inputs.image_column)
    elif inputs.image_column is not None:
        raise UserError(f"--image-column: {path} is no table; a list with columns ends with {' or '.join(TABLES)}")
    else:
        ends = b"\0" if b"\0" in content else b"\n"  # as `find -print0` and `find` write
        lines = (line.removesuffix(b"\r") for line in content.split(ends))
        names = [os.fsdecode(line) for line in lines if line.strip()]
    root = inputs.root
    return [os.path.join(root, name) for name in names] if root else names


def _read_list(path: str) -> bytes:
    if path == STDIN:
        if sys.stdin is None:
            raise UserError("-: there is no standard input to read a list from")
        return sys.stdin.buffer.read()
    try:
        return Path(path).read_bytes()
    except FileNotFoundError as error:
        raise MissingFileError(f"--list: {path} does not exist") from error
    except OSError as error:
        raise UserError(f"--list: {path} cannot be read: {error.strerror or one_line(error)}") from error


def _names_of_table(content: bytes, delimiter: str, source: str, column: str | None) -> list[str]:
    text = content.decode("utf-8", "surrogateescape")
    rows = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter)
    titles = [title for title in rows.fieldnames or () if title is not None]
    chosen = [column] if column is not None else [title for title in IMAGE_COLUMNS if title in titles]
    if len(chosen) != 1 or chosen[0] not in titles:
        hint = did_you_mean(column, titles) if column is not None else ""
        wanted = " or ".join(repr(title) for title in ([column] if column is not None else IMAGE_COLUMNS))
        there = ", ".join(titles) or "it has none"
        raise UserError(f"{source}: not one column {wanted}{hint}; name one by --image-column: {there}")
    try:
        names = [row[chosen[0]] for row in rows]
    except csv.Error as error:
        raise UserError(f"{source}, line {rows.line_num}: {one_line(error)}; a quotation mark may be open") from error
    if not all(names):
        raise UserError(f"{source}: row {names.index(next(name for name in names if not name)) + 1} names no image")
    return names
