"""Many scored images in order: which are shown where not all can be, and on which people would disagree.

N images.
"""

import numpy as np

SHOWN = 5_000  # more would make a page slow to open
EXTREMES = 100  # of the best, of the worst and of the highest SOS, which a sample always holds
DISPUTED_SHARE = 10  # one in so many, by SOS
# Source: the SOS hypothesis with a = 0.09, as in the loss of the release, expects at most sqrt(a) / 2 of the width
DISPUTED_WIDTH = 0.15

Array = np.ndarray


def best_first(mos_01: Array) -> Array:
    """Indices (N,) by falling quality; equal ones stay in their order."""
    return np.argsort(-mos_01, kind="stable")


def sampled(order: Array, sos: Array, most: int, extremes: int) -> Array:
    """All of `order` or, of more than `most`, that many, in the same order.

    The first and the last and those of the highest SOS, `extremes` of each, and of the others every so many-th.

    Args:
        order: Indices (N,), best first.
        sos: (N,), of all images.
        most: How many are shown at most.
        extremes: A third of `most` or less.
    """
    if len(order) <= most:
        return order
    kept = np.zeros(len(order), dtype=bool)  # (N,), by place in the order
    kept[:extremes] = kept[-extremes:] = True
    kept[np.argsort(-sos[order], kind="stable")[:extremes]] = True
    others = np.flatnonzero(~kept)
    places = np.linspace(0, len(others) - 1, most - int(kept.sum())).astype(int)  # at least 1 apart: none comes twice
    kept[others[places]] = True
    return order[kept]


def disputed(sos: Array, width: float) -> Array:
    """Whether people would disagree (N,): a SOS in the top tenth, and large for a scale that is `width` wide."""
    highest = np.argsort(-sos, kind="stable")[: len(sos) // DISPUTED_SHARE]
    marked = np.zeros(len(sos), dtype=bool)
    marked[highest] = True
    return marked & (sos >= DISPUTED_WIDTH * width)
