"""Noise ceiling: the best agreement that a perfect predictor could reach with labels from few voters.

N images, A largest number of distinct opinions of an image, K bins.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest

import numpy as np

from datasets.labels import LabelRecipe, hypothesis_label, make_dos
from datasets.ratings import Rating
from datasets.scale import RatingScale
from utils.metrics import as_numbers, emd, metric_title, plcc, srcc

REPEATS = 50  # random draws for the correlations, whose means are then known to 0.002 on 500 images
MAX_LABELS = 1_000_000  # over all draws: with many images, few draws are as precise as many with few images
FEWEST_REPEATS = 2
MAX_DOS_LABELS = 60_000  # over all draws: DOS labels are slow to make, and the EMD varies little
SEED = 0

CEILING = ("mos_srcc", "mos_plcc", "sos_srcc", "sos_plcc", "emd")

Array = np.ndarray
Labels = tuple[Array, Array, Array | None]  # MOS (N,), SOS (N,), DOS (N, K)


@dataclass(frozen=True)
class Votes:
    """Votes on N images: `counts` (N, A) people gave the `scores` (N, A)."""

    counts: Array
    scores: Array


def collect_votes(ratings: Sequence[Rating], scale: RatingScale) -> Votes | None:
    """Return the votes behind the labels; None if an image has fewer than two, or if they are in other bins."""
    if not ratings or any(rating.voters is None or rating.voters < 2 for rating in ratings):
        return None
    if all(rating.grades is None for rating in ratings):
        if any(len(rating.counts) != scale.num_bins for rating in ratings):
            return None
        counts = np.array([rating.counts for rating in ratings], dtype=np.int64)
        return Votes(counts, np.broadcast_to(scale.bin_centers, counts.shape))
    by_voter = list(zip_longest(*(rating.grades for rating in ratings), fillvalue=math.nan))
    scores = np.ascontiguousarray(np.transpose(by_voter))  # sums depend on the layout in memory
    return Votes((~np.isnan(scores)).astype(np.int64), np.nan_to_num(scores))


def noise_ceiling(votes: Votes, scale: RatingScale, recipe: LabelRecipe, repeats: int = REPEATS) -> dict[str, float]:
    """Estimate the agreement of a perfect predictor with the labels, in two ways.

    `bootstrap` treats the recorded votes as the truth, resamples as many votes, and compares both labels. It is
    optimistic, since the recorded votes vary more between images than the truth does. `split_half` compares labels of
    two random halves of the voters. Spearman-Brown's formula turns their correlation r into that of two whole panels,
    2 r / (1 + r); its square root is the correlation of a whole panel with the truth. The EMD is half of that between
    the halves: it falls with the square root of the number of voters, and that between two panels is larger by the
    square root of two than that between a panel and the truth.

    For rank correlations and the SOS the formula is an approximation. PLCC is computed without the logistic fit.

    Args:
        votes: Votes on N images; at least two per image.
        scale: Rating scale.
        recipe: How labels are made from votes.
        repeats: Number of random draws to average, seeded; fewer for more than 20,000 images.

    Returns:
        `mos_srcc`, `mos_plcc`, `sos_srcc`, `sos_plcc`, `emd` by bootstrap; the same with prefix `split_half_`.

    Source: Spearman, Brown, British Journal of Psychology 1910 (the formula).
    """
    rng = np.random.default_rng(SEED)
    repeats = min(repeats, max(MAX_LABELS // len(votes.counts), FEWEST_REPEATS))
    truth = _labels(votes.counts, votes, scale, recipe)
    voters = votes.counts.sum(1)
    shares = votes.counts / voters[:, None]
    with_dos = max(MAX_DOS_LABELS // (3 * len(shares)), 1)  # repeats with DOS labels, three each: a draw and two halves
    drawn, halves = [], []
    for repeat in range(repeats):
        half = _half(votes.counts, rng)
        resampled = (rng.multinomial(voters, shares), half, votes.counts - half)
        draw, *two = (_labels(counts, votes, scale, recipe, repeat < with_dos) for counts in resampled)
        drawn.append(_agreement(truth, draw))
        halves.append(_agreement(*two))
    bootstrap, between_halves = ({name: _mean(name, runs) for name in CEILING} for runs in (drawn, halves))
    return bootstrap | {f"split_half_{name}": _whole_panel(name, value) for name, value in between_halves.items()}


def _labels(counts: Array, votes: Votes, scale: RatingScale, recipe: LabelRecipe, with_dos: bool = True) -> Labels:
    """Return the labels that the recipe makes from resampled counts (N, A)."""
    voters = counts.sum(1)
    mos = (counts * votes.scores).sum(1) / voters
    squares = (counts * (votes.scores - mos[:, None]) ** 2).sum(1)
    sos = np.sqrt(squares / np.maximum(voters - 1, 1))
    if recipe.sos == "hypothesis":
        sos = hypothesis_label(mos, recipe.sos_a, scale)
    if not with_dos:
        return mos, sos, None
    return mos, sos, make_dos(recipe.dos, mos, sos, _in_bins(counts, votes.scores, scale), scale)[0]


def _in_bins(counts: Array, scores: Array, scale: RatingScale) -> Array:
    """Return counts (N, A) of scores (N, A) as counts per bin (N, K)."""
    bins = scale.bin_index(scores)  # (N, A)
    return np.stack([(counts * (bins == k)).sum(1) for k in range(scale.num_bins)], axis=1)


def _half(counts: Array, rng: np.random.Generator) -> Array:
    """Draw half of the voters of each image without replacement, rounded down; returns their counts (N, A)."""
    half = np.zeros_like(counts)
    wanted, left = counts.sum(1) // 2, counts.sum(1)
    for column in range(counts.shape[1]):
        left = left - counts[:, column]
        half[:, column] = rng.hypergeometric(counts[:, column], left, wanted)
        wanted = wanted - half[:, column]
    return half


def _agreement(one: Labels, other: Labels) -> dict[str, float]:
    values = {
        f"{quantity}_{name}": correlation(one[index], other[index])
        for index, quantity in enumerate(("mos", "sos"))
        for name, correlation in (("srcc", srcc), ("plcc", plcc))
    }
    return values if one[2] is None or other[2] is None else values | {"emd": float(emd(one[2], other[2]).mean())}


def _mean(name: str, runs: list[dict[str, float]]) -> float:
    return float(np.mean([run[name] for run in runs if name in run]))


def _whole_panel(name: str, between_halves: float) -> float:
    """Return the agreement of a whole panel with the truth, from that between two halves.

    NaN stays NaN; a correlation that is not positive gives 0.
    """
    if name == "emd":
        return between_halves / 2
    if between_halves <= 0:
        return 0.0
    return float(np.sqrt(2 * between_halves / (1 + between_halves)))


def ceiling_line(ceiling: dict[str, float]) -> str:
    """Return the noise ceiling as text: bootstrap, and split half in brackets; undefined values are nan."""
    values = as_numbers([ceiling.get(key) for name in CEILING for key in (name, f"split_half_{name}")]).reshape(-1, 2)
    return "  ".join(f"{metric_title(name)} {a:.3f} ({b:.3f})" for name, (a, b) in zip(CEILING, values, strict=True))
