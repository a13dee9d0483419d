"""Images from disk to the network's input, in training, test and inference alike.

Pixels stay uint8 until they are on the device of the network, a quarter of the bytes of its input.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from utils.errors import MissingFileError, UserError, one_line
from utils.imagenet import IMAGENET_MEAN, IMAGENET_STD
from utils.numerics import constant
from utils.settings import TransformSettings

Transform = Callable[[Image.Image], Tensor]  # from a picture to pixels (3, crop, crop), uint8

HALF = 0.5  # of all pictures are mirrored, as in the release


def build_train_crop(settings: TransformSettings) -> Transform:
    """PIL to (3, crop, crop), uint8: squash, random flip, random crop. Draws from torch's default generator."""
    return partial(squash_flip_and_crop, resize=settings.resize, crop=settings.crop)


def build_test_crop(settings: TransformSettings) -> Transform:
    """PIL to (3, crop, crop), uint8: squash, centre crop."""
    return partial(squash_and_crop, resize=settings.resize, crop=settings.crop)


def build_test_transform(settings: TransformSettings) -> Callable[[Image.Image], Tensor]:
    """PIL to the network's input (3, crop, crop), float32: squash, centre crop, normalise."""
    crop = build_test_crop(settings)
    return lambda image: to_images(crop(image))


@dataclass(frozen=True)
class Squash:
    """A picture to a square of `size` pixels, whatever its aspect."""

    size: int

    def __call__(self, image: Image.Image) -> Image.Image:
        return image.resize((self.size, self.size), Image.Resampling.BILINEAR)


def squash_and_crop(image: Image.Image, resize: int, crop: int) -> Tensor:
    """Return the central `crop` pixels of a square of `resize`: the test transform."""
    left, top, _, _ = central_box(resize, crop)
    return to_pixels(Squash(resize)(image), top, left, crop)


def squash_flip_and_crop(image: Image.Image, resize: int, crop: int) -> Tensor:
    """Return any `crop` pixels of a square of `resize`, half of the time mirrored: the train transform.

    Draws what torchvision's RandomHorizontalFlip and RandomCrop draw, without what they do besides.
    """
    mirrored = bool(torch.rand(1) < HALF)
    room = resize - crop
    top, left = (int(torch.randint(0, room + 1, (1,))) if room else 0 for _ in range(2))
    left = room - left if mirrored else left  # of the picture that is not mirrored yet: less is to be turned
    return to_pixels(Squash(resize)(image), top, left, crop, mirrored)


def central_box(size: int, crop: int) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of the central square of `crop` pixels in a square of `size`."""
    start = round((size - crop) / 2)
    return start, start, start + crop, start + crop


def to_pixels(square: Image.Image, top: int, left: int, crop: int, mirrored: bool = False) -> Tensor:
    """A square of `crop` pixels of an RGB picture, mirrored or not, in one copy: (3, crop, crop), uint8."""
    pixels = np.asarray(square)[top : top + crop, left : left + crop]  # (crop, crop, 3): a view
    pixels = pixels[:, ::-1] if mirrored else pixels
    return torch.from_numpy(np.array(pixels.transpose(2, 0, 1), order="C"))


def to_images(pixels: Tensor) -> Tensor:
    """Pixels (..., 3, H, W), uint8, as the network takes them: float32, normalised. On any device, in one batch."""
    images = pixels.to(torch.float32).div_(255)
    mean, std = _imagenet(images)
    return images.sub_(mean).div_(std)


def to_input(image: Image.Image) -> Tensor:
    """An RGB picture as the network takes it: (3, H, W), float32, normalised."""
    channels = np.array(np.asarray(image).transpose(2, 0, 1), order="C")  # (3, H, W), 0..255; faster than torch's
    return to_images(torch.from_numpy(channels))


def normalise(pixels: Tensor) -> Tensor:
    """Pixels (..., 3, H, W) in 0..1 less ImageNet's mean, over its deviation."""
    mean, std = _imagenet(pixels)
    return (pixels - mean) / std


def _imagenet(pixels: Tensor) -> Iterator[Tensor]:
    """ImageNet's mean and deviation, each (3, 1, 1), beside these pixels."""
    return (constant(values, pixels.dtype, pixels.device)[:, None, None] for values in (IMAGENET_MEAN, IMAGENET_STD))


def load_image(path: str | Path, draft_size: int | None = None) -> Image.Image:
    """An image file as RGB.

    Args:
        path: The file.
        draft_size: Of a JPEG, lets the decoder halve width and height up to three times, as long as both are at least
            this.

    Raises:
        MissingFileError: No such file.
        UserError: Not an image that Pillow can read.
    """
    with errors_of(path), Image.open(path) as image:
        if draft_size is not None:
            image.draft(None, (draft_size, draft_size))
        return to_rgb(image)


@contextmanager
def errors_of(path: str | Path) -> Iterator[None]:
    """What Pillow raises on a file, as errors that name it; raises as `load_image`."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    except FileNotFoundError as error:
        raise MissingFileError(f"image {path} does not exist") from error
    except UnidentifiedImageError as error:
        raise UserError(f"{path} is not an image that Pillow can read") from error
    except (OSError, SyntaxError, ValueError, RuntimeError, Image.DecompressionBombError) as error:  # Pillow's plugins
        raise UserError(f"{path} cannot be decoded: {one_line(error)}") from error


def to_rgb(image: Image.Image) -> Image.Image:
    """A picture of any mode as RGB; 16 bits are scaled to 8, where Pillow alone (and the release) would clip them.

    Raises:
        UserError: A mode whose range of values is not known: floats, or integers beyond 16 bits.
    """
    if image.mode.startswith("I"):
        values = np.asarray(image)
        if values.min() < 0 or values.max() >= 2**16:
            raise UserError(f"values {values.min()}..{values.max()} of an integer image are beyond 16 bits; scale them")
        nearest = (values.astype(np.uint32) + 128) // 257  # 257 is 65535 / 255
        return Image.fromarray(nearest.astype(np.uint8)).convert("RGB")
    require_known_range(image)
    return image.convert("RGB")


def require_known_range(image: Image.Image) -> None:
    """Refuses a picture of floats, whose range is not known; its header says so."""
    if image.mode == "F":
        raise UserError("an image of floats has no known range; save it with 8 or 16 bits")


def seeded(transform: Transform, image: Image.Image, seed: int) -> Tensor:
    """The transform with its random draws fixed by `seed`, leaving torch's default generator as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return transform(image)
