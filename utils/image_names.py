"""Names of images as tables spell them, and the names that they mean. Imports nothing heavy."""

import os
import posixpath
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from functools import cached_property
from unicodedata import normalize

# image files picked from folders, in upper or lower case; a file named explicitly may have any suffix
IMAGE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".avif", ".heic", ".heif", ".tif", ".tiff", ".bmp", ".dib"}
    | {".gif", ".jp2", ".j2k", ".jpx", ".ppm", ".pgm", ".pbm", ".pnm", ".tga"}
)


class Spellings:
    """Names that are found exactly, else ignoring case and Unicode normalisation, else without the suffix of an image.

    Args:
        targets: What each spelling means; several may mean the same.
    """

    def __init__(self, targets: Mapping[str, str]):
        self.targets = targets

    def find(self, name: str) -> str | None:
        """Return what a name means; None if nothing, or more than one thing, is called so."""
        if name in self.targets:
            return self.targets[name]
        meant = self._folded.get(_fold(name)) or self._stems.get(_fold(name)) or ()
        return next(iter(meant)) if len(meant) == 1 else None

    @cached_property
    def _folded(self) -> dict[str, set[str]]:
        meant: dict[str, set[str]] = {}
        for spelling, target in self.targets.items():
            meant.setdefault(_fold(spelling), set()).add(target)
        return meant

    @cached_property
    def _stems(self) -> dict[str, set[str]]:
        meant: dict[str, set[str]] = {}
        for folded, targets in self._folded.items():
            stem, suffix = posixpath.splitext(folded)
            if suffix in IMAGE_SUFFIXES:
                meant.setdefault(stem, set()).update(targets)
        return meant


def on_disk(paths: Iterable[str]) -> Iterator[str]:
    """Yield paths as they are spelt on disk, each as it is given if nothing there is meant."""
    folders: dict[str, Spellings] = {}
    for path in paths:
        if "://" in path or os.path.lexists(path):
            yield path
            continue
        folder, name = os.path.split(with_slashes(path))
        if folder not in folders:
            with suppress(OSError):
                folders[folder] = Spellings({other: other for other in os.listdir(folder or ".")})
        found = folders[folder].find(name) if folder in folders else None
        yield path if found is None else os.path.join(folder, found)


def with_slashes(name: str) -> str:
    """Return a path as other systems than Windows write it, with `/` between folders."""
    return name.replace("\\", "/")


def _fold(name: str) -> str:
    return normalize("NFC", name).casefold()
