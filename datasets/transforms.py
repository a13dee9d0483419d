"""Images from disk to the network's input, in training, test and inference alike."""

from pathlib import Path

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
from utils.settings import TransformSettings

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


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
    try:
        with Image.open(path) as image:
            return image.convert("RGB")
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


def seeded(transform: Compose, image: Image.Image, seed: int) -> torch.Tensor:
    """The transform with its random draws fixed by `seed`, leaving torch's default generator as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return transform(image)


def _squash(settings: TransformSettings) -> Resize:
    return Resize((settings.resize, settings.resize), InterpolationMode.BILINEAR)


def _to_input() -> list:
    return [ToTensor(), Normalize(IMAGENET_MEAN, IMAGENET_STD)]
