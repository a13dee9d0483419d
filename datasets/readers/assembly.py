"""Readers: how the table of a label file becomes Ratings, for all databases alike.

A parsed table has the columns `name` and `mos`, and optionally `sos`, `counts`, `grades`, `reference`, `split`,
`note`, `open_ended` and `source`, as in `Rating`; its index is the row number in the file.
"""

import os
import posixpath
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import pandas as pd

from datasets.ratings import Rating
from datasets.readers.folder import Folder, Layout, refusal
from datasets.readers.tables import Columns, numbers, pick, read_table, refuse, texts
from datasets.scale import RatingScale
from utils.errors import MissingFileError, UserError, did_you_mean
from utils.image_names import with_slashes

LabelParser = Callable[[Path, Folder], pd.DataFrame]  # (label file, folder for companion files) -> table

DEFAULT_SOS_A = 0.1477
MOS_TOLERANCE = 0.05  # on 0..100, between two files of one database
BINS = ["p1", "p2", "p3", "p4", "p5"]
RELEASE_COLUMNS = ["name", *BINS, "mos", "sos"]
LIST_COLUMNS: Columns = {"name": ("dis_img_path",), "mos": ("score",)}


@dataclass(frozen=True)
class Reader:
    """Reader of one database: its rating scale, its label files and its image layouts.

    Args:
        title: Name of the database in messages and reports.
        scale: Rating scale of the MOS, or None if every copy of the database has its own.
        label_files: Parser of each label file, by its path relative to the root or to a folder in the root, in order
            of preference.
        layouts: Known image layouts, the official one first.
        sos_a: Parameter a of the SOS hypothesis, used if the SOS was not measured.
        release_sos: Default of `sos_source`, which is what the release did: `hypothesis` or `auto`.
        reference_from_name: Function from the name of an image to its reference, or None.
        image_set_from_name: Function from the name of an image to its image set, or None.
    """

    title: str
    scale: RatingScale | None
    label_files: dict[str, LabelParser]
    layouts: tuple[Layout, ...]
    sos_a: float = DEFAULT_SOS_A
    release_sos: str = "auto"
    reference_from_name: Callable[[str], str] | None = None
    image_set_from_name: Callable[[str], str] | None = None

    def read(self, root: Path, labels: str | None = None) -> list[Rating]:
        """Return the ratings of all images in the label file.

        Args:
            root: Folder that the archive was unpacked to.
            labels: Path of the label file, absolute or relative to root; None for the first existing one.

        Raises:
            MissingFileError: No label file was found.
            UserError: A row cannot be parsed, or an image name points outside the root.
        """
        folder = Folder(root, self.title)
        path, parse = self._label_file(folder, labels)
        table = parse(path, folder)
        if self.reference_from_name is not None:
            table["reference"] = table["name"].map(self.reference_from_name)
        if self.image_set_from_name is not None:
            table["image_set"] = table["name"].map(self.image_set_from_name)
        return to_ratings(table, path, folder, self.layouts, near=path)

    def _label_file(self, folder: Folder, labels: str | None) -> tuple[Path, LabelParser]:
        parsers = {PurePosixPath(file).name: parse for file, parse in self.label_files.items()}
        by_folded = {name.casefold(): parse for name, parse in parsers.items()}
        if labels is None:
            path = folder.find(*self.label_files)
            if path is None:
                raise MissingFileError(
                    f"no label file of {self.title} in {folder.root} or in a folder of it; looked for "
                    f"{', '.join(self.label_files)}"
                )
            return path, by_folded[path.name.casefold()]
        name = Path(labels).name
        if name.casefold() not in by_folded:
            raise UserError(
                f"dataset.labels: {labels} is not a label file of {self.title}{did_you_mean(name, parsers)}; allowed: "
                f"{', '.join(PurePosixPath(file).name for file in self.label_files)}"
            )
        path = folder.root / labels
        found = path if path.is_file() else folder.find(labels)
        if found is None:
            raise MissingFileError(f"dataset.labels: {labels} is not in {folder.root} or in a folder of it")
        return found, by_folded[name.casefold()]


def to_ratings(
    table: pd.DataFrame, path: Path, folder: Folder, layouts: Sequence[Layout], near: Path | None
) -> list[Rating]:
    """Return the ratings in a parsed table. See `Folder.locate` for `near`.

    Raises:
        UserError: An image name is empty or points outside the root; the message has file and row.
    """
    if table.empty:
        raise UserError(f"{path}: contains no images of the database")
    table = with_source(table, path)
    root = with_slashes(os.path.join(os.path.abspath(folder.root), ""))
    table["name"] = table["name"].map(lambda name: with_slashes(name).removeprefix(root))
    for name, source in zip(table["name"], table["source"], strict=True):
        if reason := refusal(name):
            raise UserError(f"{source}: image {repr(name) + ' ' if name else ''}{reason}")
    table["name"] = table["name"].map(posixpath.normpath)
    places = folder.locate(table["name"].tolist(), layouts, near)
    table["name"] = table["name"].map(layouts[0])
    rows = table.astype(object).where(table.notna(), None).to_dict("records")
    return [Rating(image=image, missing=not there, **row) for (image, there), row in zip(places, rows, strict=True)]


def with_source(table: pd.DataFrame, path: Path) -> pd.DataFrame:
    """Return the table with the columns `file` and `source`, which say where each label comes from."""
    if "source" in table:
        return table
    return table.assign(file=str(path), source=[f"{path}, {table.index.name} {row}" for row in table.index])


def parser(
    columns: Columns,
    convert_name: Callable[[str], str] = str,
    read: Callable[[Path], pd.DataFrame] = read_table,
    **constants: Any,
) -> LabelParser:
    """Return a parser of a table with a name and scores.

    Args:
        columns: Titles of the columns in the file, by our name; all but `name` are numbers.
        convert_name: Function from the name in the file to our name.
        read: Function that reads the file.
        constants: Further columns that have one value.
    """

    def parse(path: Path, _folder: Folder) -> pd.DataFrame:
        table = pick(read(path), path, columns)
        scores = numbers(table, [column for column in columns if column != "name"], path)
        return scores.assign(name=texts(table["name"]).map(with_slashes).map(convert_name), **constants)

    return parse


def release_parser(convert_name: Callable[[str], str] = str) -> LabelParser:
    """Return a parser of the label files of the RichIQA release.

    Their columns are name (in single quotes), five DOS values, MOS and SOS, separated by tabs, without a header. Only
    MOS and SOS are used; the DOS is computed from them by the recipe, as in the release.
    """
    read = partial(read_table, names=RELEASE_COLUMNS, separator="\t", quote="'")
    parse = parser({name: (name,) for name in RELEASE_COLUMNS}, convert_name, read)
    return lambda path, folder: parse(path, folder).drop(columns=BINS)


def with_sos(parse: LabelParser, others: dict[str, LabelParser]) -> LabelParser:
    """Return a parser that adds the SOS in the first of the other files that exists, matched by image name.

    Images that the other file lacks get no SOS. If the two files disagree about a MOS, a note is added. An image that
    occurs twice in the other file is an error.
    """

    def parse_both(path: Path, folder: Folder) -> pd.DataFrame:
        table = parse(path, folder)
        found = next(((other, name) for name in others if (other := folder.find(name))), None)
        if found is None:
            return table
        path, name = found
        other = others[name](path, folder)
        refuse(other["name"].duplicated(), path, lambda row: f"{other['name'][row]} occurs twice")
        by_name = other.set_index("name")
        stated = table["name"].map(by_name["mos"])
        notes = [
            f"MOS {mos:g}, but {said:g} in {path.name}" if abs(mos - said) > MOS_TOLERANCE else ""
            for mos, said in zip(table["mos"], stated, strict=True)
        ]
        return table.assign(sos=table["name"].map(by_name["sos"]), note=notes)

    return parse_both


def file_name(path: str) -> str:
    """Return the last part of a path in a label file; an invalid path is returned unchanged, to be rejected later."""
    return path if refusal(path) else path.rpartition("/")[2]


def sibling(path: Path, name: str) -> Path | None:
    """Return the file or folder of that name in the folder of `path`, ignoring case; None if there is none."""
    return next((other for other in sorted(path.parent.iterdir()) if other.name.casefold() == name.casefold()), None)
