"""Pictures squashed once: kept in memory, or in one file on the disk that processes share."""

import hashlib
import os
import secrets
import shutil
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import PIL
from filelock import FileLock, Timeout
from PIL import Image, features

from datasets.transforms import Squash, load_image
from utils.errors import MachineError, UserError, one_line
from utils.files import make_folder, read_object, to_json, write_text
from utils.memory import available_memory
from utils.progress import Progress

Pictures = Callable[[str], Image.Image]  # from a path below the root to an RGB picture
Identity = tuple[int, int]  # of a file: bytes and time of its last change, in ns
Rows = dict[str, tuple[Identity, int]]  # of a cache, by image: which file was squashed, and where that lies
Keep = Callable[[str, Identity, np.ndarray], None]

THREADS = 16  # more than most machines have cores: some wait for the disk
AHEAD = 256  # pictures decoded before they are asked for: 0.2 GB at 512x512


@dataclass(frozen=True)
class FilePictures:
    """Pictures decoded from their files, each time anew.

    Args:
        root: Folder of the images.
        draft_size: None, or the least width and height of a draft; only JPEGs have drafts.
    """

    root: Path
    draft_size: int | None = None

    def __call__(self, image: str) -> Image.Image:
        return load_image(self.root / image, self.draft_size)

    def identity(self, image: str) -> Identity | None:
        """What changes when the file does; None where there is no such file."""
        try:
            status = os.stat(self.root / image)
        except OSError:  # reading it will say why
            return None
        return status.st_size, status.st_mtime_ns

    def squashed(self, image: str, size: int) -> np.ndarray:
        """The picture as (size, size, 3) uint8, as `Squash` leaves it."""
        return np.asarray(Squash(size)(self(image)))


class CachedPictures:
    """Squashed pictures from a cache; from its file what the cache lacks, or what has changed since.

    `Squash` leaves a squashed picture as it is, so that transforms give the same from both.

    Args:
        files: The originals.
        rows: By image, the identity of the file that was squashed, and its row.
        pixels: By row, (size, size, 3) uint8.
    """

    def __init__(self, files: FilePictures, rows: Rows, pixels: Sequence[np.ndarray]):
        self.files = files
        self.rows = rows
        self.pixels = pixels

    def __call__(self, image: str) -> Image.Image:
        identity, row = self.rows.get(image, (None, 0))
        if identity is None or identity != self.files.identity(image):
            return self.files(image)
        return Image.fromarray(self.pixels[row])


def bytes_of(size: int) -> int:
    """Of one squashed picture."""
    return size * size * 3


def missing_in(rows: Rows, files: FilePictures, images: Sequence[str]) -> list[str]:
    """Those of these images that are not in a cache as their files are now."""
    return [image for image in dict.fromkeys(images) if image not in rows or rows[image][0] != files.identity(image)]


def squash_all(files: FilePictures, images: Sequence[str], size: int, title: str, keep: Keep) -> None:
    """Hands image, identity and pixels (size, size, 3) to `keep`, in order, decoded in parallel.

    What cannot be decoded is left out: it is an error where it is asked for, and only there.

    Args:
        files: Where the pictures come from.
        images: Which.
        size: In pixels, of the squash.
        title: For the progress that is shown.
        keep: Called in this thread, while others decode ahead.
    """

    def squash(image: str) -> tuple[Identity | None, np.ndarray | None]:
        identity = files.identity(image)  # before the file is read, so that a change in between is noticed
        try:
            return identity, files.squashed(image, size)
        except UserError:
            return None, None

    progress = Progress(f"cache of {title}", len(images), "image")
    pool = ThreadPoolExecutor(THREADS)
    try:
        ahead = deque(pool.submit(squash, image) for image in images[:AHEAD])
        for number, image in enumerate(images):
            identity, pixels = ahead.popleft().result()
            ahead.extend(pool.submit(squash, later) for later in images[number + AHEAD : number + AHEAD + 1])
            if identity is not None:
                keep(image, identity, pixels)
            progress.update()
    finally:
        pool.shutdown(cancel_futures=True)
        progress.close()


VERSION = 1  # of the files
CHUNK = 256  # pictures from one note of what is whole to the next: 0.2 GB at 512x512
GB = 1e9


@dataclass(frozen=True)
class PictureSource:
    """How the pictures of a database are read, and where they are kept.

    Args:
        name: Of the database.
        root: Folder of the images.
        decode: `exact`, or `draft`: JPEGs decoded at the smallest scale that is not below the squash.
        cache: `none`, `ram` or `disk`.
        folder: Of the files of `disk`.
    """

    name: str
    root: Path
    decode: str = "exact"
    cache: str = "none"
    folder: Path = Path("cache")

    def pictures(self, images: Sequence[str], size: int) -> Pictures:
        """The pictures of these images, to be squashed to `size`; those that the cache lacks are put into it first.

        Raises:
            MachineError: The disk is full, or memory does not suffice.
        """
        files = FilePictures(self.root, size if self.decode == "draft" else None)
        if self.cache == "none":
            return files
        cache = self._in_ram(size) if self.cache == "ram" else DiskCache(self, size)
        return CachedPictures(files, *cache.filled(files, images))

    def key(self, size: int) -> dict[str, Any]:
        """All that the pixels depend on beside the files: another version of Pillow may decode otherwise."""
        return {
            "version": VERSION,
            "root": str(self.root.resolve()),
            "resize": size,
            "decode": self.decode,
            "pillow": PIL.__version__,
            "jpeg": features.version("libjpeg_turbo") or features.version("jpg"),
        }

    def _in_ram(self, size: int) -> "RamCache":
        """The one of this process, which splits and runs share; it takes the place of one of another size."""
        key, root = self.key(size), str(self.root.resolve())
        if root not in _RAM or _RAM[root].key != key:
            _RAM[root] = RamCache(key, self.name, size)
        return _RAM[root]


class RamCache:
    """Squashed pictures in the memory of this process."""

    def __init__(self, key: dict[str, Any], name: str, size: int):
        self.key = key
        self.name = name
        self.size = size
        self.rows: Rows = {}
        self.pixels = RamPixels()

    def filled(self, files: FilePictures, images: Sequence[str]) -> tuple[Rows, "RamPixels"]:
        """Rows and pixels, with these images among them.

        Raises:
            MachineError: Memory does not suffice.
        """
        missing = missing_in(self.rows, files, images)
        free, needed = available_memory(), len(missing) * bytes_of(self.size)
        if free is not None and needed > free:
            raise MachineError(
                f"dataset.cache: ram needs {needed / GB:.1f} GB for {self.name}, and {free / GB:.1f} GB are free; use "
                "dataset.cache=disk, or none"
            )
        squash_all(files, missing, self.size, self.name, self._keep)
        return self.rows, self.pixels

    def _keep(self, image: str, identity: Identity, pixels: np.ndarray) -> None:
        self.pixels.append(pixels)
        self.rows[image] = identity, len(self.pixels) - 1


class RamPixels(list):
    """Squashed pictures (size, size, 3) by row. Loader workers that are forked share them."""

    def __reduce__(self):
        raise UserError(
            "dataset.cache: ram cannot be shared with loader workers on this system, each would hold a copy; use "
            "dataset.cache=disk, or train.workers=0"
        )


_RAM: dict[str, RamCache] = {}  # by root


class DiskCache:
    """Squashed pictures in one file of rows, and an index beside it that says which rows are whole.

    Rows are only ever added, and only then noted in the index: whatever is interrupted, and whoever reads
    meanwhile, what the index names is whole. The index names its file of rows, so that neither is taken for another's.
    """

    def __init__(self, source: PictureSource, size: int):
        self.name = source.name
        self.size = size
        self.key = source.key(size)
        digest = hashlib.sha256(to_json(self.key).encode(errors="surrogateescape")).hexdigest()[:8]
        self.stem = f"{source.name}_{size}_{source.decode}_{digest}"
        self.folder = source.folder
        self.index = self.folder / f"{self.stem}.json"

    def filled(self, files: FilePictures, images: Sequence[str]) -> tuple[Rows, "MappedPixels"]:
        """Rows and pixels, with these images among them.

        Raises:
            MachineError: The disk is full or not writable; what is whole by then is kept.
        """
        with self._writing(), self._lock():
            rows, path = self._read()
            missing = missing_in(rows, files, images)
            if missing:
                rows, path = self._without_waste(rows, path, missing)
                missing = missing_in(rows, files, images)
                self._require_space(len(missing))
                self._add(rows, path, files, missing)
            return rows, MappedPixels(path, self.size)

    @contextmanager
    def _lock(self) -> Iterator[None]:
        """Keeps others from writing; readers need no leave."""
        make_folder(self.folder)
        lock = FileLock(self.folder / f"{self.stem}.lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            print(f"waiting for another process that fills {self.index}", file=sys.stderr)
            lock.acquire()
        try:
            yield
        finally:
            lock.release()

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """What the system says of the disk, as the machine's error."""
        try:
            yield
        except (OSError, UserError) as error:
            cause = error if isinstance(error, OSError) else error.__cause__
            if isinstance(error, MachineError) or not isinstance(cause, OSError):
                raise
            raise MachineError(
                f"dataset.cache: {self.folder} cannot be written ({cause.strerror or one_line(cause)}); make room, "
                "name another folder in dataset.cache_folder, or use dataset.cache=none"
            ) from error

    def _read(self) -> tuple[Rows, Path]:
        """Rows as the index has them and their file; no rows and a new name where the two are not whole."""
        with suppress(UserError, LookupError, TypeError, ValueError, AttributeError, OSError):
            index = read_object(self.index)
            rows = {image: ((int(size), int(time)), int(row)) for image, (size, time, row) in index["rows"].items()}
            path = self.folder / index["pixels"]
            if index["of"] == self.key and path.stat().st_size >= _end(rows) * bytes_of(self.size):
                return rows, path
        return {}, self._new_path()

    def _new_path(self) -> Path:
        return self.folder / f"{self.stem}_{secrets.token_hex(4)}.rows"

    def _without_waste(self, rows: Rows, path: Path, missing: Sequence[str]) -> tuple[Rows, Path]:
        """The same, or a new beginning where most rows are of files that have changed; deletes what nothing names."""
        wasted = _end(rows) - len(rows) + sum(image in rows for image in missing)
        if rows and 2 * wasted > _end(rows):
            self.index.unlink()
            rows, path = {}, self._new_path()
        for other in self.folder.glob(f"{self.stem}_*.rows"):
            if other != path:
                other.unlink()  # those who read it keep it until they end
        return rows, path

    def _require_space(self, count: int) -> None:
        free, needed = shutil.disk_usage(self.folder).free, count * bytes_of(self.size)
        if needed > free:
            raise MachineError(
                f"dataset.cache: disk needs {needed / GB:.1f} GB for {self.name}, and {free / GB:.1f} GB are free in "
                f"{self.folder}; make room, name another folder in dataset.cache_folder, or use dataset.cache=none"
            )

    def _add(self, rows: Rows, path: Path, files: FilePictures, images: Sequence[str]) -> None:
        """Adds rows behind those that are whole, and notes them once they are on the disk."""
        with open(path, "r+b" if path.exists() else "w+b") as file:
            free = _end(rows)
            file.seek(free * bytes_of(self.size))
            written: Rows = {}

            def keep(image: str, identity: Identity, pixels: np.ndarray) -> None:
                file.write(np.ascontiguousarray(pixels).data)
                written[image] = identity, free + len(written)
                if len(written) % CHUNK == 0:
                    self._note(file, path, rows | written)

            squash_all(files, images, self.size, self.name, keep)
            self._note(file, path, rows | written)
        rows.update(written)

    def _note(self, file: BinaryIO, path: Path, rows: Rows) -> None:
        file.flush()
        os.fsync(file.fileno())
        plain = {image: (*identity, row) for image, (identity, row) in rows.items()}
        write_text(self.index, to_json({"of": self.key, "pixels": path.name, "rows": plain}))


class MappedPixels:
    """Squashed pictures (size, size, 3) by row of a file, read as they are asked for; processes share its memory."""

    def __init__(self, path: Path, size: int):
        self.path = path
        self.size = size
        count = path.stat().st_size // bytes_of(size) if path.exists() else 0
        shape = (count, size, size, 3)
        self.rows = np.memmap(path, np.uint8, "r", shape=shape) if count else np.empty(shape, np.uint8)

    def __getitem__(self, row: int) -> np.ndarray:
        return self.rows[row]

    def __reduce__(self) -> tuple:
        return MappedPixels, (self.path, self.size)  # the pixels themselves would be copied


def _end(rows: Rows) -> int:
    return 1 + max((row for _, row in rows.values()), default=-1)
