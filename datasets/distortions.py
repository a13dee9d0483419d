"""Distortions of an image by kind and strength, for training with `loss.rank` and for measuring robustness.

The strength is from 0 (hardly visible) to 1 (severe). Sharpness, contrast and saturation, which please in small doses,
are increased by a visible amount even at 0. Lengths, such as those of blur, motion and blocks, are relative to the
longer side of the image. Noise, compression and what else is PER_PIXEL shows less in a larger image that is then shrunk
to the input of the network.
"""

import io
import math
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
HALO = 0.005  # radius of sharpening, of the longer side
SHARPENING = (100, 600)  # percent of the difference to the blurred image, here and below at no and at full strength
SATURATION, CONTRAST = (1.5, 4.0), (1.5, 4.0)  # factors
CAST = 0.8  # natural logarithm of the factor of a channel
STOPS_OF_GAMMA = 2.0  # the exponent doubles or halves so many times
COLOUR_NOISE = 60.0  # standard deviation of Cb and Cr, in levels
STRIPES = 50.0  # standard deviation of rows or columns, in levels
TONES = (24.0, 2.0)  # per channel
LOST, LOST_SIDE = 40, 0.05  # number of lost blocks, and their side, of the longer side
FRINGE = 0.03  # share by which red is enlarged; green by half of it
SCATTER = (0.6, 0.012)  # how far pixels are displaced: pixels at no strength, and the rest, of the longer side
WEBP_QUALITIES = (0, 80)  # at full and at no strength
SPECKLE = 0.5  # standard deviation, of the brightness of a pixel
HAZE, VEIL = 0.85, 220  # share of the veil, and its level
COLOURS = (64.0, 3.0)  # of a palette
VIGNETTE = 2.5  # natural logarithm of the loss of light at the middle of a side
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
    return _encoded(image, "JPEG", quality=round(_between(JPEG_QUALITIES, (1 - strength) ** 2)))


def _jpeg2000(image: Image.Image, strength: float, _: np.random.Generator) -> Image.Image:
    rate = _between_ratios(JPEG2000_RATES, strength)
    return _encoded(image, "JPEG2000", quality_mode="rates", quality_layers=[rate])


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


def _oversharpening(image: Image.Image, strength: float, _: np.random.Generator) -> Image.Image:
    percent = round(_between(SHARPENING, strength))
    return image.filter(ImageFilter.UnsharpMask(HALO * max(image.size), percent, threshold=0))


def _oversaturation(image: Image.Image, strength: float, _: np.random.Generator) -> Image.Image:
    return ImageEnhance.Color(image).enhance(_between(SATURATION, strength))


def _excess_contrast(image: Image.Image, strength: float, _: np.random.Generator) -> Image.Image:
    return ImageEnhance.Contrast(image).enhance(_between(CONTRAST, strength))


def _colour_cast(image: Image.Image, strength: float, generator: np.random.Generator) -> Image.Image:
    hues = generator.uniform(0, 2 * np.pi) + 2 * np.pi / 3 * np.arange(3)
    return _image(np.asarray(image) * np.exp(CAST * strength * np.cos(hues)))


def _wrong_gamma(image: Image.Image, strength: float, generator: np.random.Generator) -> Image.Image:
    exponent = 2 ** (generator.choice([-1, 1]) * STOPS_OF_GAMMA * strength)
    return image.point([round(255 * (level / 255) ** exponent) for level in range(256)] * 3)


def _colour_noise(image: Image.Image, strength: float, generator: np.random.Generator) -> Image.Image:
    pixels = np.array(image.convert("YCbCr"), dtype=np.float32)
    shape = (image.height, image.width, 2)
    pixels[:, :, 1:] += COLOUR_NOISE * strength * generator.standard_normal(shape, dtype=np.float32)
    return Image.fromarray(_levels(pixels), "YCbCr").convert("RGB")


def _stripes(image: Image.Image, strength: float, generator: np.random.Generator) -> Image.Image:
    shape = (image.height, 1, 1) if generator.random() < 1 / 2 else (1, image.width, 1)
    return _image(np.asarray(image) + STRIPES * strength * generator.standard_normal(shape))


def _posterization(image: Image.Image, strength: float, _: np.random.Generator) -> Image.Image:
    steps = round(_between_ratios(TONES, strength)) - 1
    return image.point([round(255 * round(level / 255 * steps) / steps) for level in range(256)] * 3)


def _lost_blocks(image: Image.Image, strength: float, generator: np.random.Generator) -> Image.Image:
    damaged, side = image.copy(), math.ceil(LOST_SIDE * max(image.size))
    for _ in range(math.ceil(LOST * strength)):
        left, top = generator.integers(image.width), generator.integers(image.height)
        colour = tuple(generator.integers(256, size=3).tolist())
        damaged.paste(colour, (int(left), int(top), int(left) + side, int(top) + side))
    return damaged


def _colour_fringes(image: Image.Image, strength: float, _: np.random.Generator) -> Image.Image:
    red, green, blue = image.split()
    enlarged = _enlarged(red, 1 + FRINGE * strength), _enlarged(green, 1 + FRINGE / 2 * strength)
    return Image.merge("RGB", (*enlarged, blue))


def _scatter(image: Image.Image, strength: float, generator: np.random.Generator) -> Image.Image:
    farthest = SCATTER[0] + SCATTER[1] * max(image.size) * strength
    shape = (image.height, image.width)
    down, right = np.rint(farthest * generator.uniform(-1, 1, (2, *shape))).astype(int)
    rows, columns = np.ogrid[: image.height, : image.width]
    inside = np.clip(rows + down, 0, image.height - 1), np.clip(columns + right, 0, image.width - 1)
    return Image.fromarray(np.asarray(image)[inside])


def _webp(image: Image.Image, strength: float, _: np.random.Generator) -> Image.Image:
    return _encoded(image, "WEBP", quality=round(_between(WEBP_QUALITIES, (1 - strength) ** 2)))


def _speckle(image: Image.Image, strength: float, generator: np.random.Generator) -> Image.Image:
    shape = (image.height, image.width, 3)
    return _image(np.asarray(image) * (1 + SPECKLE * strength * generator.standard_normal(shape, dtype=np.float32)))


def _haze(image: Image.Image, strength: float, _: np.random.Generator) -> Image.Image:
    return Image.blend(image, Image.new("RGB", image.size, (VEIL,) * 3), HAZE * strength)


def _few_colours(image: Image.Image, strength: float, _: np.random.Generator) -> Image.Image:
    return image.quantize(round(_between_ratios(COLOURS, strength)), dither=Image.Dither.NONE).convert("RGB")


def _vignetting(image: Image.Image, strength: float, _: np.random.Generator) -> Image.Image:
    rows, columns = np.ogrid[-1 : 1 : image.height * 1j, -1 : 1 : image.width * 1j]
    return _image(np.asarray(image) * np.exp(-VIGNETTE * strength * (rows**2 + columns**2))[:, :, None])


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
    "oversharpening": _oversharpening,
    "oversaturation": _oversaturation,
    "excess_contrast": _excess_contrast,
    "colour_cast": _colour_cast,
    "wrong_gamma": _wrong_gamma,
    "colour_noise": _colour_noise,
    "stripes": _stripes,
    "posterization": _posterization,
    "lost_blocks": _lost_blocks,
    "colour_fringes": _colour_fringes,
    "scatter": _scatter,
    "webp": _webp,
    "speckle": _speckle,
    "haze": _haze,
    "few_colours": _few_colours,
    "vignetting": _vignetting,
}
UNSEEN = ("webp", "speckle", "haze", "few_colours", "vignetting")  # never drawn: to measure what carries over
PER_PIXEL = ("noise", "impulse_noise", "jpeg", "jpeg2000", "low_resolution", "colour_noise", "stripes")
HARD = ("noise", "impulse_noise", "jpeg", "jpeg2000", "overexposure")  # to learn; drawn twice as often as the others
DRAWN = (*(kind for kind in DISTORTIONS if kind not in UNSEEN), *HARD)


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
    return Image.fromarray(_levels(pixels))


def _levels(pixels: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(pixels), 0, 255).astype(np.uint8)


def _between(ends: tuple[float, float], strength: float) -> float:
    return ends[0] + (ends[1] - ends[0]) * strength


def _between_ratios(ends: tuple[float, float], strength: float) -> float:
    return ends[0] * (ends[1] / ends[0]) ** strength


def _encoded(image: Image.Image, form: str, **options) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return Image.open(buffer).convert("RGB")


def _shrunk(image: Image.Image, factor: float, down: Image.Resampling, up: Image.Resampling) -> Image.Image:
    small = tuple(max(1, round(side / factor)) for side in image.size)
    return image.resize(small, down).resize(image.size, up)


def _enlarged(channel: Image.Image, factor: float) -> Image.Image:
    x, y = channel.width / 2, channel.height / 2
    matrix = (1 / factor, 0, x - x / factor, 0, 1 / factor, y - y / factor)
    return channel.transform(channel.size, Image.Transform.AFFINE, matrix, Image.Resampling.BICUBIC)
