"""Image transforms of training and evaluation, which inference shares.

Pixels stay uint8, a quarter of the size of float32, until they are on the device of the network.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from datasets.distortions import distort, draw_damage
from utils.imagenet import IMAGENET_MEAN, IMAGENET_STD
from utils.numerics import constant
from utils.settings import TransformSettings

Transform = Callable[[Image.Image], Tensor]  # from an RGB image to pixels (3, crop, crop), uint8
Damage = Callable[[Image.Image, int], tuple[Tensor, Tensor]]  # from an RGB image and a seed

FLIP_PROBABILITY = 0.5  # as in the release


def build_train_crop(settings: TransformSettings) -> Transform:
    """Return the train transform: squash, random flip and random crop of an image to (3, crop, crop), uint8.

    It draws from torch's default generator.
    """
    return partial(squash_flip_and_crop, resize=settings.resize, crop=settings.crop)


def build_test_crop(settings: TransformSettings) -> Transform:
    """Return the test transform: squash and centre crop of an image to (3, test_side, test_side), uint8."""
    return partial(squash_and_crop, resize=settings.resize, crop=settings.test_side)


def build_test_transform(settings: TransformSettings) -> Callable[[Image.Image], Tensor]:
    """Return the test transform with normalisation: an image to the network's input, float32, as `build_test_crop`."""
    return partial(_squash_crop_and_normalise, resize=settings.resize, crop=settings.test_side)


@dataclass(frozen=True)
class Squash:
    """Resize an image to a square of `size` pixels, ignoring its aspect ratio."""

    size: int

    def __call__(self, image: Image.Image) -> Image.Image:
        return image.resize((self.size, self.size), Image.Resampling.BILINEAR)


def squash_and_crop(image: Image.Image, resize: int, crop: int) -> Tensor:
    """Squash an image to `resize` pixels and return the central `crop` pixels."""
    left, top, _, _ = central_box(resize, crop)
    return to_pixels(Squash(resize)(image), top, left, crop)


def _squash_crop_and_normalise(image: Image.Image, resize: int, crop: int) -> Tensor:
    return to_images(squash_and_crop(image, resize, crop))


def squash_flip_and_crop(image: Image.Image, resize: int, crop: int) -> Tensor:
    """Squash an image to `resize` pixels, and return a random crop that is mirrored half of the time.

    The random draws are those of torchvision's RandomHorizontalFlip and RandomCrop.
    """
    mirrored = bool(torch.rand(1) < FLIP_PROBABILITY)
    room = resize - crop
    top, left = (int(torch.randint(0, room + 1, (1,))) if room else 0 for _ in range(2))
    left = room - left if mirrored else left  # crop first and mirror the crop, which is smaller
    return to_pixels(Squash(resize)(image), top, left, crop, mirrored)


def damage(image: Image.Image, seed: int, transform: Transform, resize: int) -> tuple[Tensor, Tensor]:
    """Return an image with two strengths of a random distortion, transformed as the intact one with the same seed.

    The image is squashed before it is damaged, so that the cache of squashed images changes nothing. What is damaged
    per pixel is enlarged for that, and squashed again.

    Args:
        image: RGB image.
        seed: Seed of the transform, the kind of distortion, its strengths and its noise.
        transform: Transform of the intact image.
        resize: Side of the square that it is squashed to.

    Returns:
        Pixels (2, 3, crop, crop), uint8, and strengths (2,), 0 to 1, rising.
    """
    kind, strengths, enlargement = draw_damage(seed)
    square = Squash(round(enlargement * resize))(Squash(resize)(image))
    damaged = [seeded(transform, distort(square, kind, strength, seed), seed) for strength in strengths]
    return torch.stack(damaged), torch.tensor(strengths, dtype=torch.float32)


def central_box(size: int, crop: int) -> tuple[int, int, int, int]:
    """Return left, top, right and bottom of the central `crop` pixels of a square of `size`."""
    start = round((size - crop) / 2)
    return start, start, start + crop, start + crop


def to_pixels(square: Image.Image, top: int, left: int, crop: int, mirrored: bool = False) -> Tensor:
    """Return a square crop of an RGB image, optionally mirrored, as (3, crop, crop), uint8."""
    pixels = np.asarray(square)[top : top + crop, left : left + crop]  # (crop, crop, 3): a view
    pixels = pixels[:, ::-1] if mirrored else pixels
    return torch.from_numpy(np.array(pixels.transpose(2, 0, 1), order="C"))


def to_images(pixels: Tensor) -> Tensor:
    """Return pixels (..., 3, H, W), uint8, as normalised images, float32, on the same device."""
    images = pixels.to(torch.float32).div_(255)
    mean, std = _imagenet(images)
    return images.sub_(mean).div_(std)


def to_input(image: Image.Image) -> Tensor:
    """Return an RGB image as the network's input: (3, H, W), float32, normalised."""
    channels = np.array(np.asarray(image).transpose(2, 0, 1), order="C")  # (3, H, W), 0..255; faster than torch's
    return to_images(torch.from_numpy(channels))


def normalise(pixels: Tensor) -> Tensor:
    """Normalise pixels (..., 3, H, W) in 0..1 by ImageNet's mean and standard deviation."""
    mean, std = _imagenet(pixels)
    return (pixels - mean) / std


def _imagenet(pixels: Tensor) -> Iterator[Tensor]:
    """Return ImageNet's mean and standard deviation, each (3, 1, 1), in the pixels' type and on their device."""
    return (constant(values, pixels.dtype, pixels.device)[:, None, None] for values in (IMAGENET_MEAN, IMAGENET_STD))


def seeded(transform: Transform, image: Image.Image, seed: int) -> Tensor:
    """Apply a transform with random draws fixed by `seed`; torch's default generator is not changed."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return transform(image)
