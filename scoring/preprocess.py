"""Preprocessing: convert a picture to one or more views, whose predictions are averaged."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from PIL import Image
from torch import Tensor

from datasets.transforms import Squash, build_test_transform, central_box, to_input
from scoring.defaults import PREPROCESS as NAMES
from utils.errors import UserError, did_you_mean
from utils.settings import TransformSettings

RELEASE, RELEASE_224, FIVE_CROP, FULL = NAMES
RELEASE_INFERENCE = 224  # side in pixels, in the release's inference script
GRID = 32  # sides of `full` are multiples of it: the deepest feature maps of most backbones have stride 32
MAX_ASPECT = 64  # of `full`; longer pictures are squeezed

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Preprocess:
    """A method of preprocessing.

    Args:
        name: Name for `--preprocess`.
        id: Name with the sizes, as in score rows.
        views: Converts a picture to normalised views (3, H, W), whose DOS are averaged.
        box: Left, top, right and bottom of the first view, as fractions of the picture's width and height.
    """

    name: str
    id: str
    views: Callable[[Image.Image], list[Tensor]]
    box: Box = (0, 0, 1, 1)


def build_preprocess(name: str, settings: TransformSettings) -> Preprocess:
    """Build a method of PREPROCESS with the sizes that a network was trained with.

    Raises:
        UserError: The name is unknown.
    """
    if name not in PREPROCESS:
        raise UserError(
            f"preprocess: unknown {name!r}{did_you_mean(name, PREPROCESS)}; allowed: {', '.join(PREPROCESS)}"
        )
    return PREPROCESS[name](settings)


def full_size(width: int, height: int, resize: int) -> tuple[int, int]:
    """Return a width and height with the picture's aspect and about resize * resize pixels, in multiples of GRID."""
    aspect = min(max(width / height, 1 / MAX_ASPECT), MAX_ASPECT)
    sides = (resize * math.sqrt(aspect), resize / math.sqrt(aspect))
    return tuple(max(GRID, GRID * round(side / GRID)) for side in sides)


def _release(settings: TransformSettings) -> Preprocess:
    """Squash and crop the centre, as evaluation does."""
    transform = build_test_transform(settings)
    box = tuple(edge / settings.resize for edge in central_box(settings.resize, settings.crop))
    return Preprocess(RELEASE, f"{RELEASE}@{settings.resize}x{settings.crop}", lambda image: [transform(image)], box)


def _release_224(_settings: TransformSettings) -> Preprocess:
    """Squash to 224 pixels without a crop, as the release's inference script does."""
    squash = Squash(RELEASE_INFERENCE)
    return Preprocess(RELEASE_224, f"{RELEASE_224}@{RELEASE_INFERENCE}", lambda image: [to_input(squash(image))])


def _five_crop(settings: TransformSettings) -> Preprocess:
    """Squash, then crop the centre and the four corners."""
    squash, crop, last = Squash(settings.resize), settings.crop, settings.resize - settings.crop
    corners = [(left, top, left + crop, top + crop) for top in (0, last) for left in (0, last)]
    boxes = [central_box(settings.resize, crop), *corners]

    def views(image: Image.Image) -> list[Tensor]:
        square = squash(image)
        return [to_input(square.crop(edges)) for edges in boxes]

    box = tuple(edge / settings.resize for edge in boxes[0])
    return Preprocess(FIVE_CROP, f"{FIVE_CROP}@{settings.resize}x{crop}", views, box)


def _full(settings: TransformSettings) -> Preprocess:
    """Resize the whole picture at its own aspect, to as many pixels as the square of training."""

    def views(image: Image.Image) -> list[Tensor]:
        return [to_input(image.resize(full_size(*image.size, settings.resize), Image.Resampling.BILINEAR))]

    return Preprocess(FULL, f"{FULL}@{settings.resize}", views)


PREPROCESS: dict[str, Callable[[TransformSettings], Preprocess]] = {
    RELEASE: _release,
    RELEASE_224: _release_224,
    FIVE_CROP: _five_crop,
    FULL: _full,
}
