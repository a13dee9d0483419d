"""A database under the magnifying glass: its image files, and figures that describe its labels."""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from datasets.labels import fit_sos_a, hypothesis_label
from datasets.scale import RatingScale
from datasets.transforms import errors_of, to_rgb
from utils.errors import UserError

THREADS = 16
ORIENTATION = 0x0112  # of EXIF; 1 is upright

Array = np.ndarray
Progress = Callable[[Iterable], Iterable]


@dataclass(frozen=True)
class ImageFile:
    """What one image file is; `error` says why it cannot be read, and `digest` is of its bytes where all were read."""

    image: str
    kind: str = ""
    width: int = 0
    height: int = 0
    turned: bool = False
    digest: str = ""
    error: str = ""


def inspect_images(root: Path, images: Sequence[str], decode: bool, progress: Progress = iter) -> list[ImageFile]:
    """Opens every image: its header alone, or with `decode` all of it.

    Args:
        root: Folder of the images.
        images: Paths below it.
        decode: Whether to decode the pixels and to take a digest of the bytes, which finds equal files.
        progress: Wraps the iteration, such as a progress bar.
    """
    with ThreadPoolExecutor(THREADS) as pool:
        return list(progress(pool.map(lambda image: inspect_image(root, image, decode), images)))


def inspect_image(root: Path, image: str, decode: bool) -> ImageFile:
    """One of `inspect_images`."""
    path = root / image
    try:
        with errors_of(path), Image.open(path) as picture:
            kind, (width, height) = picture.format or "", picture.size
            turned = "exif" in picture.info and picture.getexif().get(ORIENTATION, 1) != 1  # else PNG reads all of it
            if decode:
                to_rgb(picture)
        digest = hashlib.sha256(path.read_bytes()).hexdigest() if decode else ""
    except UserError as error:
        return ImageFile(image, error=str(error))
    return ImageFile(image, kind, width, height, turned, digest)


def equal_files(files: Sequence[ImageFile]) -> list[list[str]]:
    """Images that are the same bytes under several names; needs digests."""
    groups: dict[str, list[str]] = {}
    for file in files:
        if file.digest:
            groups.setdefault(file.digest, []).append(file.image)
    return [group for group in groups.values() if len(group) > 1]


def describe_files(files: Sequence[ImageFile]) -> str:
    """`JPEG 627, BMP 535; 342x500 to 500x832 pixels; 3 turned by EXIF (read as stored)`."""
    there = [file for file in files if not file.error]
    if not there:
        return "none readable"
    kinds = ", ".join(f"{kind} {count}" for kind, count in Counter(file.kind for file in there).most_common())
    smallest, largest = (pick(there, key=lambda file: file.width * file.height) for pick in (min, max))
    size = f"{smallest.width}x{smallest.height} to {largest.width}x{largest.height} pixels"
    turned = sum(file.turned for file in there)
    return f"{kinds}; {size}" + (f"; {turned} turned by EXIF, read as stored" if turned else "")


def sos_hypothesis(mos: Array, sos: Array, scale: RatingScale) -> tuple[float, float]:
    """Parameter a fitted to MOS (N,) and SOS (N,), and the share R^2 of the variance of SOS^2 that it explains."""
    a = fit_sos_a(mos, sos, scale)
    residual = sos**2 - hypothesis_label(mos, a, scale) ** 2
    total = ((sos**2 - (sos**2).mean()) ** 2).sum()
    r2 = 1 - (residual**2).sum() / total if total > 0 else float("nan")
    return a, float(r2)
