"""The folder that an archive was unpacked to: finds label files and images, wherever below it they lie."""

import os
import re
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path

from utils.errors import MissingFileError, UserError

Layout = Callable[[str], str]  # the name of an image to its path in one way of unpacking

SAMPLE = 40  # images looked for in each place
REFUSED = {  # what an image name must not have, and what to say of it
    r"^$": "is empty",
    r"[\x00-\x1f\x7f]": "has a control character; no file is looked for under such a name",
    r"\\": "has a backslash; write / between folders",
    r"^/|^[A-Za-z]:|(^|/)\.\.(/|$)": "leads out of the root; give a path below dataset.root, without `..`",
}
REFUSED_AT_ALL = re.compile("|".join(REFUSED))


class Folder:
    """Looks below a root without following what a label file might say to leave it.

    Every name is matched exactly first, then without case, and never guessed further. Folders are listed once.

    Raises:
        MissingFileError: The root is not a folder.
    """

    def __init__(self, root: Path, title: str):
        if not root.is_dir():
            raise MissingFileError(f"dataset.root {root} is not a folder; give the folder that {title} unpacks to")
        self.root = root
        self._listings: dict[str, dict[str, list[str]]] = {}
        self._folders: dict[str, str | None] = {}

    def resolve(self, relative: str) -> str | None:
        """The path as it is spelt on the disk, relative to the root, of an existing file or folder; else None."""
        above, _, last = relative.rpartition("/")
        folder = self._resolve_folder(above) if above else ""
        if folder is None:
            return None
        spellings = self._listing(folder).get(last.casefold(), ())
        if last in spellings:
            return _join(folder, last)
        return _join(folder, spellings[0]) if len(spellings) == 1 else None

    def find(self, *names: str) -> Path | None:
        """The first of these files that is in the root or in a folder of it."""
        for name in names:
            for place in ("", *self.subfolders):
                found = self.resolve(f"{place}/{name}" if place else name)
                if found is not None and (self.root / found).is_file():
                    return self.root / found
        return None

    @cached_property
    def subfolders(self) -> list[str]:
        """The folders in the root."""
        with os.scandir(self.root) as entries:
            return sorted(entry.name for entry in entries if entry.is_dir())

    def locate(self, names: Sequence[str], layouts: Sequence[Layout], near: Path | None) -> list[tuple[str, bool]]:
        """Where the images lie, each as path relative to the root and whether it is there.

        Args:
            names: As the label file calls them; already known to be `below_root`.
            layouts: Ways of unpacking, the official one first; the one that finds most of a sample is taken.
            near: The label file; layouts are tried below the root, each folder on the way to this file, and, but for
                bare names, each folder in the root. None: below the root alone.
        """
        sample = [names[index] for index in range(0, len(names), -(-len(names) // SAMPLE))]
        places = [(base, layout) for base in self._way(near) for layout in layouts]
        if near is not None:  # bare names are not looked for in any folder that happens to be there
            nested = [layout for layout in layouts if layout("name") != "name"]
            places += [(base, layout) for base in self.subfolders for layout in nested]

        def hits(place: tuple[str, Layout]) -> int:
            return sum(self.resolve(_join(place[0], place[1](name))) is not None for name in sample)

        base, layout = max(places, key=hits)  # the first of equals
        expected = [_join(base, layout(name)) for name in names]
        found = [self.resolve(path) for path in expected]
        return [(actual or path, actual is not None) for path, actual in zip(expected, found, strict=True)]

    def _way(self, file: Path | None) -> list[str]:
        """The root and each folder on the way to a file in it."""
        if file is None or not file.is_relative_to(self.root):
            return [""]
        inside = file.parent.relative_to(self.root)
        way = [inside.as_posix(), *(parent.as_posix() for parent in inside.parents)]
        return ["", *(base for base in reversed(way) if base != ".")]

    def _resolve_folder(self, relative: str) -> str | None:
        if relative not in self._folders:
            self._folders[relative] = self.resolve(relative)
        return self._folders[relative]

    def _listing(self, relative: str) -> dict[str, list[str]]:
        """Names in a folder of the root by their form without case; none where it is not a folder."""
        if relative not in self._listings:
            listing: dict[str, list[str]] = {}
            try:
                for name in os.listdir(self.root / relative):
                    listing.setdefault(name.casefold(), []).append(name)
            except NotADirectoryError:
                pass
            except OSError as error:
                raise UserError(f"{self.root / relative} cannot be listed: {error.strerror}") from error
            self._listings[relative] = listing
        return self._listings[relative]


def under(folder: str) -> Layout:
    """All images in one folder."""
    return lambda name: _join(folder, name)


def require_below_root(name: str, column: str, source: str) -> None:
    """Refuses an image name that is empty, absolute, or could lead out of the root.

    Raises:
        UserError: With file and row.
    """
    if REFUSED_AT_ALL.search(name):
        reason = next(reason for pattern, reason in REFUSED.items() if re.search(pattern, name))
        raise UserError(f"{source}: {column} {repr(name) + ' ' if name else ''}{reason}")


def _join(base: str, name: str) -> str:
    return f"{base}/{name}" if base else name
