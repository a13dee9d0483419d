"""Pictures as they come: of any kind that Pillow reads, to RGB as a person would see them."""

import io
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

from PIL import ExifTags, Image, ImageColor, ImageFile, ImageOps, UnidentifiedImageError

from datasets.transforms import errors_of, to_rgb
from scoring.options import BACKGROUND, MAX_PIXELS
from utils.errors import MissingFileError, UserError, one_line

LARGE = 32_000_000  # pixels above which pictures are decoded one at a time, so that memory stays bounded
HEIF = (".heic", ".heif")
UPRIGHT = 1
STEREO = "MPO"  # JPEG with further pictures of the same scene, as many cameras write it

_one_large_at_a_time = Lock()


@dataclass(frozen=True)
class PictureSettings:
    """How pictures are read.

    Args:
        max_pixels: Larger ones are refused before they are decoded.
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


def open_picture(
    source: str | Path | Encoded, settings: PictureSettings = PictureSettings(), coarse: int | None = None
) -> Picture:
    """Reads an image file.

    Args:
        source: The file, or its path.
        settings: How it is read.
        coarse: Pixels; a JPEG may then be decoded at a fraction of its size, which is quick, with no side shorter than
            this. None: in full.

    Raises:
        MissingFileError: No such file.
        UserError: Not a file, not an image, damaged, or larger than `settings.max_pixels`.
    """
    name = source.name if isinstance(source, Encoded) else source
    file = _bytes_of(source) if isinstance(source, Encoded) else _require_file(source)
    try:
        with errors_of(name), _opened(file, name) as image:
            if coarse is not None:
                _require_few_pixels(image, settings)  # of the whole picture
                image.draft(None, (coarse, coarse))
            return as_seen(image, settings)
    except UserError:
        raise
    except MemoryError as error:
        raise UserError(f"{name} cannot be decoded: not enough memory") from error
    except Exception as error:  # whatever a plugin of Pillow raises on bytes made to break it, the next file is scored
        raise UserError(f"{name} cannot be decoded: {type(error).__name__}: {one_line(error)}") from error


def as_seen(image: Image.Image, settings: PictureSettings = PictureSettings()) -> Picture:
    """An opened image as a person sees it: the first frame, turned as EXIF says, transparency over the background.

    Colour profiles are left alone, as by the release.

    Raises:
        UserError: Too many pixels, or a mode whose range of values is not known; and what Pillow raises.
    """
    _require_few_pixels(image, settings)
    if image.width * image.height > LARGE:
        with _one_large_at_a_time:
            image.load()
    image.load()
    notes = [*_notes_of_kind(image)]
    upright, turned = _upright(image)
    flat, was_transparent = _flattened(upright, settings.background)
    notes += [turned] if turned else []
    notes += [f"transparency over {settings.background}"] if was_transparent else []
    return Picture(to_rgb(flat), tuple(notes))


def accept_truncated() -> None:
    """From here on this process takes truncated files for what there is of them, the rest grey."""
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
            "--max-pixels sets another limit"
        )


def _opened(file: str | Path | io.BytesIO, name: str | Path) -> Image.Image:
    try:
        return Image.open(file)
    except UnidentifiedImageError:
        if os.path.splitext(name)[1].lower() in HEIF and _heif_registered():
            return Image.open(file)
        raise


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
        if image.getexif().get(ExifTags.Base.Orientation, UPRIGHT) == UPRIGHT:
            return image, ""
        return ImageOps.exif_transpose(image), "turned as EXIF says"
    except Exception:  # EXIF is of little weight: what cannot be read of it is said, not made an error
        return image, "EXIF cannot be read"


def _flattened(image: Image.Image, background: str) -> tuple[Image.Image, bool]:
    """Without transparency, and whether there was any."""
    if image.mode.startswith(("I", "F")) or not image.has_transparency_data:
        return image, False
    rgba = image.convert("RGBA")
    if rgba.getchannel("A").getextrema() == (255, 255):
        return rgba.convert("RGB"), False
    canvas = Image.new("RGBA", rgba.size, (*ImageColor.getrgb(background)[:3], 255))
    return Image.alpha_composite(canvas, rgba).convert("RGB"), True
