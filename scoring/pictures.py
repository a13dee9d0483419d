"""Pictures as they come: of any kind that Pillow reads, to RGB as a person would see them."""

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

LARGE = 32_000_000  # pixels above which pictures are decoded one at a time, so that memory stays bounded
HEIF = (".heic", ".heif")
TURNS = {  # by orientation in EXIF, what makes it upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
POSTSCRIPT = "EPS"
STEREO = "MPO"  # JPEG with further pictures of the same scene, as many cameras write it

_one_large_at_a_time = Lock()


@dataclass(frozen=True)
class PictureSettings:
    """How pictures are read.

    Args:
        max_pixels: Larger ones are refused before they are decoded. In a program of yours Pillow's own limit,
            Image.MAX_IMAGE_PIXELS, holds as well; inference.py lifts it.
        background: Colour that shows through where a picture is transparent.
    """

    max_pixels: int = MAX_PIXELS
    background: str = BACKGROUND

    def __post_init__(self):
        if self.max_pixels < 1:
            raise UserError(f"max_pixels: {self.max_pixels} is not a number of pixels; give 1 or more")
        try:
            ImageColor.getrgb(self.background)
        except ValueError as error:
            raise UserError(
                f"background: {self.background!r} is no colour; give one such as white or '#808080'"
            ) from error

    @property
    def id(self) -> str:
        """What differs from the defaults in a way that changes scores, as records carry it behind the preprocessing."""
        background = f",background={self.background}" if self.background != BACKGROUND else ""
        return background + (",truncated=accept" if ImageFile.LOAD_TRUNCATED_IMAGES else "")


@dataclass(frozen=True)
class Picture:
    """An RGB picture, upright, and what a careful user may want to know of how it came about."""

    image: Image.Image
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Encoded:
    """An image file that does not lie on this machine's disk: inside an archive or a table, or in an object store.

    Args:
        name: What errors and records call it.
        read: Gives its bytes; raises as `open_picture`.
    """

    name: str
    read: Callable[[], bytes]


@contextmanager
def opened_picture(
    source: str | Path | Encoded | Image.Image, settings: PictureSettings = PictureSettings(), coarse: int | None = None
) -> Iterator[Picture]:
    """Reads an image; until the end of the block no other large picture is decoded, so that memory stays bounded.

    Args:
        source: The file, its path, or an image that Pillow has opened.
        settings: How it is read.
        coarse: Pixels; a JPEG may then be decoded at a fraction of its size, which is quick, with no side shorter than
            this. None: in full.

    Raises:
        MissingFileError: No such file.
        UserError: Not a file, not an image, damaged, or larger than `settings.max_pixels`.
    """
    with ExitStack() as held:
        if isinstance(source, Image.Image):
            with _in_our_words("the image"):
                picture = _as_seen(source, settings, held)
        else:
            picture = _read(source, settings, coarse, held)
        yield picture


def open_picture(source: str | Path | Encoded | Image.Image, settings: PictureSettings = PictureSettings()) -> Picture:
    """The same, for those who open one picture at a time."""
    with opened_picture(source, settings) as picture:
        return picture


def _read(source: str | Path | Encoded, settings: PictureSettings, coarse: int | None, held: ExitStack) -> Picture:
    name = source.name if isinstance(source, Encoded) else source
    file = _bytes_of(source) if isinstance(source, Encoded) else _require_file(source)
    with _in_our_words(name), _opened(file, name) as image:
        if coarse is not None:
            _require_few_pixels(image, settings)  # of the whole picture
            image.draft(None, (coarse, coarse))
        return _as_seen(image, settings, held)


@contextmanager
def _in_our_words(name: str | Path) -> Iterator[None]:
    """Whatever a plugin of Pillow raises on bytes made to break it, as an error of this file."""
    try:
        with image_errors(name):
            yield
    except UserError:
        raise
    except MemoryError as error:
        raise UserError(f"{name} cannot be decoded: not enough memory") from error
    except Exception as error:
        raise UserError(f"{name} cannot be decoded: {type(error).__name__}: {one_line(error)}") from error


def _as_seen(image: Image.Image, settings: PictureSettings, held: ExitStack) -> Picture:
    """An opened image as a person sees it: the first frame, turned as EXIF says, transparency over the background.

    Colour profiles are left alone, as by the release. A large picture's turn to be decoded is `held`.
    """
    if image.format == POSTSCRIPT:
        raise UserError("PostScript is a program and is not run; save it as an image")
    _require_few_pixels(image, settings)
    if image.width * image.height > LARGE:
        held.enter_context(_one_large_at_a_time)
    image.load()
    notes = [*_notes_of_kind(image)]
    upright, turned = _upright(image)
    flat, was_transparent = _flattened(upright, settings.background)
    notes += [turned] if turned else []
    notes += [f"transparency over {settings.background}"] if was_transparent else []
    return Picture(to_rgb(flat), tuple(notes))


def accept_truncated() -> None:
    """From here on this process takes truncated files for what there is of them, the rest blank."""
    ImageFile.LOAD_TRUNCATED_IMAGES = True


def _bytes_of(source: Encoded) -> io.BytesIO:
    content = source.read()
    if not content:
        raise UserError(f"{source.name} is empty")
    return io.BytesIO(content)


def _require_file(path: str | Path) -> str | Path:
    """The path; tells what is no file from one that cannot be read, before a pipe is waited for."""
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


def _require_few_pixels(image: Image.Image, settings: PictureSettings) -> None:
    width, height = image.size
    if width * height > settings.max_pixels:
        raise UserError(
            f"{width}x{height} is {width * height} pixels, more than the {settings.max_pixels} that are decoded; "
            "--max-pixels (in Python, max_pixels of PictureSettings) sets another limit"
        )


def _opened(file: str | Path | io.BytesIO, name: str | Path) -> Image.Image:
    try:
        return Image.open(file)
    except UnidentifiedImageError as error:
        if os.path.splitext(name)[1].lower() not in HEIF:
            raise
        if not _heif_registered():
            raise UserError("HEIC needs the package pillow-heif; `pip install pillow-heif`") from error
        return Image.open(file)


def _heif_registered() -> bool:
    """Whether the plugin for HEIC is there; it is not one of the packages that are required."""
    try:
        from pillow_heif import register_heif_opener  # noqa: PLC0415, optional
    except ImportError:
        return False
    register_heif_opener()
    return True


def _notes_of_kind(image: Image.Image) -> list[str]:
    notes = []
    if getattr(image, "is_animated", False) and image.format != STEREO:
        notes.append("first frame of several")
    profile = image.info.get("icc_profile") or b""
    if profile and b"sRGB" not in profile.replace(b"\0", b""):  # names in profiles are UTF-16, or plain
        notes.append("colour profile left alone")
    return notes


def _upright(image: Image.Image) -> tuple[Image.Image, str]:
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation)
    except MemoryError:
        raise
    except Exception:  # EXIF is of little weight: what cannot be read of it is said, not made an error
        return image, "EXIF cannot be read"
    if orientation not in TURNS:
        return image, ""
    return image.transpose(TURNS[orientation]), "turned as EXIF says"


def _flattened(image: Image.Image, background: str) -> tuple[Image.Image, bool]:
    """Without transparency, and whether there was any."""
    if image.mode.startswith(("I", "F")) or not image.has_transparency_data:
        return image, False
    rgba = image.convert("RGBA")
    if rgba.getchannel("A").getextrema() == (255, 255):
        return rgba.convert("RGB"), False
    canvas = Image.new("RGBA", rgba.size, (*ImageColor.getrgb(background)[:3], 255))
    return Image.alpha_composite(canvas, rgba).convert("RGB"), True


CHANNELS = (1, 3, 4)


def to_picture(image: Any) -> Image.Image:
    """A picture from a PIL image, a uint8 array (H, W) or (H, W, C), or a tensor (C, H, W), uint8 or float in 0..1.

    Raises:
        UserError: Another type, shape or range.
    """
    if isinstance(image, Image.Image):
        return image
    if isinstance(image, Tensor):
        return _from_array(_pixels_of(image))
    if isinstance(image, np.ndarray):
        return _from_array(image)
    kind = type(image).__name__
    raise UserError(f"an image is a path, a PIL image, a uint8 array or a tensor, got {kind}")


def _pixels_of(tensor: Tensor) -> np.ndarray:
    """A tensor (C, H, W) or (H, W) as an array (H, W, C) or (H, W)."""
    tensor = tensor.detach().cpu()
    if tensor.is_floating_point():
        low, high = (float(end) for end in tensor.aminmax()) if tensor.numel() else (0.0, 0.0)
        if not (low >= 0 and high <= 1):
            raise UserError(f"a float tensor of an image lies in 0..1, got {low:g} to {high:g}; scale it, or use uint8")
        tensor = (tensor.float() * 255).round().to(torch.uint8)
    if tensor.dim() == 3 and tensor.shape[0] not in CHANNELS:
        raise UserError(f"a tensor of an image is (C, H, W) with C 1, 3 or 4, got {tuple(tensor.shape)}")
    return (tensor.permute(1, 2, 0) if tensor.dim() == 3 else tensor).numpy()


def _from_array(array: np.ndarray) -> Image.Image:
    if array.dtype != np.uint8:
        raise UserError(f"an array of an image is uint8, got {array.dtype}; scale it to 0..255 and convert it")
    flat = array.ndim == 2 or (array.ndim == 3 and array.shape[2] in CHANNELS)
    if not flat or 0 in array.shape:
        raise UserError(f"an array of an image is (H, W), (H, W, 3) or (H, W, 4), got {array.shape}")
    single = array[:, :, 0] if array.ndim == 3 and array.shape[2] == 1 else array
    return Image.fromarray(np.ascontiguousarray(single))
