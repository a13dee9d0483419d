"""Read images of any kind that Pillow supports, and convert them to upright RGB pictures."""

import io
import os
from collections.abc import Callable, Coroutine, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from threading import Lock, RLock
from typing import Any

import numpy as np
from PIL import Image, ImageColor, ImageFile
from torch import Tensor

from datasets.decoding import bits_per_sample, decode, from_16_bits, image_errors, orientation, require_file, to_8_bits
from scoring.defaults import BACKGROUND, DECODE, EXACT, MAX_PIXELS, READS_STORES, is_shard, local_path
from utils.errors import UserError, did_you_mean, one_line

LARGE = 32_000_000  # pixels; larger pictures are decoded one at a time to limit memory
UPRIGHT = {  # transposition for each EXIF orientation
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
ON_ITS_SIDE = {5, 6, 7, 8}  # orientations that swap width and height
STEREO = "MPO"  # JPEG with more pictures of the same scene, written by many cameras

CHANNELS = (1, 3, 4)
DARK = 2**12  # highest value of an image of 16 bits that may have been meant for fewer bits
IN_HAND, IN_MEMORY = "the image", "the file in memory"  # names in errors of what has no other

_large_picture_lock = RLock()  # a picture is decoded twice if its metadata are damaged
_file_object_lock = Lock()  # the same file object may be given several times
if hasattr(os, "register_at_fork"):  # not on Windows; threads that hold a lock do not exist in the child
    for lock in (_large_picture_lock, _file_object_lock):
        os.register_at_fork(after_in_child=lock._at_fork_reinit)


@dataclass(frozen=True)
class PictureSettings:
    """Settings for reading pictures.

    Args:
        max_pixels: Larger pictures are refused before they are decoded. In your own programs Pillow's limit
            Image.MAX_IMAGE_PIXELS also applies; inference.py removes it.
        background: Colour behind transparent pixels.
        decode: `exact`, or `draft` to decode a large JPEG at a half, a quarter or an eighth of its size, which is
            faster; it keeps both sides at least twice as long as the picture is squashed to.
    """

    max_pixels: int = MAX_PIXELS
    background: str = BACKGROUND
    decode: str = EXACT

    def __post_init__(self):
        if self.max_pixels < 1:
            raise UserError(f"max_pixels: {self.max_pixels} is not allowed; use 1 or more")
        if self.decode not in DECODE:
            raise UserError(
                f"decode: unknown {self.decode!r}{did_you_mean(self.decode, DECODE)}; allowed: {', '.join(DECODE)}"
            )
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
        decode = f",decode={self.decode}" if self.decode != EXACT else ""
        return background + decode + (",truncated=accept" if ImageFile.LOAD_TRUNCATED_IMAGES else "")


@dataclass(frozen=True)
class Picture:
    """An upright RGB picture.

    Args:
        image: The picture.
        size: Width and height of the file's image, upright; `image` is smaller if it was decoded coarsely.
        notes: Remarks on how it was read.
    """

    image: Image.Image
    size: tuple[int, int]
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


def open_picture(source: Any, settings: PictureSettings = PictureSettings()) -> Picture:
    """Read an image, see `opened_picture`."""
    with opened_picture(source, settings) as picture:
        return picture


@contextmanager
def opened_picture(
    source: Any, settings: PictureSettings = PictureSettings(), coarse: int | None = None
) -> Iterator[Picture]:
    """Read an image; other large pictures wait until the end of the block, which limits memory.

    Args:
        source: A path, an encoded image (`Encoded`, bytes or a binary file), an image opened by Pillow, or an array or
            tensor, see `to_picture`.
        settings: How it is read.
        coarse: Decode a JPEG at a fraction of its size, which is faster, with no side shorter than this in pixels;
            None decodes in full.

    Raises:
        MissingFileError: The file does not exist.
        UserError: It is not a file or not an image, is damaged, or is larger than `settings.max_pixels`.
    """
    with ExitStack() as locks:
        to_upright_rgb = partial(_to_upright_rgb, settings=settings, coarse=coarse, locks=locks)
        if isinstance(source, (str, os.PathLike)):
            path = _local_file(source)
            with image_errors(path):
                picture = decode(path, to_upright_rgb)
        elif (encoded := _encoded(source)) is not None:
            content = encoded.read()
            if not content:
                raise UserError(f"{encoded.name} is empty")
            with image_errors(encoded.name):
                picture = decode(io.BytesIO(content), to_upright_rgb)
        else:
            image = to_picture(source)
            with image_errors(IN_HAND):
                picture = decode(image, to_upright_rgb)
        yield picture


def _to_upright_rgb(
    image: Image.Image, complete: bool = True, *, settings: PictureSettings, coarse: int | None, locks: ExitStack
) -> Picture:
    """Convert the first frame to RGB, turned as EXIF says, with the background behind transparent pixels.

    Colour profiles are ignored, as in the release. The lock for large pictures is added to `locks`.
    """
    _require_allowed(image, settings.max_pixels)
    width, height = image.size
    if coarse is not None:
        image.draft(None, (coarse, coarse))
    if image.width * image.height > LARGE:
        locks.enter_context(_large_picture_lock)
    image.load()
    notes = [] if complete else ["metadata that cannot be read are left out"]
    if getattr(image, "is_animated", False) and image.format != STEREO:
        notes.append("first frame of several")
    profile = image.info.get("icc_profile") or b""
    if profile and not (isinstance(profile, bytes) and b"sRGB" in profile.replace(b"\0", b"")):  # UTF-16 or ASCII
        notes.append("colour profile ignored")
    if bits_per_sample(image) == 16 and (highest := image.getextrema()[1]) < DARK:
        notes.append(f"16 bits with values up to {highest} only: dark")
    turned = orientation(image)
    image = to_8_bits(image)
    if turned is None:
        notes.append("EXIF cannot be read")
    elif turned in UPRIGHT:
        image = image.transpose(UPRIGHT[turned])
        width, height = (height, width) if turned in ON_ITS_SIDE else (width, height)
        notes.append("turned as EXIF says")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        if image.getchannel("A").getextrema() != (255, 255):
            canvas = Image.new("RGBA", image.size, (*ImageColor.getrgb(settings.background)[:3], 255))
            image = Image.alpha_composite(canvas, image)
            notes.append(f"transparency over {settings.background}")
    return Picture(image if image.mode == "RGB" else image.convert("RGB"), (width, height), tuple(notes))


def _require_allowed(image: Image.Image, max_pixels: int) -> None:
    """Raise an error for an image of too many pixels; needs only the header."""
    width, height = image.size
    if width * height > max_pixels:
        raise UserError(
            f"{width}x{height} is {width * height} pixels, more than the limit of {max_pixels}; change it "
            "with --max-pixels (in Python, PictureSettings.max_pixels)"
        )


def _local_file(place: str | os.PathLike) -> str:
    """Return the path of an image file; a URI of a file is one as well."""
    path = local_path(os.fspath(place), READS_STORES)
    if is_shard(path) and os.path.isfile(path):
        raise UserError(f"{path} contains many images; `inference.py {path} --engine ray` reads them")
    return require_file(path)


def _encoded(source: Any) -> Encoded | None:
    """Return bytes or a binary file as an encoded image; None for anything else."""
    if isinstance(source, (bytes, bytearray, memoryview)):
        return Encoded(IN_MEMORY, partial(bytes, source))
    if isinstance(source, Encoded) or not callable(getattr(source, "read", None)):
        return source if isinstance(source, Encoded) else None
    name = getattr(source, "name", None)
    name = name if isinstance(name, str) and name else IN_MEMORY
    return Encoded(name, partial(_read_file_object, source, name))


def _read_file_object(file: Any, name: str) -> bytes:
    """Return the content of a binary file from its beginning, as Pillow does, if it can be rewound."""
    try:
        with _file_object_lock:
            if hasattr(file, "seekable") and file.seekable():
                file.seek(0)
            content = file.read()
    except (OSError, ValueError) as error:
        raise UserError(f"{name} cannot be read: {one_line(error)}") from error
    if isinstance(content, (bytes, bytearray, memoryview)):
        return bytes(content)
    hint = "; open the file in binary mode, 'rb'" if isinstance(content, str) else ""
    if isinstance(content, Coroutine):  # of an upload in a web service
        content.close()
        hint = "; await it and pass the bytes"
    raise UserError(f"{name}: read() gives {type(content).__name__}, not bytes{hint}")


def to_picture(image: Any) -> Image.Image:
    """Convert a PIL image, or an array (H, W) or (H, W, C) or tensor (C, H, W) with values of a known range.

    These are uint8, uint16, bool, and float from 0 to 1.

    Raises:
        UserError: The type, shape or range is not supported.
    """
    if isinstance(image, Image.Image):
        return image
    if not hasattr(image, "__array__"):
        hint = "; predictor.score_many takes a stream of images" if hasattr(image, "__next__") else ""
        raise UserError(
            "an image is a path, the bytes of an image file, a binary file, a PIL image, an array or a tensor, got "
            f"{type(image).__name__}{hint}"
        )
    try:
        array = _channels_last(image) if isinstance(image, Tensor) else np.asarray(image)
    except (TypeError, RuntimeError) as error:  # from sparse tensors, or arrays on a GPU
        raise UserError(f"an image of {type(image).__name__} cannot be read: {one_line(error)}") from error
    flat = array.ndim == 2 or (array.ndim == 3 and array.shape[2] in CHANNELS)
    if not flat or 0 in array.shape:
        hint = "; use array.transpose(1, 2, 0)" if array.ndim == 3 and array.shape[0] in CHANNELS else ""
        raise UserError(f"an image array is (H, W), (H, W, 3) or (H, W, 4), got {array.shape}{hint}")
    single = array[:, :, 0] if array.ndim == 3 and array.shape[2] == 1 else array
    return Image.fromarray(np.ascontiguousarray(_to_uint8(single)))


def _channels_last(tensor: Tensor) -> np.ndarray:
    """Convert a tensor (C, H, W) or (H, W) to an array (H, W, C) or (H, W)."""
    tensor = tensor.detach().cpu()
    if tensor.dim() == 3 and tensor.shape[0] not in CHANNELS:
        hint = "; use tensor.permute(2, 0, 1)" if tensor.shape[2] in CHANNELS else ""
        raise UserError(f"an image tensor is (C, H, W) with C 1, 3 or 4, got {tuple(tensor.shape)}{hint}")
    tensor = tensor.float() if tensor.is_floating_point() else tensor  # NumPy has no bfloat16
    return (tensor.permute(1, 2, 0) if tensor.dim() == 3 else tensor).numpy()


def _to_uint8(array: np.ndarray) -> np.ndarray:
    """Scale values of a known range to 0..255."""
    if array.dtype == np.uint8:
        return array
    if array.dtype == bool:
        return array.astype(np.uint8) * 255
    if array.dtype.kind == "u" and array.dtype.itemsize == 2:
        return from_16_bits(array)
    if array.dtype.kind != "f":
        raise UserError(
            f"an image array is uint8, uint16, bool, or float from 0 to 1, got {array.dtype}; scale it and convert it"
        )
    low, high = float(array.min()), float(array.max())
    if not (low >= 0 and high <= 1):
        raise UserError(f"a float image has values from 0 to 1, got {low:g} to {high:g}; scale it, or use uint8")
    return np.rint(array.astype(np.float32) * 255).astype(np.uint8)
