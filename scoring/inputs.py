"""Find images from files, folders, patterns and lists, in a stable order. Imports nothing heavy."""

import argparse
import glob
import os
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from scoring.defaults import (
    IMAGE_COLUMNS,
    IMAGE_SUFFIXES,
    RAY,
    READS_STORES,
    SHARD_SUFFIXES,
    SYSTEM_FILES,
    SYSTEM_FOLDERS,
    is_image,
    is_remote,
    is_shard,
    local_path,
)
from utils.delimited import decode, parse_table, plain_title
from utils.errors import MissingFileError, UserError, did_you_mean, one_line, printable, some_of
from utils.image_names import on_disk

STDIN = "-"
TABLES = (".csv", ".tsv")
SHOWN = 8  # names in one message


def find_images(args: argparse.Namespace) -> list[str]:
    """Return the paths of all inputs that the options select: first the places in their order, then the lists.

    Images in a folder are sorted by name and precede those in its subfolders; what is written to is skipped, and what
    else is passed over is said on stderr. A path is repeated only if a list repeats it. Whether a file is an image is
    checked when it is opened. With the Ray engine, object stores and files with many images are inputs as well.

    Raises:
        MissingFileError: Nothing matches a pattern, or a list does not exist.
        UserError: No image is found, or a list cannot be read.
    """
    written = {os.path.realpath(place) for place in (args.map, args.output) if place}
    found: dict[str, None] = {}
    passed: Counter[str] = Counter()
    for place in args.images:
        if os.path.realpath(place) in written:
            raise UserError(f"{place} is both an input and an output; write to another place")
        if place != STDIN:
            found.update(dict.fromkeys(_images_at(place, args, written, passed)))
    paths = list(found)
    if passed := +passed:  # without what was counted as 0
        kinds = [f"{count} {printable(kind)}" for kind, count in passed.most_common()]
        print(f"passed over: {some_of(kinds, SHOWN)}", file=sys.stderr)
    for path in [*([STDIN] if STDIN in args.images else []), *args.list]:
        paths += _images_in_list(path, args)
    if not paths:
        if not args.images:
            raise UserError(f"--list: no image name in {', '.join(args.list)}")
        hint = "" if args.recursive else "; --recursive also searches subfolders"
        named = some_of([*args.images, *args.list], SHOWN)
        raise UserError(f"no image in {named}: files ending in {', '.join(sorted(_suffixes(args)))}{hint}")
    return paths


def _images_at(place: str, args: argparse.Namespace, written: set[str], passed: Counter[str]) -> Iterator[str]:
    def is_selected(path: str) -> bool:
        selected = is_image(path, _suffixes(args))
        if not selected and not SYSTEM_FILES.match(os.path.basename(path)):
            passed[_kind(path)] += 1
        return selected

    if args.engine == RAY and is_remote(place):
        from scoring.ray.remote_files import list_remote  # noqa: PLC0415, imports pyarrow

        yield from list_remote(place, args.recursive, is_selected)
        return
    place = local_path(place, READS_STORES)
    if os.path.isdir(place):
        yield from _images_in(place, args, written, passed)
    elif os.path.lexists(place) or not glob.has_magic(place):
        yield place  # a missing file becomes a row with its error
    else:
        matching = sorted(glob.glob(place, recursive=True), key=os.fsencode)
        if not matching:
            raise MissingFileError(f"no file matches the pattern {place!r}")
        for path in matching:
            if not written.isdisjoint(map(os.path.realpath, (path, *Path(path).parents))):
                continue
            if os.path.isdir(path):
                yield from _images_in(path, args, written, passed)
            elif is_selected(path):
                yield path


def _images_in(folder: str, args: argparse.Namespace, written: set[str], passed: Counter[str]) -> Iterator[str]:
    """Yield the images in a folder, and count what else is in it; a folder that cannot be listed is an error."""

    def refuse(error: OSError) -> None:
        reason = error.strerror or one_line(error)
        raise UserError(f"folder {error.filename or folder} cannot be read: {reason}") from error

    skipped = {os.path.basename(path) for path in written}  # spares resolving each of a million entries
    for parent, folders, files in os.walk(folder, onerror=refuse):
        below = {name: os.path.join(parent, name) for name in folders if name not in SYSTEM_FOLDERS}
        for name in sorted([*below, *files], key=os.fsencode):
            path = os.path.join(parent, name)
            if name in skipped and os.path.realpath(path) in written:
                below.pop(name, None)
            elif is_image(name, _suffixes(args)):
                yield path  # a folder with such a name becomes an error when it is opened
            elif name not in below and not SYSTEM_FILES.match(name):
                passed[_kind(name)] += 1
        if args.recursive:
            passed["hidden folders"] += sum(name.startswith(".") for name in below)
            passed["linked folders"] += sum(map(os.path.islink, below.values()))  # they may lead in a circle
        else:
            passed["subfolders (--recursive searches them)"] += len(below)
        visible = [name for name in below if not name.startswith(".")]
        folders[:] = sorted(visible, key=os.fsencode) if args.recursive else []


def _kind(path: str) -> str:
    """Return what kind of file is passed over: `.txt`, or why an image is."""
    name = os.path.basename(path)
    if is_image(name.lstrip(".")) and name.startswith("."):
        return "hidden"
    if is_shard(name):
        return f"{Path(name).suffix.lower()} (--engine ray reads what is in them)"
    return Path(name).suffix.lower() or "without a suffix"


def _suffixes(args: argparse.Namespace) -> frozenset[str]:
    return IMAGE_SUFFIXES | SHARD_SUFFIXES if args.engine == RAY else IMAGE_SUFFIXES


def _images_in_list(path: str, args: argparse.Namespace) -> list[str]:
    content = _read_list(path)
    name = "the standard input" if path == STDIN else path
    if (path == STDIN and args.image_column is not None) or Path(path).suffix.lower() in TABLES:
        names = _names_in_table(decode(content, name, "surrogateescape"), name, args.image_column)
    elif args.image_column is not None:
        raise UserError(f"--image-column: {path} has no columns; use a list ending in {' or '.join(TABLES)}")
    else:
        text = decode(content, name, "surrogateescape", zeros=True)
        separator = "\0" if "\0" in text else "\n"  # written by `find -print0` and by `find`
        lines = (line.removesuffix("\r") for line in text.split(separator))
        names = [line for line in lines if line.strip() and not line.startswith("# ")]
    rooted = (os.path.join(args.root, name) if args.root and not is_remote(name) else name for name in names)
    return list(on_disk(rooted))


def _read_list(path: str) -> bytes:
    if path == STDIN:
        if sys.stdin is None:
            raise UserError("-: there is no standard input to read a list from; name a file with --list")
        return sys.stdin.buffer.read()
    try:
        return Path(local_path(path)).read_bytes()
    except FileNotFoundError as error:
        raise MissingFileError(f"--list: {path} does not exist") from error
    except OSError as error:
        raise UserError(f"--list: {path} cannot be read: {error.strerror or one_line(error)}") from error


def _names_in_table(text: str, source: str, column: str | None) -> list[str]:
    table = parse_table(text, source)
    chosen = table.titles.index(choose_column(source, table.titles, column, IMAGE_COLUMNS, "--image-column"))
    for line, row in zip(table.lines, table.rows, strict=True):
        if not row[chosen]:
            raise UserError(f"{source}, line {line}: names no image")
    return [row[chosen] for row in table.rows]


def choose_column(
    source: str, columns: Sequence[str], requested: str | None, defaults: Sequence[str], option: str
) -> str:
    """Return the requested column, or else the one default column that exists; titles match as in label files.

    Raises:
        UserError: The requested column does not exist, or not exactly one default column does.
    """
    wanted = defaults if requested is None else [requested]
    plain = {plain_title(name) for name in wanted}
    found = [name for name in columns if name == requested] or [name for name in columns if plain_title(name) in plain]
    if len(found) == 1:
        return found[0]
    problem = f"{'more than one of the columns' if found else 'no column'} {' or '.join(map(repr, wanted))}"
    hint = did_you_mean(requested, columns) if requested is not None else ""
    existing = ", ".join(columns) or "it has no columns"
    raise UserError(f"{source}: {problem}{hint}; choose one with {option}: {existing}")
