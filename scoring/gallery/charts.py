"""Charts of opinions and of scores: bars on the bins of a scale, and a histogram of MOS.

N images, K bins.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from markupsafe import Markup

from datasets.scale import RatingScale
from utils.svg import bar_strip, group_ticks

HISTOGRAM_SIZE, HISTOGRAM_BINS = (320, 80), 20
LOOKS = {"label": "outline", "prediction": "middle"}
QUARTERS = (0, 0.25, 0.5, 0.75, 1)

Array = np.ndarray


def opinion_bars(
    dos: Mapping[str, Sequence[float]],
    scale: RatingScale,
    highest: float,
    mark: tuple[float, float, float] | None = None,
) -> Markup:
    """Share of opinions at each score.

    Args:
        dos: Of `label`, `prediction` or both, the distribution (K,).
        scale: Of the scores.
        highest: The share that is as high as the chart, the same for all that are compared.
        mark: Low end of an interval, a score in it and its high end, in units of the scale; None: no mark.
    """
    shares = [
        ", ".join(f"{name} {100 * values[k]:.1f} %" for name, values in dos.items()) for k in range(scale.num_bins)
    ]
    description = "; ".join(f"{center:g}: {of_bin}" for center, of_bin in zip(scale.bin_centers, shares, strict=True))
    return bar_strip(
        {LOOKS[name]: np.asarray(values) / highest for name, values in dos.items()},
        group_ticks([f"{center:g}" for center in scale.bin_centers]),
        "Share of opinions at each score",
        f"{description}.",
        span=None if mark is None else tuple(np.interp(mark, scale.edges, np.arange(scale.num_bins + 1))),
    )


def histogram(mos: Array, scale: RatingScale) -> tuple[Markup, int]:
    """How many images have which MOS (N,), over the whole scale, and the number of them in the highest bar."""
    counts, edges = np.histogram(mos, HISTOGRAM_BINS, (scale.low, scale.high))
    most, fullest = int(counts.max()), int(counts.argmax())
    peak = f"most, {most}, between {edges[fullest]:g} and {edges[fullest + 1]:g}"
    ticks = [(share * HISTOGRAM_BINS, f"{scale.low + share * (scale.high - scale.low):g}") for share in QUARTERS]
    title, description = "How many images have which MOS", f"{scale.low:g} to {scale.high:g}: {peak}."
    return bar_strip({"middle": counts / max(most, 1)}, ticks, title, description, HISTOGRAM_SIZE), most
