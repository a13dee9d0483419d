"""Where the pictures of a database come from: its files, or a cache of them squashed."""

import os
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from datasets.transforms import Squash, load_image
from utils.errors import UserError
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

    pool = ThreadPoolExecutor(THREADS)
    progress = Progress(f"cache of {title}", len(images), "image")
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
