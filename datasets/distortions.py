"""Distortions of an image by kind and strength, for training with `loss.rank` and for measuring robustness.

The strength is from 0 (hardly visible) to 1 (severe). The lengths of blur, motion and blocks are relative to the longer
side of the image. Noise, impulses, compression and low resolution are per pixel, and therefore show less in a larger
image that is then shrunk to the input of the network.
"""

import io
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageEnhance, ImageFilter

Distort = Callable[[Image.Image, float, np.random.Generator], Image.Image]

BLUR = 0.012  # standard deviation, of the longer side
MOTION = 0.06  # length of the path, of the longer side
BLOCK = 0.04  # side of a block, of the longer side
NOISE = 50.0  # standard deviation, in levels of 0..255
IMPULSES = 0.25  # share of the pixels
SHRINKING = 7.0  # by how much more than 1 the sides are divided
BRIGHTER, DARKER = 2.5, 4.0  # stops
FLATTER = 0.9  # share of the contrast that is lost
JPEG_QUALITIES = (4, 90)  # at full and at no strength
JPEG2000_RATES = (10.0, 200.0)  # compression ratios at no and at full strength
WEAKEST, GAP = 0.05, 0.15  # of the strengths that are drawn
LARGEST = 2.5  # times the size of the input, of images that are damaged per pixel


def _blur(image: Image.Image, strength: float, _: np.random.Generator) -> Image.Image:
    return image.filter(ImageFilter.GaussianBlur(BLUR * max(image.size) * strength))


def _motion_blur(image: Image.Image, strength: float, generator: np.random.Generator) -> Image.Image:
    length, angle = MOTION * max(image.size) * strength, generator.uniform(0, np.pi)
    places = np.linspace(-length / 2, length / 2, 2 + int(length))
    pixels = np.asarray(image, dtype=np.float32)
    rows, columns = np.arange(image.height), np.arange(image.width)
    total = np.zeros_like(pixels)
    for down, right in zip(np.rint(places * np.sin(angle)), np.rint(places * np.cos(angle)), strict=True):
        inside = np.clip(rows + int(down), 0, len(rows) - 1), np.clip(columns + int(right), 0, len(columns) - 1)
        total += pixels[inside[0]][:, inside[1]]
    return _image(total / len(places))


def _noise(image: Image.Image, strength: float, generator: np.random.Generator) -> Image.Image:
    shape = (image.height, image.width, 3)
    return _image(np.asarray(image) + NOISE * strength * generator.standard_normal(shape, dtype=np.float32))


def _impulse_noise(image: Image.Image, strength: float, generator: np.random.Generator) -> Image.Image:
    pixels, draws = np.array(image), generator.random((image.height, image.width))
    share = IMPULSES * strength
    pixels[draws < share] = 255
    pixels[draws < share / 2] = 0
    return Image.fromarray(pixels)


def _jpeg(image: Image.Image, strength: float, _: np.random.Generator) -> Image.Image:
    worst, best = JPEG_QUALITIES
    return _encoded(image, "JPEG", quality=round(worst + (best - worst) * (1 - strength) ** 2))


def _jpeg2000(image: Image.Image, strength: float, _: np.random.Generator) -> Image.Image:
    low, high = JPEG2000_RATES
    return _encoded(image, "JPEG2000", quality_mode="rates", quality_layers=[low * (high / low) ** strength])


def _pixelation(image: Image.Image, strength: float, _: np.random.Generator) -> Image.Image:
    block = 1 + BLOCK * max(image.size) * strength
    return _shrunk(image, block, Image.Resampling.BOX, Image.Resampling.NEAREST)


def _low_resolution(image: Image.Image, strength: float, _: np.random.Generator) -> Image.Image:
    return _shrunk(image, 1 + SHRINKING * strength, Image.Resampling.BICUBIC, Image.Resampling.BICUBIC)


def _overexposure(image: Image.Image, strength: float, _: np.random.Generator) -> Image.Image:
    return ImageEnhance.Brightness(image).enhance(2 ** (BRIGHTER * strength))


def _underexposure(image: Image.Image, strength: float, _: np.random.Generator) -> Image.Image:
    return ImageEnhance.Brightness(image).enhance(2 ** (-DARKER * strength))


def _contrast_loss(image: Image.Image, strength: float, _: np.random.Generator) -> Image.Image:
    return ImageEnhance.Contrast(image).enhance(1 - FLATTER * strength)


def _saturation_loss(image: Image.Image, strength: float, _: np.random.Generator) -> Image.Image:
    return ImageEnhance.Color(image).enhance(1 - strength)


DISTORTIONS: dict[str, Distort] = {
    "blur": _blur,
    "motion_blur": _motion_blur,
    "noise": _noise,
    "impulse_noise": _impulse_noise,
    "jpeg": _jpeg,
    "jpeg2000": _jpeg2000,
    "pixelation": _pixelation,
    "low_resolution": _low_resolution,
    "overexposure": _overexposure,
    "underexposure": _underexposure,
    "contrast_loss": _contrast_loss,
    "saturation_loss": _saturation_loss,
}


PER_PIXEL = ("noise", "impulse_noise", "jpeg", "jpeg2000", "low_resolution")
HARD = ("noise", "impulse_noise", "jpeg", "jpeg2000", "overexposure")  # to learn; drawn twice as often as the others
DRAWN = (*DISTORTIONS, *HARD)


def distort(image: Image.Image, kind: str, strength: float, seed: int = 0) -> Image.Image:
    """Return a distorted copy of an RGB image, of the same size.

    Args:
        image: RGB image.
        kind: One of DISTORTIONS.
        strength: From 0 to 1.
        seed: Of noise and of the direction of motion; with the same seed, noise grows with the strength in place.
    """
    return DISTORTIONS[kind](image, strength, np.random.default_rng(seed))


def draw_damage(seed: int) -> tuple[str, tuple[float, float], float]:
    """Return a random kind, two strengths of it, rising, with at least GAP between them, and an enlargement.

    The enlargement is how much larger than the input the image is when it is damaged: 1 to LARGEST for what is
    PER_PIXEL, since photographs are mostly larger than the input of the network; else 1.
    """
    generator = np.random.default_rng([seed, 1])  # not the generator of `distort`, whose draws would follow these
    weaker = generator.uniform(WEAKEST, 1 - GAP)
    stronger = generator.uniform(weaker + GAP, 1)
    kind = DRAWN[generator.integers(len(DRAWN))]
    return kind, (weaker, stronger), generator.uniform(1, LARGEST) if kind in PER_PIXEL else 1.0


def _image(pixels: np.ndarray) -> Image.Image:
    return Image.fromarray(np.clip(np.rint(pixels), 0, 255).astype(np.uint8))


def _encoded(image: Image.Image, form: str, **options) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return Image.open(buffer).convert("RGB")


def _shrunk(image: Image.Image, factor: float, down: Image.Resampling, up: Image.Resampling) -> Image.Image:
    small = tuple(max(1, round(side / factor)) for side in image.size)
    return image.resize(small, down).resize(image.size, up)
