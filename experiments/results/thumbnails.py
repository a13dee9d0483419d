"""The best and the worst predictions of a test part: pictures, and the distributions of label and prediction.

N images, K bins.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from datasets.scale import RatingScale
from datasets.transforms import errors_of, to_rgb
from experiments.results.results import ScoredPart
from utils.errors import MissingFileError, UserError
from utils.html import jpeg_source

SHOWN = 4  # best, and as many worst
LONG_SIDE = 200  # pixels of a thumbnail
QUALITY = 80  # of its JPEG
NOT_THERE, NOT_READABLE = "image not at hand", "image cannot be decoded"
BY_DOS = ("EMD between predicted and label DOS", "EMD")
BY_MOS = ("difference of predicted MOS and MOS label", "MOS off by")

Array = np.ndarray


@dataclass(frozen=True)
class Thumbnail:
    """A picture as the value of `src`, or what to say instead of it."""

    source: str = ""
    width: int = 0
    height: int = 0
    note: str = ""


@dataclass(frozen=True)
class Bars:
    """Shares of opinions (K,) in label and prediction; `height` belongs to the whole chart."""

    centers: tuple[float, ...]
    target: tuple[float, ...]
    pred: tuple[float, ...]
    height: float

    @property
    def pairs(self) -> list[tuple[float, float, float]]:
        """Centre, label and prediction of each bin; without a prediction, that is 0."""
        return list(zip(self.centers, self.target, self.pred or (0.0,) * len(self.target), strict=True))


@dataclass(frozen=True)
class Card:
    """One image of the gallery."""

    image: str
    thumbnail: Thumbnail
    distance: float
    mos: tuple[float, float]  # label, prediction
    sos: tuple[float, float]
    bars: Bars | None


@dataclass(frozen=True)
class Gallery:
    """The best first, and the worst first; `by` is what they are sorted by, `short` its name on a card."""

    best: list[Card]
    worst: list[Card]
    by: str
    short: str


def gallery(part: ScoredPart) -> Gallery:
    """Up to four images whose prediction is nearest to their label, and four whose prediction is farthest from it.

    By EMD of the distributions; where there are none on the bins of the labels, by the difference of the MOS. No image
    is in both.
    """
    distances = part.distances
    order = np.argsort(distances, kind="stable")
    best = order[: min(SHOWN, (len(order) + 1) // 2)]
    worst = order[::-1][: min(SHOWN, len(order) - len(best))]
    dos = {side: part.dos(side) for side in ("target", "pred")}
    shown = [*best, *worst]
    highest = max((float(shares[shown].max()) for shares in dos.values() if shares is not None), default=1.0)
    cards = {index: _card(part, index, _bars(part.scale, dos, index, highest)) for index in shown}
    by, short = BY_MOS if dos["pred"] is None else BY_DOS
    return Gallery([cards[index] for index in best], [cards[index] for index in worst], by, short)


def thumbnail(path: Path) -> Thumbnail:
    """A small JPEG of an image file, as the network sees it: turned by no EXIF, transparency dropped."""
    try:
        with errors_of(path), Image.open(path) as image:
            image.draft("RGB", (2 * LONG_SIDE, 2 * LONG_SIDE))  # of a large JPEG, only what is needed
            small = to_rgb(image)
            small.thumbnail((LONG_SIDE, LONG_SIDE), reducing_gap=2)
            source = jpeg_source(small, QUALITY)
    except MissingFileError:
        return Thumbnail(note=NOT_THERE)
    except UserError:
        return Thumbnail(note=NOT_READABLE)
    return Thumbnail(source, *small.size)


def _card(part: ScoredPart, index: int, bars: Bars | None) -> Card:
    row = part.predictions.iloc[index]
    mos, sos = (tuple(float(row[f"{side}_{name}"]) for side in ("target", "pred")) for name in ("mos", "sos"))
    return Card(row["image"], thumbnail(part.root / row["image"]), float(part.distances[index]), mos, sos, bars)


def _bars(scale: RatingScale, dos: dict[str, Array | None], index: int, highest: float) -> Bars | None:
    if dos["target"] is None:
        return None
    target, pred = (() if shares is None else tuple(shares[index].tolist()) for shares in (dos["target"], dos["pred"]))
    return Bars(scale.bin_centers, target, pred, highest)
