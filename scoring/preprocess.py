"""From a picture to what the network sees of it: one view or several, whose predictions are averaged.

V views, H W their size.
"""

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
RELEASE_INFERENCE = 224  # pixels of the square to which the release's own inference squashes
GRID = 32  # sides of `full` are multiples: the deepest maps of most backbones are a 32nd
LONGEST = 64  # times the shorter side, in `full`: a longer picture is squeezed

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Preprocess:
    """A way of showing pictures to the network.

    Args:
        name: What `--preprocess` says.
        id: The name with its sizes, as records carry it.
        views: A picture to (3, H, W) each, normalised; their DOS are averaged.
        box: Left, top, right and bottom of what the first view shows, as shares of the picture's width and height.
    """

    name: str
    id: str
    views: Callable[[Image.Image], list[Tensor]]
    box: Box = (0, 0, 1, 1)


def build_preprocess(name: str, settings: TransformSettings) -> Preprocess:
    """One of PREPROCESS, with the sizes that a network was trained with.

    Raises:
        UserError: Another name.
    """
    if name not in PREPROCESS:
        raise UserError(
            f"preprocess: unknown {name!r}{did_you_mean(name, PREPROCESS)}; allowed: {', '.join(PREPROCESS)}"
        )
    return PREPROCESS[name](settings)


def full_size(width: int, height: int, resize: int) -> tuple[int, int]:
    """Width and height of about resize * resize pixels at a picture's own aspect, in multiples of GRID."""
    aspect = min(max(width / height, 1 / LONGEST), LONGEST)
    sides = (resize * math.sqrt(aspect), resize / math.sqrt(aspect))
    return tuple(max(GRID, GRID * round(side / GRID)) for side in sides)


def _release(settings: TransformSettings) -> Preprocess:
    """The test transform of training: squash, central crop."""
    transform = build_test_transform(settings)
    box = tuple(edge / settings.resize for edge in central_box(settings.resize, settings.crop))
    return Preprocess(RELEASE, f"{RELEASE}@{settings.resize}x{settings.crop}", lambda image: [transform(image)], box)


def _release_224(_settings: TransformSettings) -> Preprocess:
    """What the release's own inference does: squash to 224 pixels, no crop."""
    squash = Squash(RELEASE_INFERENCE)
    return Preprocess(RELEASE_224, f"{RELEASE_224}@{RELEASE_INFERENCE}", lambda image: [to_input(squash(image))])


def _five_crop(settings: TransformSettings) -> Preprocess:
    """Squash, then the centre and the four corners."""
    squash, crop, last = Squash(settings.resize), settings.crop, settings.resize - settings.crop
    corners = [(left, top, left + crop, top + crop) for top in (0, last) for left in (0, last)]
    boxes = [central_box(settings.resize, crop), *corners]

    def views(image: Image.Image) -> list[Tensor]:
        square = squash(image)
        return [to_input(square.crop(box)) for box in boxes]

    share = tuple(edge / settings.resize for edge in boxes[0])
    return Preprocess(FIVE_CROP, f"{FIVE_CROP}@{settings.resize}x{crop}", views, share)


def _full(settings: TransformSettings) -> Preprocess:
    """The whole picture at its own aspect, with as many pixels as the square of training."""

    def views(image: Image.Image) -> list[Tensor]:
        return [to_input(image.resize(full_size(*image.size, settings.resize), Image.Resampling.BILINEAR))]

    return Preprocess(FULL, f"{FULL}@{settings.resize}", views)


PREPROCESS: dict[str, Callable[[TransformSettings], Preprocess]] = {
    RELEASE: _release,
    RELEASE_224: _release_224,
    FIVE_CROP: _five_crop,
    FULL: _full,
}
