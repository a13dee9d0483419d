"""Read images of any kind that Pillow supports, and convert them to upright RGB pictures."""

import io
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import torch
from PIL import ExifTags, Image, ImageColor, ImageFile, UnidentifiedImageError
from torch import Tensor

from datasets.transforms import image_errors, to_rgb
from scoring.defaults import BACKGROUND, MAX_PIXELS
from utils.errors import MissingFileError, UserError, one_line

LARGE = 32_000_000  # pixels; larger pictures are decoded one at a time to limit memory
HEIF = (".heic", ".heif")
UPRIGHT = {  # transposition for each EXIF orientation
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
POSTSCRIPT = "EPS"
STEREO = "MPO"  # JPEG with more pictures of the same scene, written by many cameras

CHANNELS = (1, 3, 4)

_large_picture_lock = Lock()


@dataclass(frozen=True)
class PictureSettings:
    """Settings for reading pictures.

    Args:
        max_pixels: Larger pictures are refused before they are decoded. In your own programs Pillow's limit
            Image.MAX_IMAGE_PIXELS also applies; inference.py removes it.
        background: Colour behind transparent pixels.
    """

    max_pixels: int = MAX_PIXELS
    background: str = BACKGROUND

    def __post_init__(self):
        if self.max_pixels < 1:
            raise UserError(f"max_pixels: {self.max_pixels} is not allowed; use 1 or more")
        try:
            ImageColor.getrgb(self.background)
        except ValueError as error:
            raise UserError(
                f"background: {self.background!r} is not a colour; use one such as white or '#808080'"
            ) from error

    @property
    def id(self) -> str:
        """Settings that change scores and differ from the defaults, appended to the preprocessing in score rows."""
        background = f",background={self.background}" if self.background != BACKGROUND else ""
        return background + (",truncated=accept" if ImageFile.LOAD_TRUNCATED_IMAGES else "")


@dataclass(frozen=True)
class Picture:
    """An upright RGB picture, with notes on how it was read."""

    image: Image.Image
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Encoded:
    """An encoded image that is not a local file: in an archive, a table or an object store.

    Args:
        name: Name in errors and score rows.
        read: Returns its bytes; raises as `open_picture` does.
    """

    name: str
    read: Callable[[], bytes]


@contextmanager
def opened_picture(
    source: str | Path | Encoded | Image.Image, settings: PictureSettings = PictureSettings(), coarse: int | None = None
) -> Iterator[Picture]:
    """Read an image; other large pictures wait until the end of the block, which limits memory.

    Args:
        source: A path, an encoded image, or an image opened by Pillow.
        settings: How it is read.
        coarse: Decode a JPEG at a fraction of its size, which is faster, with no side shorter than this in pixels;
            None decodes in full.

    Raises:
        MissingFileError: The file does not exist.
        UserError: It is not a file or not an image, is damaged, or is larger than `settings.max_pixels`.
    """
    with ExitStack() as locks:
        if isinstance(source, Image.Image):
            with _decoding_errors("the image"):
                picture = _to_upright_rgb(source, settings, coarse, locks)
        else:
            encoded = isinstance(source, Encoded)
            name, file = (source.name, _encoded_file(source)) if encoded else (source, _require_file(source))
            with _decoding_errors(name), _open_image(file, name) as image:
                picture = _to_upright_rgb(image, settings, coarse, locks)
        yield picture


@contextmanager
def _decoding_errors(name: str | Path) -> Iterator[None]:
    """Turn any error from a Pillow plugin into a UserError that names the file."""
    try:
        with image_errors(name):
            yield
    except UserError:
        raise
    except MemoryError as error:
        raise UserError(f"{name} cannot be decoded: not enough memory") from error
    except Exception as error:
        raise UserError(f"{name} cannot be decoded: {type(error).__name__}: {one_line(error)}") from error


def _to_upright_rgb(image: Image.Image, settings: PictureSettings, coarse: int | None, locks: ExitStack) -> Picture:
    """Convert the first frame to RGB, turned as EXIF says, with the background behind transparent pixels.

    Colour profiles are ignored, as in the release. The lock for large pictures is added to `locks`.
    """
    if image.format == POSTSCRIPT:
        raise UserError("PostScript files are programs and are not run; save it as an image")
    width, height = image.size
    if width * height > settings.max_pixels:
        raise UserError(
            f"{width}x{height} is {width * height} pixels, more than the limit of {settings.max_pixels}; change it "
            "with --max-pixels (in Python, PictureSettings.max_pixels)"
        )
    if coarse is not None:
        image.draft(None, (coarse, coarse))
    if image.width * image.height > LARGE:
        locks.enter_context(_large_picture_lock)
    image.load()
    notes = []
    if getattr(image, "is_animated", False) and image.format != STEREO:
        notes.append("first frame of several")
    profile = image.info.get("icc_profile") or b""
    if profile and b"sRGB" not in profile.replace(b"\0", b""):  # names in profiles are UTF-16 or ASCII
        notes.append("colour profile ignored")
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation)
    except MemoryError:
        raise
    except Exception:  # damaged EXIF is a note, not an error
        notes.append("EXIF cannot be read")
    else:
        if orientation in UPRIGHT:
            image = image.transpose(UPRIGHT[orientation])
            notes.append("turned as EXIF says")
    if image.has_transparency_data and not image.mode.startswith(("I", "F")):
        image = image.convert("RGBA")
        if image.getchannel("A").getextrema() != (255, 255):
            canvas = Image.new("RGBA", image.size, (*ImageColor.getrgb(settings.background)[:3], 255))
            image = Image.alpha_composite(canvas, image)
            notes.append(f"transparency over {settings.background}")
    return Picture(to_rgb(image), tuple(notes))


def _encoded_file(source: Encoded) -> io.BytesIO:
    content = source.read()
    if not content:
        raise UserError(f"{source.name} is empty")
    return io.BytesIO(content)


def _require_file(path: str | Path) -> str | Path:
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


def _open_image(file: str | Path | io.BytesIO, name: str | Path) -> Image.Image:
    try:
        return Image.open(file)
    except UnidentifiedImageError as error:
        if os.path.splitext(name)[1].lower() not in HEIF:
            raise
        try:
            from pillow_heif import register_heif_opener  # noqa: PLC0415, optional
        except ImportError:
            raise UserError("HEIC needs the package pillow-heif; `pip install pillow-heif`") from error
        register_heif_opener()
        return Image.open(file)


def to_picture(image: Any) -> Image.Image:
    """Convert a PIL image, a uint8 array (H, W) or (H, W, C), or a tensor (C, H, W), uint8 or float from 0 to 1.

    Raises:
        UserError: The type, shape or range is not supported.
    """
    if isinstance(image, Image.Image):
        return image
    array = _to_array(image) if isinstance(image, Tensor) else image
    if not isinstance(array, np.ndarray):
        raise UserError(f"an image is a path, a PIL image, a uint8 array or a tensor, got {type(image).__name__}")
    if array.dtype != np.uint8:
        raise UserError(f"an image array is uint8, got {array.dtype}; scale it to 0..255 and convert it")
    flat = array.ndim == 2 or (array.ndim == 3 and array.shape[2] in CHANNELS)
    if not flat or 0 in array.shape:
        raise UserError(f"an image array is (H, W), (H, W, 3) or (H, W, 4), got {array.shape}")
    single = array[:, :, 0] if array.ndim == 3 and array.shape[2] == 1 else array
    return Image.fromarray(np.ascontiguousarray(single))


def _to_array(tensor: Tensor) -> np.ndarray:
    """Convert a tensor (C, H, W) or (H, W) to a uint8 array (H, W, C) or (H, W)."""
    tensor = tensor.detach().cpu()
    if tensor.is_floating_point():
        low, high = (float(end) for end in tensor.aminmax()) if tensor.numel() else (0.0, 0.0)
        if not (low >= 0 and high <= 1):
            raise UserError(
                f"a float image tensor has values from 0 to 1, got {low:g} to {high:g}; scale it, or use uint8"
            )
        tensor = (tensor.float() * 255).round().to(torch.uint8)
    if tensor.dim() == 3 and tensor.shape[0] not in CHANNELS:
        raise UserError(f"an image tensor is (C, H, W) with C 1, 3 or 4, got {tuple(tensor.shape)}")
    return (tensor.permute(1, 2, 0) if tensor.dim() == 3 else tensor).numpy()
