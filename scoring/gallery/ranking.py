"""Ranking of scored images: the sample that a large page shows, and the disputed images.

N images.
"""

import numpy as np

SHOWN = 5_000  # more would make the page slow to open
EXTREMES = 100  # a sample includes so many of the best, of the worst and of those with the highest SOS
DISPUTED_SHARE = 10  # one image in 10 at most
# Source: the SOS hypothesis with a = 0.09, as in the release's loss, predicts a SOS of at most sqrt(a) / 2 widths
DISPUTED_WIDTH = 0.15

Array = np.ndarray


def sampled(order: Array, sos: Array, most: int, extremes: int) -> Array:
    """Return at most `most` indices in the given order.

    A sample contains the `extremes` first, last and highest-SOS images, and evenly spaced ones of the rest.

    Args:
        order: Indices (N,), best first.
        sos: SOS (N,) of all images.
        most: Maximum size of the sample.
        extremes: At most a third of `most`.
    """
    if len(order) <= most:
        return order
    kept = np.zeros(len(order), dtype=bool)  # (N,), by position in the order
    kept[:extremes] = kept[-extremes:] = True
    kept[np.argsort(-sos[order], kind="stable")[:extremes]] = True
    others = np.flatnonzero(~kept)
    places = np.linspace(0, len(others) - 1, most - int(kept.sum())).astype(int)  # at least 1 apart, so without repeats
    kept[others[places]] = True
    return order[kept]


def disputed(sos: Array, width: float) -> Array:
    """Return whether opinions would differ (N,): SOS in the top tenth, and large relative to the scale's width."""
    rank = np.argsort(np.argsort(-sos, kind="stable"))  # (N,), 0 for the highest SOS
    return (rank < len(sos) // DISPUTED_SHARE) & (sos >= DISPUTED_WIDTH * width)
