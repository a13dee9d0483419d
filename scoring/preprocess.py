"""Preprocessing: convert a picture to one or more views, whose predictions are averaged."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from PIL import Image
from torch import Tensor

from datasets.transforms import Squash, build_test_transform, central_box, to_input
from scoring.defaults import PREPROCESS
from utils.errors import UserError, did_you_mean
from utils.settings import TransformSettings

RELEASE, RELEASE_224, FIVE_CROP, FULL = PREPROCESS
RELEASE_INFERENCE = 224  # side in pixels, in the release's inference script
GRID = 32  # sides of `full` are multiples of it: the deepest feature maps of most backbones have stride 32
MAX_ASPECT = 64  # of `full`; longer pictures are squeezed

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Preprocess:
    """A method of preprocessing.

    Args:
        id: Name for `--preprocess` with the sizes, as in score rows.
        views: Converts a picture to normalised views (3, H, W), whose DOS are averaged; can be pickled.
        side: Side in pixels of the square that a picture is squashed to, or of one of the same area.
        box: Left, top, right and bottom of the first view, as fractions of the picture's width and height.
    """

    id: str
    views: Callable[[Image.Image], list[Tensor]]
    side: int
    box: Box = (0, 0, 1, 1)


def build_preprocess(name: str, settings: TransformSettings) -> Preprocess:
    """Build a method of PREPROCESS with the sizes that a network was trained with.

    Raises:
        UserError: The name is unknown.
    """
    resize = settings.resize
    if name == RELEASE:  # as evaluation does
        views = partial(_one_view, transform=build_test_transform(settings))
        return Preprocess(f"{name}@{resize}x{settings.test_side}", views, resize, _centre(resize, settings.test_side))
    if name == RELEASE_224:
        views = partial(_resized, resize=Squash(RELEASE_INFERENCE))
        return Preprocess(f"{name}@{RELEASE_INFERENCE}", views, RELEASE_INFERENCE)
    if name == FIVE_CROP:
        views = partial(_five_crops, resize=resize, crop=settings.crop)
        return Preprocess(f"{name}@{resize}x{settings.crop}", views, resize, _centre(resize, settings.crop))
    if name == FULL:
        return Preprocess(f"{name}@{resize}", partial(_resized, resize=partial(resized_to_full, resize=resize)), resize)
    raise UserError(f"preprocess: unknown {name!r}{did_you_mean(name, PREPROCESS)}; allowed: {', '.join(PREPROCESS)}")


def _centre(resize: int, crop: int) -> Box:
    left, top, right, bottom = (edge / resize for edge in central_box(resize, crop))
    return left, top, right, bottom


def _one_view(image: Image.Image, transform: Callable[[Image.Image], Tensor]) -> list[Tensor]:
    return [transform(image)]


def _resized(image: Image.Image, resize: Callable[[Image.Image], Image.Image]) -> list[Tensor]:
    return [to_input(resize(image))]


def _five_crops(image: Image.Image, resize: int, crop: int) -> list[Tensor]:
    """Return the centre and the four corners of a squashed picture."""
    square, last = Squash(resize)(image), resize - crop
    corners = [(left, top, left + crop, top + crop) for top in (0, last) for left in (0, last)]
    return [to_input(square.crop(edges)) for edges in (central_box(resize, crop), *corners)]


def resized_to_full(image: Image.Image, resize: int) -> Image.Image:
    """Resize a picture at its own aspect to about resize * resize pixels, with sides in multiples of GRID."""
    aspect = min(max(image.width / image.height, 1 / MAX_ASPECT), MAX_ASPECT)
    sides = (resize * math.sqrt(aspect), resize / math.sqrt(aspect))
    return image.resize(tuple(max(GRID, GRID * round(side / GRID)) for side in sides), Image.Resampling.BILINEAR)
