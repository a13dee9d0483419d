"""Search for label files and images in the folder that an archive was unpacked to."""

import os
import re
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path

from utils.errors import MissingFileError
from utils.image_names import Spellings

Layout = Callable[[str], str]  # from the name of an image to its path

SAMPLE = 40  # images that each layout is tried with
REFUSED = {  # patterns that an image name must not match, with the message for each
    r"^$": "is empty",
    r"[\x00-\x1f\x7f]": "has a control character; rename the file",
    r"^/|^[A-Za-z]:|(^|/)\.\.(/|$)": "points outside the root; give a path below dataset.root, without `..`",
}
ANY_REFUSED = re.compile("|".join(f"(?:{pattern})" for pattern in REFUSED))


class Folder:
    """Root folder of a database, whose files are found by name and never outside it.

    A name is matched as `Spellings` do. Folder listings are cached.

    Raises:
        MissingFileError: The root is not a folder.
    """

    def __init__(self, root: Path, title: str):
        if not root.is_dir():
            raise MissingFileError(
                f"dataset.root: {root} is not a folder; give the folder that {title} was unpacked to"
            )
        self.root = root
        self._listings: dict[str, dict[bool, Spellings]] = {}

    def resolve(self, relative: str) -> str | None:
        """Return the path of an existing file as spelt on disk, relative to the root; None if it is missing."""
        *folders, file = relative.split("/")
        place = ""
        for folder in folders:
            place = self._spelling(place, folder, is_file=False)
            if place is None:
                return None
        return self._spelling(place, file, is_file=True)

    def find(self, *names: str) -> Path | None:
        """Return the first of these files that exists in the root or in a folder in the root; None if there is none."""
        paths = (self.resolve(_join(place, name)) for name in names for place in ("", *self.subfolders))
        return next((self.root / path for path in paths if path is not None), None)

    @cached_property
    def subfolders(self) -> list[str]:
        """Names of the folders in the root, sorted."""
        return sorted(self._listing("")[False].targets)

    def locate(self, names: Sequence[str], layouts: Sequence[Layout], near: Path | None) -> list[tuple[str, bool]]:
        """Locate the images; returns the path relative to the root of each, and whether it exists.

        Args:
            names: Image names from the label file that `refusal` allows.
            layouts: Known layouts, the official one first; the one that finds most of a sample is used.
            near: Path of the label file. Layouts are tried below the root, each folder on the way to this file and,
                except for bare names, each folder in the root. None tries them below the root only.
        """
        way = near.relative_to(self.root).parts[:-1] if near and near.is_relative_to(self.root) else ()
        bases = ["/".join(way[:depth]) for depth in range(len(way) + 1)]
        places = [(base, layout) for base in bases for layout in layouts]
        if near is not None:  # bare names are not searched for in arbitrary folders
            nested = [layout for layout in layouts if layout("name") != "name"]
            places += [(base, layout) for base in self.subfolders for layout in nested]
        sample = names[:: -(-len(names) // SAMPLE)]

        def hits(place: tuple[str, Layout]) -> int:
            return sum(self.resolve(_join(place[0], place[1](name))) is not None for name in sample)

        base, layout = max(places, key=hits)  # the first one if several are equal
        expected = [_join(base, layout(name)) for name in names]
        found = [self.resolve(path) for path in expected]
        return [(actual or path, actual is not None) for path, actual in zip(expected, found, strict=True)]

    def _spelling(self, place: str, name: str, is_file: bool) -> str | None:
        """Return the path of a file or folder in `place`, as spelt on disk."""
        found = self._listing(place)[is_file].find(name)
        return None if found is None else _join(place, found)

    def _listing(self, place: str) -> dict[bool, Spellings]:
        """Return the names of the folders (False) and of the files (True) in a folder; links are followed."""
        if place not in self._listings:
            names: dict[bool, dict[str, str]] = {False: {}, True: {}}
            with os.scandir(self.root / place) as entries:
                for entry in entries:
                    if entry.is_file() or entry.is_dir():
                        names[entry.is_file()][entry.name] = entry.name
            self._listings[place] = {is_file: Spellings(found) for is_file, found in names.items()}
        return self._listings[place]


def under(folder: str) -> Layout:
    """Return the layout with all images in one folder."""
    return lambda name: _join(folder, name)


def refusal(name: str) -> str | None:
    """Return why an image name is not allowed, such as that it points outside the root; None if it is allowed."""
    if ANY_REFUSED.search(name) is None:  # as are nearly all of what may be hundreds of thousands of names
        return None
    return next(reason for pattern, reason in REFUSED.items() if re.search(pattern, name))


def _join(base: str, name: str) -> str:
    return f"{base}/{name}" if base else name
