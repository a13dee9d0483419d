"""Readers of the databases, one module each, registered in `READERS`; `read_records` reads any of them."""

import warnings
from dataclasses import asdict, replace
from pathlib import Path

from datasets.image_files import with_damage
from datasets.label_checks import MISSING, find_doubts, find_problems, require_usable
from datasets.labels import LabelRecipe, complete, make_records
from datasets.ratings import Rating, Record
from datasets.readers.agiqa3k import AGIQA3K
from datasets.readers.ava import AVA
from datasets.readers.bid import BID
from datasets.readers.biq2021 import BIQ2021
from datasets.readers.cid2013 import CID2013
from datasets.readers.clive import CLIVE
from datasets.readers.csiq import CSIQ
from datasets.readers.csv import CSV
from datasets.readers.demo import DEMO
from datasets.readers.flive import FLIVE
from datasets.readers.kadid10k import KADID10K
from datasets.readers.koniq10k import KONIQ10K
from datasets.readers.live import LIVE
from datasets.readers.livemd import LIVEMD
from datasets.readers.spaq import SPAQ
from datasets.readers.tid2013 import TID2013
from datasets.readers.vclfer import VCLFER
from datasets.scale import RatingScale
from utils.config import validated
from utils.errors import UserError, did_you_mean
from utils.files import reading
from utils.settings import Config, DatasetSettings, ScaleSettings

READERS = {
    "koniq10k": KONIQ10K,
    "spaq": SPAQ,
    "bid": BID,
    "clive": CLIVE,
    "flive": FLIVE,
    "kadid10k": KADID10K,
    "csiq": CSIQ,
    "livemd": LIVEMD,
    "cid2013": CID2013,
    "vclfer": VCLFER,
    "biq2021": BIQ2021,
    "agiqa3k": AGIQA3K,
    "tid2013": TID2013,
    "ava": AVA,
    "live": LIVE,
    "demo": DEMO,
    "csv": CSV,
}
LABEL_OPTIONS = ("labels", "dos", "sos_source", "sos_a", "strict", "unreadable")  # keys of the dataset section


def read_records(name: str, root: str | Path, check_images: bool = True, **options) -> list[Record]:
    """Read all labelled images of a database.

    Args:
        name: Name of the database, a key of READERS.
        root: Folder that the archive was unpacked to; with `check_images=False`, its annotation files suffice.
        check_images: Whether every image file must exist and be whole.
        options: `dos` (`auto`, `counts`, `gaussian`, `max_entropy`), `sos_source` (`release`, `file`, `hypothesis`,
            `auto`), `sos_a` (a number or `fit`), `labels` (one label file of several), `strict`, `unreadable`:
            as in the `dataset` section of a config; `scale`: a RatingScale. `sos_a` and `scale` default to those of
            the reader.

    Raises:
        UserError: A name or option is unknown, or labels cannot be parsed, are duplicates or lie outside the scale.
        MissingFileError: The label file or images are missing.
    """
    return load_labels(name, root, check_images, **options)[1]


def load_labels(
    name: str, root: str | Path, check_images: bool = True, scale: RatingScale | None = None, **options
) -> tuple[list[Rating], list[Record], LabelRecipe]:
    """Read a database as `read_records` does; returns ratings (also of unreadable images), records and label recipe."""
    require_known(name)
    unknown = [option for option in options if option not in LABEL_OPTIONS]
    if unknown:
        hint = did_you_mean(unknown[0], LABEL_OPTIONS)
        raise UserError(
            f"read_records: unknown option {unknown[0]!r}{hint}; allowed: scale, {', '.join(LABEL_OPTIONS)}"
        )
    settings = validated(DatasetSettings, {"name": name, "root": str(root), **options}, "read_records")
    scale = scale or database_scale(name)
    ratings = complete(read_ratings(name, settings.root, settings.labels), scale)
    if check_images:
        ratings = with_damage(ratings, Path(settings.root))
    problems = [problem for problem in find_problems(ratings, scale) if check_images or problem.kind != MISSING]
    require_usable(problems, len(ratings), root, settings.strict, settings.unreadable == "omit")
    for doubt in find_doubts(ratings, scale):
        warnings.warn(f"{ratings[0].file}: {doubt}", stacklevel=2)
    there = [rating for rating in ratings if not (check_images and (rating.missing or rating.damage))]
    records, made = label(name, there, scale, settings.dos, settings.sos_source, settings.sos_a)
    odd = len({problem.rating.source for problem in problems if problem.usable} & {rating.source for rating in there})
    damaged = sum(bool(rating.damage) for rating in ratings)
    return ratings, records, replace(made, odd=odd, left_out=len(ratings) - len(there) - damaged, damaged=damaged)


def label(
    name: str,
    ratings: list[Rating],
    scale: RatingScale,
    dos: str = "auto",
    sos_source: str = "release",
    sos_a: float | str | None = None,
) -> tuple[list[Record], LabelRecipe]:
    """Make labels as `make_records` does, with the release's settings for the database as defaults."""
    if sos_source == "release":
        sos_source = READERS[name].release_sos
    return make_records(ratings, scale, dos, sos_source, READERS[name].sos_a if sos_a is None else sos_a)


def read_ratings(name: str, root: str | Path, labels: str | None = None) -> list[Rating]:
    """Read the ratings in the label files, without checking them; `labels.complete` adds what follows from votes.

    Raises:
        UserError: The name is unknown, or labels cannot be parsed.
        MissingFileError: There is no label file.
    """
    require_known(name)
    with reading(root):
        return READERS[name].read(Path(root), labels)


def require_known(name: str) -> None:
    """Raise an error if a database has no reader."""
    if name not in READERS:
        raise UserError(
            f"dataset.name: unknown database {name!r}{did_you_mean(name, READERS)}; allowed: {', '.join(READERS)}"
        )


def database_scale(name: str) -> RatingScale:
    """Return the rating scale of a database.

    Raises:
        UserError: The name is unknown, or every copy of the database has its own scale.
    """
    require_known(name)
    if READERS[name].scale is None:
        raise UserError(
            f"the rating scale of {name!r} is not known; give `scale` in the config, or scale=RatingScale(low, high, "
            "bin_centers) in Python"
        )
    return READERS[name].scale


def with_defaults(config: Config) -> Config:
    """Return the config with the defaults of the readers filled in.

    These are the rating scale and `sos_a`.
    """
    return config.model_copy(update={"dataset": tuple(map(_whole_settings, config.dataset))})


def _whole_settings(settings: DatasetSettings) -> DatasetSettings:
    """Return the settings of a database: what they state, and for the rest what its reader states."""
    require_known(settings.name)
    reader = READERS[settings.name]
    stated = {} if settings.scale is None else settings.scale.model_dump(include=settings.scale.model_fields_set)
    scale = settings.scale
    if reader.scale is not None or not {"low", "high", "bin_centers"} <= stated.keys():
        scale = ScaleSettings(**asdict(database_scale(settings.name)) | stated)
    return settings.model_copy(update={"scale": scale, "sos_a": settings.sos_a or reader.sos_a})
