"""Images from disk to the network's input, in training, test and inference alike."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torchvision.transforms import (
    CenterCrop,
    Compose,
    InterpolationMode,
    Normalize,
    RandomCrop,
    RandomHorizontalFlip,
    Resize,
    ToTensor,
)

from utils.errors import MissingFileError, UserError, one_line
from utils.imagenet import IMAGENET_MEAN, IMAGENET_STD
from utils.settings import TransformSettings


def build_train_transform(settings: TransformSettings) -> Compose:
    """PIL to (3, crop, crop): squash, random flip, random crop, normalise. Draws from torch's default generator."""
    return Compose([_squash(settings), RandomHorizontalFlip(), RandomCrop(settings.crop), *_to_input()])


def build_test_transform(settings: TransformSettings) -> Compose:
    """PIL to (3, crop, crop): squash, centre crop, normalise."""
    return Compose([_squash(settings), CenterCrop(settings.crop), *_to_input()])


def load_image(path: str | Path) -> Image.Image:
    """An image file as RGB.

    Raises:
        MissingFileError: No such file.
        UserError: Not an image that Pillow can read.
    """
    with errors_of(path), Image.open(path) as image:
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
        values = np.asarray(image).astype(np.int64)
        if values.min() < 0 or values.max() >= 2**16:
            raise UserError(f"values {values.min()}..{values.max()} of an integer image are beyond 16 bits; scale them")
        return Image.fromarray(np.rint(values / 257).astype(np.uint8)).convert("RGB")  # 65535 / 255
    require_known_range(image)
    return image.convert("RGB")


def require_known_range(image: Image.Image) -> None:
    """Refuses a picture of floats, whose range is not known; its header says so."""
    if image.mode == "F":
        raise UserError("an image of floats has no known range; save it with 8 or 16 bits")


def seeded(transform: Compose, image: Image.Image, seed: int) -> torch.Tensor:
    """The transform with its random draws fixed by `seed`, leaving torch's default generator as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return transform(image)


def _squash(settings: TransformSettings) -> Resize:
    return Resize((settings.resize, settings.resize), InterpolationMode.BILINEAR)


def _to_input() -> list:
    return [ToTensor(), Normalize(IMAGENET_MEAN, IMAGENET_STD)]
