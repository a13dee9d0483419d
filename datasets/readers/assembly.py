"""From the table of a label file to Ratings: the part that all databases share.

A reader's table has the columns `name` and `mos`, and optionally `sos`, `counts`, `grades`, `reference`, `split`,
`note`, `open_ended` and `source`, as in `Rating`; its index is the row in the file.
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

Form = Callable[[Path, Folder], pd.DataFrame]  # a label file, and the folder to look for companions in, to a table

DEFAULT_SOS_A = 0.1477
MOS_TOLERANCE = 0.05  # on 0..100, between two files of one database
BINS = ["p1", "p2", "p3", "p4", "p5"]
RELEASE_COLUMNS = ["name", *BINS, "mos", "sos"]
LIST_COLUMNS = {"name": ("dis_img_path",), "mos": ("score",)}


@dataclass(frozen=True)
class Reader:
    """A database: its rating scale, its label files in order of preference, and where its images lie.

    Args:
        title: For people.
        scale: Rating scale of its MOS; None where each copy has its own.
        forms: Label files, relative to the root or to a folder of it, and what reads each.
        layouts: Ways of unpacking the images, the official one first.
        sos_a: Parameter a of the SOS hypothesis for its labels, where their SOS is not measured.
        release_sos: Where the release's labels have their SOS from: `hypothesis`, or `auto`, the file where it has one.
        reference_of: The scene of an image, from its name; None for a database without references.
        image_set_of: Its image set, where the database has such.
    """

    title: str
    scale: RatingScale | None
    forms: dict[str, Form]
    layouts: tuple[Layout, ...]
    sos_a: float = DEFAULT_SOS_A
    release_sos: str = "auto"
    reference_of: Callable[[str], str] | None = None
    image_set_of: Callable[[str], str] | None = None

    def read(self, root: Path, labels: str | None = None) -> list[Rating]:
        """What the label file says of every image.

        Args:
            root: The folder that the archive was unpacked to.
            labels: One of the label files, absolute or relative to root; None for the first of `forms` that is there.

        Raises:
            MissingFileError: No label file; says what was looked for and where.
            UserError: A row that does not parse, or a name that leads out of the root.
        """
        folder = Folder(root, self.title)
        path = self._label_file(folder, labels)
        table = self._form_of(path)(path, folder)
        if self.reference_of is not None:
            table["reference"] = table["name"].map(self.reference_of)
        if self.image_set_of is not None:
            table["image_set"] = table["name"].map(self.image_set_of)
        return to_ratings(table, path, folder, self.layouts, near=path)

    def _label_file(self, folder: Folder, labels: str | None) -> Path:
        if labels is None:
            path = folder.find(*self.forms)
            if path is None:
                raise MissingFileError(
                    f"no label file of {self.title} in {folder.root} or in a folder of it; looked for "
                    f"{', '.join(self.forms)}"
                )
            return path
        names = [PurePosixPath(form).name for form in self.forms]
        if self._form_of(Path(labels)) is None:
            hint = did_you_mean(PurePosixPath(labels).name, names)
            raise UserError(
                f"dataset.labels: {labels} is not a label file of {self.title}{hint}; known: {', '.join(names)}"
            )
        path = folder.root / labels
        found = path if path.is_file() else folder.find(labels)
        if found is None:
            raise MissingFileError(f"dataset.labels: {labels} is not in {folder.root} or in a folder of it")
        return found

    def _form_of(self, path: Path) -> Form | None:
        forms = {PurePosixPath(name).name.casefold(): form for name, form in self.forms.items()}
        return forms.get(path.name.casefold())


def to_ratings(
    table: pd.DataFrame, path: Path, folder: Folder, layouts: Sequence[Layout], near: Path | None
) -> list[Rating]:
    """Ratings of a reader's table; `near` as for `Folder.locate`.

    Raises:
        UserError: A name that is empty or leads out of the root: file and row.
    """
    if table.empty:
        raise UserError(f"{path}: holds no images of the database")
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
    """The table with file and row of each label, unless it has them."""
    if "source" in table:
        return table
    return table.assign(file=str(path), source=[f"{path}, {table.index.name} {row}" for row in table.index])


def sos_from(table: pd.DataFrame, other: pd.DataFrame, path: Path) -> pd.DataFrame:
    """A reader's table with the SOS of another file's table, by name; none for images that are not in that.

    Where the other file states another MOS, a note says so.

    Raises:
        UserError: An image twice in the other table.
    """
    twice = other["name"][other["name"].duplicated()]
    if len(twice):
        raise UserError(f"{path}, {other.index.name} {twice.index[0]}: {twice.iloc[0]} was given before")
    by_name = other.set_index("name")
    there = table["name"].map(by_name["mos"])
    notes = [
        f"MOS {here:g}, but {said:g} in {path.name}" if abs(here - said) > MOS_TOLERANCE else ""
        for here, said in zip(table["mos"], there, strict=True)
    ]
    return table.assign(sos=table["name"].map(by_name["sos"]), note=notes)


def release_form(name_of: Callable[[str], str] = str) -> Form:
    """Reads a label file of the RichIQA release: name in single quotes, five DOS values, MOS, SOS; tabs, no header.

    MOS and SOS are taken; the DOS is made from them by the recipe, as the release did.

    Args:
        name_of: The name in the file to ours.
    """

    def read(path: Path, _folder: Folder) -> pd.DataFrame:
        table = read_table(path, RELEASE_COLUMNS, separator="\t", quote="'")
        values = numbers(table, RELEASE_COLUMNS[1:], path)
        return pd.DataFrame({"name": table["name"].map(name_of), "mos": values["mos"], "sos": values["sos"]})

    return read


def list_form(name_of: Callable[[str], str], open_ended: bool = False) -> Form:
    """Reads a list of dis_img_path, score as third parties hand around; there is no SOS in it.

    Args:
        name_of: The path in the file to our name.
        open_ended: Whether the scores may leave the scale.
    """

    def read(path: Path, _folder: Folder) -> pd.DataFrame:
        table = pick(read_table(path), path, LIST_COLUMNS)
        mos = numbers(table, ["mos"], path)["mos"]
        return pd.DataFrame({"name": table["name"].map(name_of), "mos": mos, "open_ended": open_ended})

    return read


def file_name(path: str) -> str:
    """The last part of a path in a label file, unless the path is one that must be refused as it is."""
    return path if REFUSED_AT_ALL.search(path) else path.rpartition("/")[2]


def beside(path: Path, name: str) -> Path | None:
    """The file or folder of that name, whatever its case, in the same folder as another."""
    return next((other for other in sorted(path.parent.iterdir()) if other.name.casefold() == name.casefold()), None)
