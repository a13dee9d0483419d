"""Image files of a database: formats, sizes, unreadable files and duplicates."""

import hashlib
import io
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from datasets.decoding import decode, image_errors, orientation, require_file, require_known_range, to_rgb
from utils.errors import UserError

THREADS = 16  # enough to keep a network drive busy

Array = np.ndarray
Progress = Callable[[Iterable], Iterable]


@dataclass(frozen=True)
class ImageFile:
    """Properties of one image file. `error` says why it cannot be read; `digest` is that of its bytes, if decoded."""

    image: str
    kind: str = ""
    width: int = 0
    height: int = 0
    rotated: bool = False
    digest: str = ""
    error: str = ""


def inspect_images(root: Path, images: Sequence[str], decode: bool, progress: Progress = iter) -> list[ImageFile]:
    """Read the header of every image, or with `decode` the whole image.

    Args:
        root: Folder of the images.
        images: Paths of the images below the root.
        decode: Whether to decode the pixels and to compute a digest of the bytes, which finds duplicates.
        progress: Wrapper of the iteration, such as a progress bar.
    """
    with ThreadPoolExecutor(THREADS) as pool:
        return list(progress(pool.map(lambda image: inspect_image(root, image, decode), images)))


def inspect_image(root: Path, image: str, decoded: bool) -> ImageFile:
    """Read one image, see `inspect_images`."""
    path = root / image

    def properties(opened: Image.Image, _complete: bool) -> ImageFile:
        kind, (width, height) = opened.format or "", opened.size
        # without the first condition PNG reads all pixels
        rotated = "exif" in opened.info and orientation(opened) not in (None, 1)
        require_known_range(opened)
        if decoded:
            to_rgb(opened)
        return ImageFile(image, kind, width, height, rotated, digest)

    try:
        file = require_file(path)
        with image_errors(path):
            content = path.read_bytes() if decoded else b""
            digest = hashlib.sha256(content).hexdigest() if decoded else ""
            return decode(io.BytesIO(content) if decoded else file, properties)
    except UserError as error:
        return ImageFile(image, error=str(error))


def equal_files(files: Sequence[ImageFile]) -> list[list[str]]:
    """Return groups of images whose files are identical; needs digests."""
    groups: dict[str, list[str]] = {}
    for file in files:
        if file.digest:
            groups.setdefault(file.digest, []).append(file.image)
    return [group for group in groups.values() if len(group) > 1]


def describe_files(files: Sequence[ImageFile]) -> str:
    """Return a summary: `JPEG 627, BMP 535; 342x500 to 500x832 pixels; 3 rotated by EXIF, read as stored`."""
    there = [file for file in files if not file.error]
    if not there:
        return "none readable"
    kinds = ", ".join(f"{kind} {count}" for kind, count in Counter(file.kind for file in there).most_common())
    smallest, largest = (pick(there, key=lambda file: file.width * file.height) for pick in (min, max))
    size = f"{smallest.width}x{smallest.height} to {largest.width}x{largest.height} pixels"
    rotated = sum(file.rotated for file in there)
    return f"{kinds}; {size}" + (f"; {rotated} rotated by EXIF, read as stored" if rotated else "")
