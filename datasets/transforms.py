"""Images from disk to the network's input, in training, test and inference alike."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from utils.errors import MissingFileError, UserError, one_line
from utils.imagenet import IMAGENET_MEAN, IMAGENET_STD
from utils.numerics import constant
from utils.settings import TransformSettings

Transform = Callable[[Image.Image], Tensor]

HALF = 0.5  # of all pictures are mirrored, as in the release


def build_train_transform(settings: TransformSettings) -> Transform:
    """PIL to (3, crop, crop): squash, random flip, random crop, normalise. Draws from torch's default generator."""
    return SquashFlipAndCrop(settings.resize, settings.crop)


def build_test_transform(settings: TransformSettings) -> Transform:
    """PIL to (3, crop, crop): squash, centre crop, normalise."""
    return SquashAndCrop(settings.resize, settings.crop)


@dataclass(frozen=True)
class Squash:
    """A picture to a square of `size` pixels, whatever its aspect."""

    size: int

    def __call__(self, image: Image.Image) -> Image.Image:
        return image.resize((self.size, self.size), Image.Resampling.BILINEAR)


@dataclass(frozen=True)
class SquashAndCrop:
    """The test transform: a square of `resize` pixels, of which the central `crop` are taken."""

    resize: int
    crop: int

    def __call__(self, image: Image.Image) -> Tensor:
        return to_input(Squash(self.resize)(image).crop(central_box(self.resize, self.crop)))


@dataclass(frozen=True)
class SquashFlipAndCrop:
    """The train transform: a square of `resize` pixels, half of the time mirrored, of which any `crop` are taken.

    Draws what torchvision's RandomHorizontalFlip and RandomCrop draw, without what they do besides.
    """

    resize: int
    crop: int

    def __call__(self, image: Image.Image) -> Tensor:
        mirrored = bool(torch.rand(1) < HALF)
        room = self.resize - self.crop
        top, left = (int(torch.randint(0, room + 1, (1,))) if room else 0 for _ in range(2))
        left = room - left if mirrored else left  # of the picture that is not mirrored yet: less is to be turned
        image = Squash(self.resize)(image).crop((left, top, left + self.crop, top + self.crop))
        return to_input(image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if mirrored else image)


def central_box(size: int, crop: int) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of the central square of `crop` pixels in a square of `size`."""
    start = round((size - crop) / 2)
    return start, start, start + crop, start + crop


def to_input(image: Image.Image) -> Tensor:
    """An RGB picture as the network takes it: (3, H, W), float32, normalised."""
    channels = np.array(np.asarray(image).transpose(2, 0, 1), order="C")  # (3, H, W), 0..255; faster than torch's
    pixels = torch.from_numpy(channels).to(torch.float32).div_(255)
    mean, std = _imagenet(pixels)
    return pixels.sub_(mean).div_(std)


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
    except (
        OSError,
        SyntaxError,
        ValueError,
        RuntimeError,
        Image.DecompressionBombError,
    ) as error:  # by Pillow's plugins
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
