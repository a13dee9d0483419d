"""Cache of squashed images, in memory or in a file on disk that processes share."""

import hashlib
import os
import secrets
import shutil
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import PIL
from filelock import FileLock, Timeout
from PIL import Image, features

from datasets.decoding import DRAFT_MARGIN, load_image
from datasets.transforms import Squash
from utils.errors import MachineError, UserError, one_line
from utils.files import make_folder, read_object, to_json, write_text
from utils.memory import available_memory
from utils.progress import Progress

OpenImage = Callable[[str], Image.Image]  # from a path below the root to an RGB image
Identity = tuple[int, int]  # size of a file in bytes and time of its last change in ns
Rows = dict[str, tuple[Identity, int]]  # by image: identity of the squashed file, and its row in the cache
Keep = Callable[[str, Identity, np.ndarray], None]

THREADS = 16  # more than most machines have cores, since some threads wait for the disk
AHEAD = 256  # images decoded ahead of use: 0.2 GB at 512x512


@dataclass(frozen=True)
class FileImages:
    """Images that are decoded from their files on every access.

    Args:
        root: Folder of the images.
        draft_size: Smallest width and height of a JPEG draft; None for full decoding.
    """

    root: Path
    draft_size: int | None = None

    def __call__(self, image: str) -> Image.Image:
        return load_image(self.root / image, self.draft_size)

    def identity(self, image: str) -> Identity | None:
        """Return size and modification time of a file; None if it does not exist."""
        try:
            status = os.stat(self.root / image)
        except OSError:  # reading the file reports the reason
            return None
        return status.st_size, status.st_mtime_ns

    def squash(self, image: str, size: int) -> np.ndarray:
        """Return the squashed image as uint8, (size, size, 3)."""
        return np.asarray(Squash(size)(self(image)))


@dataclass(frozen=True)
class CachedImages:
    """Squashed images from a cache. Images that are not cached, or whose file has changed, are read from their files.

    `Squash` does not change an image that is squashed already, so transforms give the same result for both.

    Args:
        files: The original images.
        rows: Identity of the squashed file and row in the cache, by image.
        pixels: Squashed images by row, (size, size, 3) uint8.
    """

    files: FileImages
    rows: Rows
    pixels: "RamPixels | MappedPixels"

    def __call__(self, image: str) -> Image.Image:
        identity, row = self.rows.get(image, (None, 0))
        if identity is None or identity != self.files.identity(image):
            return self.files(image)
        return Image.fromarray(self.pixels[row])


def row_bytes(size: int) -> int:
    """Return the number of bytes of one squashed image."""
    return size * size * 3


def missing_images(rows: Rows, files: FileImages, images: Sequence[str]) -> list[str]:
    """Return the images that are not cached, or whose file has changed since."""
    return [image for image in dict.fromkeys(images) if image not in rows or rows[image][0] != files.identity(image)]


def squash_all(files: FileImages, images: Sequence[str], size: int, title: str, keep: Keep) -> None:
    """Squash images in parallel, and pass each to `keep` in order.

    Images that cannot be decoded are skipped; they raise an error only when they are used.

    Args:
        files: The original images.
        images: Paths of the images below the root.
        size: Width and height of a squashed image, in pixels.
        title: Name of the database in the progress bar.
        keep: Called with image, identity and pixels (size, size, 3), in the calling thread.
    """

    def squash(image: str) -> tuple[Identity | None, np.ndarray | None]:
        identity = files.identity(image)  # taken before the file is read, so that a later change is noticed
        try:
            return identity, files.squash(image, size)
        except UserError:
            return None, None

    pool = ThreadPoolExecutor(THREADS)
    try:
        with Progress(f"cache of {title}", len(images), "image") as bar:
            ahead = deque(pool.submit(squash, image) for image in images[:AHEAD])
            for number, image in enumerate(images):
                identity, pixels = ahead.popleft().result()
                ahead.extend(pool.submit(squash, later) for later in images[number + AHEAD : number + AHEAD + 1])
                if identity is not None:
                    keep(image, identity, pixels)
                bar.update()
    finally:
        pool.shutdown(cancel_futures=True)


VERSION = 1  # of the cache files
CHUNK = 256  # images between two updates of the index: 0.2 GB at 512x512
GB = 1e9
DISK_ADVICE = "free some space, set dataset.cache_folder to another folder, or use dataset.cache=none"


@dataclass(frozen=True)
class ImageSource:
    """Settings for reading and caching the images of a database.

    Args:
        name: Name of the database.
        root: Folder of the images.
        decode: `exact`, or `draft` to decode JPEGs at the smallest scale that is not below twice the squashed size.
        cache: `none`, `ram` or `disk`.
        folder: Folder of the cache files, for `disk`.
    """

    name: str
    root: Path
    decode: str = "exact"
    cache: str = "none"
    folder: Path = Path("cache")

    def opener(self, images: Sequence[str], size: int) -> OpenImage:
        """Return the function that opens these images; adds missing images to the cache first.

        Args:
            images: Paths of the images below the root.
            size: Width and height that the images will be squashed to, in pixels.

        Raises:
            MachineError: The disk is full, or there is not enough memory.
        """
        files = FileImages(self.root, DRAFT_MARGIN * size if self.decode == "draft" else None)
        if self.cache == "none":
            return files
        if self.cache == "ram":
            return CachedImages(files, *fill_ram(self, files, images, size))
        return CachedImages(files, *DiskCache(self, size).fill(files, images))

    def key(self, size: int) -> dict[str, Any]:
        """Return everything but the files that the pixels depend on, such as the version of Pillow."""
        return {
            "version": VERSION,
            "root": str(self.root.resolve()),
            "resize": size,
            "decode": f"draft of {DRAFT_MARGIN} times the size" if self.decode == "draft" else self.decode,
            "pillow": PIL.__version__,
            "jpeg": features.version("libjpeg_turbo") or features.version("jpg"),
        }


def fill_ram(source: ImageSource, files: FileImages, images: Sequence[str], size: int) -> tuple[Rows, "RamPixels"]:
    """Add missing images to the cache in the memory of this process, and return its rows and pixels.

    Splits and runs share it; another image size replaces it.

    Raises:
        MachineError: There is not enough memory.
    """
    key, root = source.key(size), str(source.root.resolve())
    if root not in _RAM or _RAM[root][0] != key:
        _RAM[root] = key, {}, RamPixels()
    _, rows, pixels = _RAM[root]

    def keep(image: str, identity: Identity, squashed: np.ndarray) -> None:
        pixels.append(squashed)
        rows[image] = identity, len(pixels) - 1

    missing = missing_images(rows, files, images)
    advice = "; use dataset.cache=disk or dataset.cache=none"
    require_space(source, len(missing) * row_bytes(size), available_memory(), advice)
    squash_all(files, missing, size, source.name, keep)
    return rows, pixels


def require_space(source: ImageSource, needed: int, free: int | None, advice: str) -> None:
    """Raise an error if more bytes are needed than are free; None if that is unknown."""
    if free is not None and needed > free:
        raise MachineError(
            f"dataset.cache: {source.cache} needs {needed / GB:.1f} GB for {source.name}, but {free / GB:.1f} GB are "
            f"free{advice}"
        )


class RamPixels(list):
    """List of squashed images (size, size, 3) by row. Forked loader workers share it."""

    def __reduce__(self):
        raise UserError(
            "dataset.cache: ram cannot be shared with loader workers on this system, since each would get a copy; use "
            "dataset.cache=disk or train.workers=0"
        )


_RAM: dict[str, tuple[dict[str, Any], Rows, RamPixels]] = {}  # key, rows and pixels by root


class DiskCache:
    """Cache of squashed images in one file of rows, with an index file that lists the complete rows.

    Rows are only appended, and added to the index once they are on disk. So every row in the index is complete, also
    after an interruption and while other processes read. The index names its file of rows, so that the two cannot be
    mixed up with other files.
    """

    def __init__(self, source: ImageSource, size: int):
        self.source = source
        self.size = size
        self.key = source.key(size)
        digest = hashlib.sha256(to_json(self.key).encode(errors="surrogateescape")).hexdigest()[:8]
        self.stem = f"{source.name}_{size}_{source.decode}_{digest}"
        self.folder = source.folder
        self.index = self.folder / f"{self.stem}.json"

    def fill(self, files: FileImages, images: Sequence[str]) -> tuple[Rows, "MappedPixels"]:
        """Add missing images, and return rows and pixels of the cache.

        Raises:
            MachineError: The disk is full or not writable; rows that are complete by then are kept.
        """
        with self._disk_errors(), self._lock():
            rows, path = self._read()
            missing = missing_images(rows, files, images)
            if missing:
                rows, path = self._drop_stale(rows, path, missing)
                missing = missing_images(rows, files, images)
                free, advice = shutil.disk_usage(self.folder).free, f" in {self.folder}; {DISK_ADVICE}"
                require_space(self.source, len(missing) * row_bytes(self.size), free, advice)
                self._add(rows, path, files, missing)
            return rows, MappedPixels(path, self.size, _row_count(rows))

    def _lock(self) -> AbstractContextManager:
        """Lock the cache for writing; readers need no lock."""
        make_folder(self.folder)
        lock = FileLock(self.folder / f"{self.stem}.lock")
        try:
            return lock.acquire(timeout=0)
        except Timeout:
            print(f"waiting for another process to fill {self.index}", file=sys.stderr)
            return lock.acquire()

    @contextmanager
    def _disk_errors(self) -> Iterator[None]:
        """Raise errors of the file system as a MachineError."""
        try:
            yield
        except (OSError, UserError) as error:
            cause = error if isinstance(error, OSError) else error.__cause__
            if not isinstance(cause, OSError):
                raise
            reason = cause.strerror or one_line(cause)
            raise MachineError(f"dataset.cache: {self.folder} cannot be used ({reason}); {DISK_ADVICE}") from error

    def _read(self) -> tuple[Rows, Path]:
        """Return the rows in the index and the file of rows; no rows and a new file if either is incomplete."""
        with suppress(UserError, LookupError, TypeError, ValueError, AttributeError, OSError):
            index = read_object(self.index)
            rows = {image: ((int(size), int(time)), int(row)) for image, (size, time, row) in index["rows"].items()}
            path = self.folder / index["pixels"]
            if index["of"] == self.key and path.stat().st_size >= _row_count(rows) * row_bytes(self.size):
                return rows, path
        return {}, self._new_path()

    def _new_path(self) -> Path:
        return self.folder / f"{self.stem}_{secrets.token_hex(4)}.rows"

    def _drop_stale(self, rows: Rows, path: Path, missing: Sequence[str]) -> tuple[Rows, Path]:
        """Start a new file of rows if most rows are outdated; deletes files of rows that are not in use."""
        wasted = _row_count(rows) - len(rows) + sum(image in rows for image in missing)
        if rows and 2 * wasted > _row_count(rows):
            self.index.unlink()
            rows, path = {}, self._new_path()
        for other in self.folder.glob(f"{self.stem}_*.rows"):
            if other != path:
                other.unlink()  # processes that have it open can still read it
        return rows, path

    def _add(self, rows: Rows, path: Path, files: FileImages, images: Sequence[str]) -> None:
        """Append rows after the complete ones, and add them to the index once they are on disk."""
        first = _row_count(rows)
        numbers = count(first)

        def write_index() -> None:
            file.flush()
            os.fsync(file.fileno())
            plain = {image: (*identity, row) for image, (identity, row) in rows.items()}
            write_text(self.index, to_json({"of": self.key, "pixels": path.name, "rows": plain}))

        def keep(image: str, identity: Identity, pixels: np.ndarray) -> None:
            file.write(np.ascontiguousarray(pixels).data)
            row = next(numbers)
            rows[image] = identity, row
            if (row + 1 - first) % CHUNK == 0:
                write_index()

        with open(path, "r+b" if path.exists() else "w+b") as file:
            file.seek(first * row_bytes(self.size))
            squash_all(files, images, self.size, self.source.name, keep)
            write_index()


class MappedPixels:
    """Memory-mapped squashed images (size, size, 3) by row; processes share the memory."""

    def __init__(self, path: Path, size: int, count: int):
        self.path, self.size, self.count = path, size, count
        shape = (count, size, size, 3)
        try:
            self.rows = np.memmap(path, np.uint8, "r", shape=shape) if count else np.empty(shape, np.uint8)
        except (OSError, ValueError) as error:
            raise MachineError(f"dataset.cache: {path} has gone ({one_line(error)}); {DISK_ADVICE}") from error

    def __getitem__(self, row: int) -> np.ndarray:
        return self.rows[row]

    def __reduce__(self) -> tuple:
        return MappedPixels, (self.path, self.size, self.count)  # instead of a copy of the pixels


def _row_count(rows: Rows) -> int:
    return 1 + max((row for _, row in rows.values()), default=-1)
