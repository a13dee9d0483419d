"""One module per label format; `read_records` turns any of them into Records."""

import math
import os
from pathlib import Path

from datasets.labels import LabelRecipe, Rating, Record, make_records
from datasets.readers import csv, demo, koniq10k
from datasets.scale import RatingScale
from utils.config import load_config
from utils.errors import MissingFileError, UserError, did_you_mean

READERS = {
    "koniq10k": koniq10k.read,
    "demo": demo.read,
    "csv": csv.read,
}
CONFIGS = Path(__file__).resolve().parents[2] / "configs"


def read_records(name: str, root: str | Path, check_images: bool = True, **options) -> list[Record]:
    """Every labelled image of a database.

    Args:
        name: One of READERS.
        root: The folder that the official archive unpacks to.
        check_images: Whether every image file must be there.
        options: Label options: `dos`, `sos_source`, `sos_a`, `scale` (a RatingScale; the one of `configs/<name>.yaml`
            by default), `labels` (for `csv`).

    Raises:
        UserError: Unknown name, labels that do not parse or are outside the scale, duplicates.
        MissingFileError: No label file, or missing images, all of them named.
    """
    return load_records(name, root, check_images, **options)[0]


def load_records(
    name: str,
    root: str | Path,
    check_images: bool = True,
    scale: RatingScale | None = None,
    labels: str | None = None,
    **recipe,
) -> tuple[list[Record], LabelRecipe]:
    """`read_records`, and how the labels were made."""
    if name not in READERS:
        raise UserError(
            f"dataset.name: unknown database {name!r}{did_you_mean(name, list(READERS))}; known: {', '.join(READERS)}"
        )
    root = Path(root)
    if labels is not None and name != "csv":
        raise UserError(f"dataset.labels: only `csv` takes a label file, {name} has its own")
    ratings = READERS[name](root, labels) if name == "csv" else READERS[name](root)
    scale = scale or database_scale(name)
    _check_ratings(ratings, scale)
    if check_images:
        _check_images(ratings, root)
    return make_records(ratings, scale, **recipe)


def database_scale(name: str) -> RatingScale:
    """The rating scale that `configs/<name>.yaml` states."""
    path = CONFIGS / f"{name}.yaml"
    if not path.is_file():
        raise UserError(f"the rating scale of {name!r} is not known; pass `scale=RatingScale(low, high, bin_centers)`")
    return RatingScale(**load_config(path).scale.model_dump())


def _check_ratings(ratings: list[Rating], scale: RatingScale) -> None:
    seen: dict[str, str] = {}
    largest_sos = (scale.high - scale.low) / math.sqrt(2)  # two voters at opposite ends, ddof 1
    for rating in ratings:
        if not scale.low <= rating.mos <= scale.high:
            raise UserError(
                f"{rating.source}: MOS {rating.mos:g} of {rating.image} is outside the scale {scale.describe()}"
            )
        if rating.sos is not None and not 0 <= rating.sos <= largest_sos:
            raise UserError(
                f"{rating.source}: SOS {rating.sos:g} of {rating.image} cannot be; on this scale it is 0 to "
                f"{largest_sos:g}"
            )
        image = os.path.normpath(rating.image)
        if image in seen:
            raise UserError(f"{rating.source}: {rating.image} was labelled before, at {seen[image]}")
        seen[image] = rating.source


def _check_images(ratings: list[Rating], root: Path) -> None:
    missing = [rating.image for rating in ratings if not (root / rating.image).is_file()]
    if len(missing) == len(ratings):
        raise MissingFileError(
            f"none of the {len(ratings)} images is under {root}; the first would be {root / missing[0]}"
        )
    if missing:
        raise MissingFileError(f"{len(missing)} of {len(ratings)} images are missing in {root}: {', '.join(missing)}")
