"""Decoding of image files to RGB, shared by training and scoring.

A file is identified by its content, whatever its name. Metadata that cannot be read are left out, see
`datasets.metadata`.
"""

import io
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from datasets.metadata import without_metadata
from utils.errors import MissingFileError, UserError, one_line

PILLOW_ERRORS = (OSError, SyntaxError, ValueError, RuntimeError, Image.DecompressionBombError)  # raised by its plugins
HEAD_BYTES = 512  # enough for all of CONTENTS
HEIF_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1"}
CONTENTS = (  # what is often called an image: name, offset and first bytes
    ("an archive (zip); unpack it", 0, (b"PK\x03\x04", b"PK\x05\x06")),
    ("an archive (tar); unpack it", 257, (b"ustar",)),
    (
        "an archive or compressed file; unpack it",
        0,
        (b"\x1f\x8b", b"BZh", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd", b"7z\xbc\xaf", b"Rar!"),
    ),
    ("a Parquet table", 0, (b"PAR1",)),
    ("a PDF", 0, (b"%PDF",)),
    ("a JPEG XL file, which Pillow does not read; convert it", 0, (b"\xff\x0a", b"\0\0\0\x0cJXL ")),
    ("a pointer of Git LFS to a file; `git lfs pull` fetches it", 0, (b"version https://git-lfs",)),
    (
        "a web page; its download went wrong",
        0,
        (b"<!doctype html", b"<!DOCTYPE html", b"<!DOCTYPE HTML", b"<html", b"<HTML"),
    ),
    ("a drawing (SVG); save it as PNG", 0, (b"<svg", b"<?xml")),
    ("a video or another file of its kind", 4, (b"ftyp",)),
)
POSTSCRIPT = "EPS"  # Pillow's name
LARGEST_16_BITS = 65535
DRAFT_MARGIN = 2  # of the sides of a draft to those that it is squashed to; without, the MOS falls noticeably
BITS_PER_SAMPLE, PHOTOMETRIC, WHITE_IS_ZERO = 258, 262, 0  # TIFF tags, and a value

Array = np.ndarray
File = str | Path | io.BytesIO
T = TypeVar("T")


class OtherContentError(UnidentifiedImageError):
    """A file whose content is known and not an image; the message says what it is."""


def load_image(path: str | Path, draft_size: int | None = None) -> Image.Image:
    """Load an image file as RGB.

    Args:
        path: Path of the file.
        draft_size: Smallest width and height to which a JPEG may be reduced while decoding, by halving up to three
            times; None for full size.

    Raises:
        MissingFileError: The file does not exist.
        UserError: The file is not an image that Pillow can read.
    """

    def to_size(image: Image.Image, _complete: bool) -> Image.Image:
        if draft_size is not None:
            image.draft(None, (draft_size, draft_size))
        return to_rgb(image)

    file = require_file(path)
    with image_errors(path):
        return decode(file, to_size)


def decode(source: File | Image.Image, use: Callable[[Image.Image, bool], T]) -> T:
    """Open an image and return what a function makes of it; if that fails, once more without the file's metadata.

    Args:
        source: A path, an encoded image, or an image that is open.
        use: Called with the opened image, whose pixels it loads, and whether the metadata are complete.

    Raises:
        UserError: The file is a program.
        Exception: Whatever Pillow and its plugins raise; `image_errors` turns it into a UserError.
    """
    is_open = isinstance(source, Image.Image)
    file = getattr(source, "fp", None) if is_open else source  # before it is loaded
    try:
        with nullcontext(source) if is_open else open_image(source) as image:
            _require_no_program(image)
            return use(image, True)
    except (UserError, MemoryError):
        raise
    except Exception as error:
        pixels = without_metadata(file)
        if pixels is None:
            raise
        try:
            with open_image(io.BytesIO(pixels)) as image:
                return use(image, False)
        except UserError:
            raise
        except Exception:  # it was not for the metadata
            raise error from None


def _require_no_program(image: Image.Image) -> None:
    """Raise an error for PostScript, which Pillow would let Ghostscript run."""
    if image.format == POSTSCRIPT:
        raise UserError("PostScript files are programs and are not run; save it as an image")


def open_image(file: File) -> Image.Image:
    """Open an image by its content; reads the header only.

    Raises:
        UserError: The file is HEIC and pillow-heif is not installed.
        OtherContentError: The file is something else that is known.
    """
    try:
        return Image.open(file)
    except UnidentifiedImageError as error:
        head = _head(file)
        if not is_heif(head):
            raise (_named(head) or error) from None
        try:
            from pillow_heif import register_heif_opener  # noqa: PLC0415, optional
        except ImportError:
            raise UserError("HEIC needs the package pillow-heif; `pip install pillow-heif`") from error
        register_heif_opener()
        return Image.open(file)


def is_heif(head: bytes) -> bool:
    """Return whether the first bytes of a file are those of HEIF, the format of phones."""
    return head[4:8] == b"ftyp" and head[8:12] in HEIF_BRANDS


def _head(file: File) -> bytes:
    if isinstance(file, io.BytesIO):
        return file.getvalue()[:HEAD_BYTES]
    with open(file, "rb") as opened:
        return opened.read(HEAD_BYTES)


def _named(head: bytes) -> UnidentifiedImageError | None:
    for name, offset, beginnings in CONTENTS:
        if head[offset:].startswith(beginnings):
            return OtherContentError(name)
    return None


@contextmanager
def image_errors(path: str | Path) -> Iterator[None]:
    """Turn any error from Pillow and its plugins into a UserError that names the file."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    except FileNotFoundError as error:
        raise MissingFileError(f"image {path} does not exist") from error
    except OtherContentError as error:
        raise UserError(f"{path} is not an image but {error}") from error
    except UnidentifiedImageError as error:
        raise UserError(f"{path} is not an image that Pillow can read") from error
    except MemoryError as error:
        raise UserError(f"{path} cannot be decoded: not enough memory") from error
    except PILLOW_ERRORS as error:
        raise UserError(f"{path} cannot be decoded: {one_line(error)}") from error
    except Exception as error:
        raise UserError(f"{path} cannot be decoded: {type(error).__name__}: {one_line(error)}") from error


def require_file(path: str | Path) -> str | Path:
    """Return the path if it is a readable regular file; a pipe would block, and other errors would be less clear."""
    try:
        mode = os.stat(path)
    except FileNotFoundError as error:
        if os.path.islink(path):
            raise MissingFileError(f"{path} is a link to {os.readlink(path)}, which does not exist") from error
        raise MissingFileError(f"image {path} does not exist") from error
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read: {one_line(error)}") from error
    if stat.S_ISDIR(mode.st_mode):
        raise UserError(f"{path} is a folder, not an image")
    if not stat.S_ISREG(mode.st_mode):
        raise UserError(f"{path} is not a file but a device, pipe or socket")
    if mode.st_size == 0:
        raise UserError(f"{path} is empty")
    return path


def orientation(image: Image.Image) -> int | None:
    """Return the EXIF orientation, 1 if upright or absent, None if the EXIF data cannot be read."""
    try:
        return image.getexif().get(ExifTags.Base.Orientation, 1)
    except MemoryError:
        raise
    except Exception:  # damaged EXIF is no reason not to read the pixels
        return None


def to_rgb(image: Image.Image) -> Image.Image:
    """Convert an image of any mode to RGB; transparency is dropped.

    16 bits are scaled to 8; Pillow alone, and the release, would clip them.

    Raises:
        UserError: The range of values is unknown: floats, or integers beyond 16 bits.
    """
    return to_8_bits(image).convert("RGB")


def to_8_bits(image: Image.Image) -> Image.Image:
    """Return an image with 8 bits per channel, in a mode that Pillow converts to RGB and RGBA.

    Raises:
        UserError: As for `to_rgb`.
    """
    require_known_range(image)
    if image.mode == "La":  # Pillow converts premultiplied grey only to this mode
        return image.convert("LA")
    if not image.mode.startswith("I"):
        return image
    values, tags = np.asarray(image), getattr(image, "tag_v2", {})
    if values.min() < 0 or values.max() > LARGEST_16_BITS:
        raise UserError(
            f"an integer image with values {values.min()}..{values.max()} is beyond 16 bits; scale them to 0..65535"
        )
    grey = from_16_bits(values, 2 ** min(bits_per_sample(image), 16) - 1)
    if tags.get(PHOTOMETRIC) == WHITE_IS_ZERO:  # Pillow inverts 8 bits only
        grey = 255 - grey
    key = image.info.get("transparency")
    if key is None:
        return Image.fromarray(grey)
    return Image.merge(
        "LA", [Image.fromarray(plane) for plane in (grey, np.where(values == key, 0, 255).astype(np.uint8))]
    )


def from_16_bits(values: Array, largest: int = LARGEST_16_BITS) -> Array:
    """Return integers in 0..largest scaled to 0..255 and rounded, as uint8."""
    return ((values.astype(np.uint32) * 510 + largest) // (2 * largest)).astype(np.uint8)


def require_known_range(image: Image.Image) -> None:
    """Raise an error for an image of floats or 32-bit integers, whose range is unknown; needs only the header."""
    integers = image.mode == "I" and bits_per_sample(image) > 16
    if integers or image.mode == "F":
        kind = "32-bit integers" if integers else "floats"
        raise UserError(f"an image of {kind} has no known range of values; save it with 8 or 16 bits")


def bits_per_sample(image: Image.Image) -> int:
    """Return the bits of each value of an image."""
    if not image.mode.startswith(("I", "F")):
        return 1 if image.mode == "1" else 8
    if image.format == "TIFF":
        return max(image.tag_v2.get(BITS_PER_SAMPLE, (1,)))
    return 16 if image.mode.startswith("I;") or image.format in ("PNG", "PPM") else 32  # these files have no more
