"""The best and worst predictions of a test part: thumbnails, and the distributions of label and prediction.

N images, K bins.
"""

from pathlib import Path
from typing import Any

import numpy as np

from datasets.decoding import load_image
from experiments.results.results import ScoredPart
from scoring.gallery.charts import opinion_bars
from utils.errors import MissingFileError, UserError
from utils.html import LONG_SIDE, Thumbnail, thumbnail

SHOWN = 4  # of each of best and worst
NOT_THERE, NOT_READABLE = "image not available", "image cannot be decoded"
BY_DOS = ("EMD between predicted and label DOS", "EMD")
BY_MOS = ("difference of predicted MOS and MOS label", "MOS off by")

Array = np.ndarray


def gallery(part: ScoredPart) -> dict[str, Any]:
    """Return up to four images whose prediction is nearest to their label, and four whose prediction is farthest.

    Ordered by the EMD of the distributions, or by the MOS difference if there are no predicted distributions on the
    labels' bins. No image is in both lists.

    Returns:
        Cards of the `best` and of the `worst`; `by` says what orders them, `short` is its name on a card.
    """
    distances = part.distances
    order = np.argsort(distances, kind="stable")
    best = order[: min(SHOWN, (len(order) + 1) // 2)]
    chosen = {"best": best, "worst": order[::-1][: min(SHOWN, len(order) - len(best))]}
    sides = {"label": part.dos("target"), "prediction": part.dos("pred")}
    dos = {name: shares for name, shares in sides.items() if shares is not None}
    shown = np.concatenate(list(chosen.values()))
    highest = max((float(shares[shown].max()) for shares in dos.values()), default=1.0)
    cards = {name: [_card(part, index, dos, highest) for index in side] for name, side in chosen.items()}
    by, short = BY_DOS if "prediction" in dos else BY_MOS
    return {**cards, "by": by, "short": short}


def image_thumbnail(path: Path) -> Thumbnail:
    """Return a small JPEG of an image file, as the network sees it: without EXIF rotation or transparency."""
    try:
        return thumbnail(load_image(path, 2 * LONG_SIDE))  # decodes a large JPEG at reduced size
    except MissingFileError:
        return Thumbnail(note=NOT_THERE)
    except UserError:
        return Thumbnail(note=NOT_READABLE)


def _card(part: ScoredPart, index: int, dos: dict[str, Array], highest: float) -> dict[str, Any]:
    row = part.predictions.iloc[index]
    pairs = {name: [float(row[f"{side}_{name}"]) for side in ("target", "pred")] for name in ("mos", "sos")}
    bars = opinion_bars({name: shares[index] for name, shares in dos.items()}, part.scale, highest) if dos else None
    thumb = image_thumbnail(part.root / row["image"])
    return {"image": row["image"], "thumbnail": thumb, "distance": part.distances[index], "bars": bars, **pairs}
