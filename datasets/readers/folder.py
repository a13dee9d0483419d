"""Search for label files and images in the folder that an archive was unpacked to."""

import os
import re
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from unicodedata import normalize

from utils.errors import MissingFileError, UserError

Layout = Callable[[str], str]  # from the name of an image to its path

SAMPLE = 40  # images that each layout is tried with
REFUSED = {  # patterns that an image name must not match, with the message for each
    r"^$": "is empty",
    r"[\x00-\x1f\x7f]": "has a control character; rename the file",
    r"\\": "has a backslash; write / between folders",
    r"^/|^[A-Za-z]:|(^|/)\.\.(/|$)": "points outside the root; give a path below dataset.root, without `..`",
}
REFUSED_AT_ALL = re.compile("|".join(REFUSED))


class Folder:
    """Root folder of a database, whose files are found by name and never outside it.

    A name is matched exactly first, then ignoring case and Unicode normalisation. Folder listings are cached.

    Raises:
        MissingFileError: The root is not a folder.
    """

    def __init__(self, root: Path, title: str):
        if not root.is_dir():
            raise MissingFileError(
                f"dataset.root: {root} is not a folder; give the folder that {title} was unpacked to"
            )
        self.root = root
        self._listings: dict[str, dict[str, dict[str, bool]]] = {}
        self._folders: dict[str, str | None] = {"": ""}

    def resolve(self, relative: str, folder: bool = False) -> str | None:
        """Return the path of an existing file (or folder) as spelt on disk, relative to the root; None if missing."""
        above, _, last = relative.rpartition("/")
        place = self._resolve_folder(above)
        return None if place is None else self._spelling(place, last, folder)

    def find(self, *names: str) -> Path | None:
        """Return the first of these files that exists in the root or in a folder in the root; None if there is none."""
        for name in names:
            for place in ("", *self.subfolders):
                found = self.resolve(_join(place, name))
                if found is not None:
                    return self.root / found
        return None

    @cached_property
    def subfolders(self) -> list[str]:
        """Names of the folders in the root, sorted."""
        with os.scandir(self.root) as entries:
            return sorted(entry.name for entry in entries if entry.is_dir())

    def locate(self, names: Sequence[str], layouts: Sequence[Layout], near: Path | None) -> list[tuple[str, bool]]:
        """Locate the images; returns the path relative to the root of each, and whether it exists.

        Args:
            names: Image names from the label file, checked by `require_below_root`.
            layouts: Known layouts, the official one first; the one that finds most of a sample is used.
            near: Path of the label file. Layouts are tried below the root, each folder on the way to this file and,
                except for bare names, each folder in the root. None tries them below the root only.
        """
        sample = [names[index] for index in range(0, len(names), -(-len(names) // SAMPLE))]
        places = [(base, layout) for base in self._way(near) for layout in layouts]
        if near is not None:  # bare names are not searched for in arbitrary folders
            nested = [layout for layout in layouts if layout("name") != "name"]
            places += [(base, layout) for base in self.subfolders for layout in nested]

        def hits(place: tuple[str, Layout]) -> int:
            return sum(self.resolve(_join(place[0], place[1](name))) is not None for name in sample)

        base, layout = max(places, key=hits)  # the first one if several are equal
        expected = [_join(base, layout(name)) for name in names]
        found = [self.resolve(path) for path in expected]
        return [(actual or path, actual is not None) for path, actual in zip(expected, found, strict=True)]

    def _way(self, file: Path | None) -> list[str]:
        """Return the root and each folder on the way to a file in it."""
        if file is None or not file.is_relative_to(self.root):
            return [""]
        inside = file.parent.relative_to(self.root)
        way = [inside.as_posix(), *(parent.as_posix() for parent in inside.parents)]
        return ["", *(base for base in reversed(way) if base != ".")]

    def _resolve_folder(self, relative: str) -> str | None:
        if relative not in self._folders:
            place: str | None = ""
            for part in relative.split("/"):
                place = None if place is None else self._spelling(place, part, folder=True)
            self._folders[relative] = place
        return self._folders[relative]

    def _spelling(self, place: str, name: str, folder: bool) -> str | None:
        """Return the path of a file or folder in `place`, as spelt on disk."""
        spellings = [
            spelling for spelling, is_file in self._listing(place).get(_fold(name), {}).items() if is_file != folder
        ]
        if name in spellings:
            return _join(place, name)
        return _join(place, spellings[0]) if len(spellings) == 1 else None

    def _listing(self, place: str) -> dict[str, dict[str, bool]]:
        """Return the spellings in a folder by folded name, and whether each is a file; links are followed."""
        if place not in self._listings:
            listing: dict[str, dict[str, bool]] = {}
            with os.scandir(self.root / place) as entries:
                for entry in entries:
                    if entry.is_file() or entry.is_dir():
                        listing.setdefault(_fold(entry.name), {})[entry.name] = entry.is_file()
            self._listings[place] = listing
        return self._listings[place]


def under(folder: str) -> Layout:
    """Return the layout with all images in one folder."""
    return lambda name: _join(folder, name)


def require_below_root(name: str, column: str, source: str) -> None:
    """Raise an error for an image name that is empty, absolute or points outside the root.

    Raises:
        UserError: The name is not allowed; the message has file and row.
    """
    if REFUSED_AT_ALL.search(name):
        reason = next(reason for pattern, reason in REFUSED.items() if re.search(pattern, name))
        raise UserError(f"{source}: {column} {repr(name) + ' ' if name else ''}{reason}")


def _fold(name: str) -> str:
    return normalize("NFC", name).casefold()


def _join(base: str, name: str) -> str:
    return f"{base}/{name}" if base else name
