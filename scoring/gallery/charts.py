"""Bars and marks of the page of scored images, as numbers and paths for its SVG.

N images, K bins.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from datasets.scale import RatingScale

WIDTH, HEIGHT = 120, 36  # of the bars of a card, in units of its drawing
HISTOGRAM_WIDTH, HISTOGRAM_HEIGHT, HISTOGRAM_BINS = 320, 80, 20
FEW, SOME = 6, 4  # so many bins have each a number below them, else about so many
FILLED = 0.8  # of the width of a bin
QUARTERS = (0, 0.25, 0.5, 0.75, 1)

Array = np.ndarray


@dataclass(frozen=True)
class Bars:
    """A distribution of opinions (K,): a path of bars, where MOS and interval lie below them, and both in words."""

    path: str
    mos: float
    low: float
    high: float
    label: str


@dataclass(frozen=True)
class Histogram:
    """How many images have which MOS: a path of bars, and the largest number."""

    path: str
    most: int
    label: str


def bars(dos: Sequence[float], mos: float, interval: tuple[float, float], scale: RatingScale, highest: float) -> Bars:
    """The drawing of one image.

    Args:
        dos: (K,).
        mos: In units of the scale.
        interval: Its ends, in units of the scale.
        scale: Of the scores.
        highest: The share that is as high as the drawing, the same for all that are compared.
    """
    edges = scale.edges
    places = np.interp([mos, *interval], edges, np.arange(len(edges)) * WIDTH / scale.num_bins)
    shares = (f"{center:g}: {100 * share:.1f} %" for center, share in zip(scale.bin_centers, dos, strict=True))
    path = _path([share / highest for share in dos], WIDTH, HEIGHT)
    return Bars(path, *(float(place) for place in places), f"Share of opinions at each score. {', '.join(shares)}")


def bar_ticks(scale: RatingScale) -> list[tuple[float, str]]:
    """Where numbers stand below the bars of an image, and which."""
    every = 1 if scale.num_bins <= FEW else -(-scale.num_bins // SOME)
    step = WIDTH / scale.num_bins
    return [((k + 0.5) * step, f"{scale.bin_centers[k]:g}") for k in range(0, scale.num_bins, every)]


def histogram(mos: Array, scale: RatingScale) -> Histogram:
    """Of the MOS (N,) of images, over the whole scale."""
    counts, edges = np.histogram(mos, HISTOGRAM_BINS, (scale.low, scale.high))
    most = int(counts.max())
    fullest = int(counts.argmax())
    label = (
        f"How many images have which MOS, from {scale.low:g} to {scale.high:g}: most, {most}, between "
        f"{edges[fullest]:g} and {edges[fullest + 1]:g}"
    )
    return Histogram(_path((counts / max(most, 1)).tolist(), HISTOGRAM_WIDTH, HISTOGRAM_HEIGHT), most, label)


def histogram_ticks(scale: RatingScale) -> list[tuple[float, str]]:
    """Where numbers stand below the histogram, and which: the ends of the scale and three between them."""
    return [(share * HISTOGRAM_WIDTH, f"{scale.low + share * (scale.high - scale.low):g}") for share in QUARTERS]


def _path(heights: Sequence[float], width: float, height: float) -> str:
    """Bars of heights 0..1 that stand on the line `height` below the top."""
    step = width / len(heights)
    inset, broad = step * (1 - FILLED) / 2, step * FILLED
    pieces = (
        f"M{k * step + inset:.1f} {height}v{-share * height:.1f}h{broad:.1f}V{height}z"
        for k, share in enumerate(heights)
        if share > 0
    )
    return "".join(pieces)
