"""Readers: how the table of a label file becomes Ratings, for all databases alike.

A parsed table has the columns `name` and `mos`, and optionally `sos`, `counts`, `grades`, `reference`, `split`,
`note`, `open_ended` and `source`, as in `Rating`; its index is the row number in the file.
"""

import posixpath
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import pandas as pd

from datasets.ratings import Rating
from datasets.readers.folder import REFUSED_AT_ALL, Folder, Layout, require_below_root
from datasets.readers.tables import numbers, pick, read_table
from datasets.scale import RatingScale
from utils.errors import MissingFileError, UserError, did_you_mean

LabelParser = Callable[[Path, Folder], pd.DataFrame]  # (label file, folder for companion files) -> table

DEFAULT_SOS_A = 0.1477
MOS_TOLERANCE = 0.05  # on 0..100, between two files of one database
BINS = ["p1", "p2", "p3", "p4", "p5"]
RELEASE_COLUMNS = ["name", *BINS, "mos", "sos"]
LIST_COLUMNS = {"name": ("dis_img_path",), "mos": ("score",)}


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
        path = self._label_file(folder, labels)
        table = self._parser(path)(path, folder)
        if self.reference_from_name is not None:
            table["reference"] = table["name"].map(self.reference_from_name)
        if self.image_set_from_name is not None:
            table["image_set"] = table["name"].map(self.image_set_from_name)
        return to_ratings(table, path, folder, self.layouts, near=path)

    def _label_file(self, folder: Folder, labels: str | None) -> Path:
        if labels is None:
            path = folder.find(*self.label_files)
            if path is None:
                raise MissingFileError(
                    f"no label file of {self.title} in {folder.root} or in a folder of it; looked for "
                    f"{', '.join(self.label_files)}"
                )
            return path
        names = [PurePosixPath(file).name for file in self.label_files]
        if self._parser(Path(labels)) is None:
            hint = did_you_mean(PurePosixPath(labels).name, names)
            raise UserError(
                f"dataset.labels: {labels} is not a label file of {self.title}{hint}; allowed: {', '.join(names)}"
            )
        path = folder.root / labels
        found = path if path.is_file() else folder.find(labels)
        if found is None:
            raise MissingFileError(f"dataset.labels: {labels} is not in {folder.root} or in a folder of it")
        return found

    def _parser(self, path: Path) -> LabelParser | None:
        parsers = {PurePosixPath(name).name.casefold(): parser for name, parser in self.label_files.items()}
        return parsers.get(path.name.casefold())


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
    for name, source in zip(table["name"], table["source"], strict=True):
        require_below_root(name, "image", source)
    table["name"] = table["name"].map(posixpath.normpath)
    places = folder.locate(table["name"].tolist(), layouts, near)
    table["name"] = table["name"].map(layouts[0])
    columns = {column: table[column].astype(object).where(table[column].notna(), None).tolist() for column in table}
    return [
        Rating(image=image, missing=not there, **dict(zip(columns, row, strict=True)))
        for (image, there), row in zip(places, zip(*columns.values(), strict=True), strict=True)
    ]


def with_source(table: pd.DataFrame, path: Path) -> pd.DataFrame:
    """Return the table with the columns `file` and `source`, which say where each label comes from."""
    if "source" in table:
        return table
    return table.assign(file=str(path), source=[f"{path}, {table.index.name} {row}" for row in table.index])


def with_sos(table: pd.DataFrame, other: pd.DataFrame, path: Path) -> pd.DataFrame:
    """Return a parsed table with the SOS of another file, matched by image name.

    Images that the other file lacks get no SOS. If the two files disagree about a MOS, a note is added.

    Raises:
        UserError: An image occurs twice in the other table.
    """
    twice = other["name"][other["name"].duplicated()]
    if len(twice):
        raise UserError(f"{path}, {other.index.name} {twice.index[0]}: {twice.iloc[0]} occurs twice")
    by_name = other.set_index("name")
    there = table["name"].map(by_name["mos"])
    notes = [
        f"MOS {here:g}, but {said:g} in {path.name}" if abs(here - said) > MOS_TOLERANCE else ""
        for here, said in zip(table["mos"], there, strict=True)
    ]
    return table.assign(sos=table["name"].map(by_name["sos"]), note=notes)


def release_parser(convert_name: Callable[[str], str] = str) -> LabelParser:
    """Return a parser of the label files of the RichIQA release.

    Their columns are name (in single quotes), five DOS values, MOS and SOS, separated by tabs, without a header. Only
    MOS and SOS are used; the DOS is computed from them by the recipe, as in the release.

    Args:
        convert_name: Function from the name in the file to our name.
    """

    def read(path: Path, _folder: Folder) -> pd.DataFrame:
        table = read_table(path, RELEASE_COLUMNS, separator="\t", quote="'")
        values = numbers(table, RELEASE_COLUMNS[1:], path)
        return pd.DataFrame({"name": table["name"].map(convert_name), "mos": values["mos"], "sos": values["sos"]})

    return read


def list_parser(convert_name: Callable[[str], str], open_ended: bool = False) -> LabelParser:
    """Return a parser of third-party CSV lists with the columns dis_img_path and score; they have no SOS.

    Args:
        convert_name: Function from the path in the file to our name.
        open_ended: Whether scores may lie outside the scale.
    """

    def read(path: Path, _folder: Folder) -> pd.DataFrame:
        table = pick(read_table(path), path, LIST_COLUMNS)
        mos = numbers(table, ["mos"], path)["mos"]
        return pd.DataFrame({"name": table["name"].map(convert_name), "mos": mos, "open_ended": open_ended})

    return read


def file_name(path: str) -> str:
    """Return the last part of a path in a label file; an invalid path is returned unchanged, to be rejected later."""
    return path if REFUSED_AT_ALL.search(path) else path.rpartition("/")[2]


def sibling(path: Path, name: str) -> Path | None:
    """Return the file or folder of that name in the folder of `path`, ignoring case; None if there is none."""
    return next((other for other in sorted(path.parent.iterdir()) if other.name.casefold() == name.casefold()), None)
