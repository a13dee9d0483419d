"""Robustness: whether the predicted quality of a photograph falls as the photograph is damaged more.

A photograph is damaged at its own size, before preprocessing, by every kind of distortion of `datasets.distortions`.
Level 0 is the photograph itself; levels 1 to 5 are distorted with STRENGTHS.
"""

import math
from collections.abc import Sequence
from itertools import chain

import numpy as np
import pandas as pd
from PIL import Image, ImageChops

from datasets.distortions import DISTORTIONS, UNSEEN, distort
from datasets.scale import RatingScale
from scoring.pictures import open_picture
from scoring.predictor import Predictor
from utils.errors import UserError
from utils.metrics import srcc
from utils.progress import Progress
from utils.tables import number, to_markdown

STRENGTHS = (0.2, 0.4, 0.6, 0.8, 1.0)
LEVELS = [f"mos_{level}" for level in range(len(STRENGTHS) + 1)]  # columns
TIE = 1e-5  # relative to the width of the scale; smaller differences of MOS may be due to rounding
DRAWN, NOT_DRAWN, ALL = "kinds drawn in training", "kinds never drawn", "all kinds"  # of the summary
DIGITS = 3


def measure(predictor: Predictor, paths: Sequence[str], batch_size: int) -> tuple[pd.DataFrame, list[str]]:
    """Return the robustness of a network on photographs, and an error for each that cannot be read.

    Args:
        predictor: The network.
        paths: The photographs.
        batch_size: Number of images per forward pass.

    Returns:
        A table with one row per photograph and kind, with the columns image, kind, srcc (see `rank_correlation`; NaN if
        the kind leaves the photograph as it is) and mos_0 to mos_5, the predicted MOS at each level.

    Raises:
        UserError: No photograph can be read.
    """
    tables, errors = [], []
    with Progress("robustness", len(paths), "photograph") as progress:
        for path in dict.fromkeys(paths):
            try:
                image = open_picture(path, predictor.pictures).image
            except UserError as error:
                errors.append(str(error))
            else:
                tables.append(measure_photograph(predictor, image, batch_size).assign(image=path))
            progress.update()
    if not tables:
        raise UserError(f"no photograph can be read: {'; '.join(errors[:3])}")
    return pd.concat(tables, ignore_index=True)[["image", "kind", "srcc", *LEVELS]], errors


def measure_photograph(predictor: Predictor, image: Image.Image, batch_size: int) -> pd.DataFrame:
    """Return one row per kind, as `measure` does, for an RGB image."""
    damaged = (distort(image, kind, strength) for kind in DISTORTIONS for strength in STRENGTHS)
    intact, *rest = (each.mos for each in predictor.score_many(chain([image], damaged), batch_size))
    rows = []
    for kind, scores in zip(DISTORTIONS, np.reshape(rest, (-1, len(STRENGTHS))).tolist(), strict=True):
        mos = [intact, *scores]
        changed = not is_tied(mos, predictor.scale) or differ(image, distort(image, kind, STRENGTHS[-1]))
        correlation = rank_correlation(mos, predictor.scale) if changed else math.nan
        rows.append({"kind": kind, "srcc": correlation, **dict(zip(LEVELS, mos, strict=True))})
    return pd.DataFrame(rows)


def rank_correlation(mos: Sequence[float], scale: RatingScale) -> float:
    """Return Spearman's correlation of the level of damage and the predicted loss of quality, -1 to 1.

    It is 1 if every level is predicted to be worse than the one before. Predictions that are equal share a rank, so
    that each tie lowers it; if all are equal, it is 0.
    """
    sign = -1 if scale.higher_is_better else 1
    correlation = sign * srcc(np.arange(len(mos)), _in_ties(mos, scale))
    return 0.0 if math.isnan(correlation) else correlation


def is_tied(mos: Sequence[float], scale: RatingScale) -> bool:
    """Return whether all predictions are equal up to rounding."""
    return bool(np.ptp(_in_ties(mos, scale)) == 0)


def differ(one: Image.Image, other: Image.Image) -> bool:
    """Return whether two images of the same size and mode have different pixels."""
    return ImageChops.difference(one, other).getbbox() is not None


def summarise(rows: pd.DataFrame) -> pd.DataFrame:
    """Return one row per kind, one for those that `loss.rank` draws, one for the others, and one for all.

    Args:
        rows: Table from `measure`.

    Columns: kind, photographs (how many have a correlation), mean and lowest correlation, and the mean of each level.
    """
    unseen, summaries = rows["kind"].isin(UNSEEN), []
    totals = [(DRAWN, rows[~unseen]), (NOT_DRAWN, rows[unseen]), (ALL, rows)]
    for kind, group in [*rows.groupby("kind", sort=False), *totals]:
        known = group.dropna(subset="srcc")
        scores = {"mean": known["srcc"].mean(), "lowest": known["srcc"].min()}
        photographs = known["image"].nunique()
        summaries.append({"kind": kind, "photographs": photographs, **scores, **known[LEVELS].mean()})
    return pd.DataFrame(summaries)


def to_text(rows: pd.DataFrame) -> str:
    """Return the summary of a table from `measure` in Markdown."""
    summary = summarise(rows)
    columns = {"kind": "kind", "photographs": "photographs", "mean": "mean SRCC", "lowest": "lowest SRCC"}
    columns |= {name: f"MOS, level {level}" for level, name in enumerate(LEVELS)}
    for name in ("mean", "lowest", *LEVELS):
        summary[name] = [number(value, DIGITS) for value in summary[name]]
    summary["kind"] = summary["kind"].str.replace("_", " ")
    return to_markdown(summary.rename(columns=columns), names=1, aligned=True)


def _in_ties(mos: Sequence[float], scale: RatingScale) -> np.ndarray:
    """Return predictions (N,) rounded, so that those that differ by rounding errors are equal."""
    return np.rint(np.asarray(mos) / (TIE * (scale.high - scale.low)))
