"""Opinion labels: DOS recipes, the SOS hypothesis, and the Records of a database.

N images, K bins, c_k bin centres. All arithmetic is in float64.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from datasets.max_entropy import dos_max_entropy
from datasets.ratings import Rating, Record
from datasets.scale import ROUNDING, RatingScale
from utils.errors import UserError

SMALLEST_PROBABILITY = 1e-5  # of a Gaussian label; below it the release writes zero
SMALLEST_SOS = 1e-9
FALLBACKS = {
    "gaussian": "one-hot, since their SOS is 0",
    "max_entropy": "with the nearest MOS and SOS possible on the bins",
}

Array = np.ndarray


@dataclass(frozen=True)
class LabelRecipe:
    """Summary of how the labels of a database were made; saved with the run."""

    dos: str
    sos: str
    sos_a: float | None
    images: int
    fallbacks: int  # rows that the recipe does not cover, see FALLBACKS
    odd: int = 0  # inconsistent rows, which are used nevertheless
    left_out: int = 0  # rows whose image is missing
    damaged: int = 0  # rows whose image is damaged, which are left out, too

    def describe(self) -> str:
        """Return the summary as one line."""
        fallback = f" ({self.fallbacks} of them {FALLBACKS[self.dos]})" if self.fallbacks else ""
        a = f" with a = {self.sos_a:.4g}" if self.sos_a is not None else ""
        odd = f", inconsistent rows: {self.odd}" if self.odd else ""
        left_out = "".join(
            f", {count} images {what} and left out"
            for count, what in ((self.left_out, "missing"), (self.damaged, "damaged"))
            if count
        )
        return f"{self.images} images, DOS from {self.dos}{fallback}, SOS from {self.sos}{a}{odd}{left_out}"


def dos_gaussian(mos: Array, sos: Array, scale: RatingScale) -> Array:
    """Return Gaussians sampled at the bin centres, with entries below 1e-5 set to zero, renormalised.

    Args:
        mos: MOS (N,), in units of the scale.
        sos: SOS (N,), in units of the scale. Where it is 0, the result is one-hot in the bin that contains the MOS.
        scale: Rating scale.

    Returns:
        (N, K), rows summing to 1.

    Differs: from the release's label files in the renormalisation, which they lack.
    """
    dos = gaussian_at_centers(mos, sos, scale)
    return dos / dos.sum(1, keepdims=True)


def gaussian_at_centers(mos: Array, sos: Array, scale: RatingScale) -> Array:
    """Return p_k ~ N(c_k; MOS, SOS), with entries below 1e-5 set to zero, as in the release's label files.

    Arguments and result are those of `dos_gaussian`, except that rows are not renormalised after the cut.
    """
    mos, sos = (np.asarray(x, dtype=np.float64)[:, None] for x in (mos, sos))  # (N, 1)
    centers = np.array(scale.bin_centers)  # (K,)
    logits = -((centers - mos) ** 2) / (2 * np.maximum(sos, SMALLEST_SOS) ** 2)  # (N, K)
    dos = np.exp(logits - logits.max(1, keepdims=True))
    dos /= dos.sum(1, keepdims=True)
    dos[dos < SMALLEST_PROBABILITY] = 0
    certain = sos[:, 0] == 0
    dos[certain] = np.eye(scale.num_bins)[scale.bin_index(mos[certain, 0])]
    return dos


def hypothesis_label(mos: Array, a: float, scale: RatingScale) -> Array:
    """Return the SOS (N,) of the SOS hypothesis for MOS (N,): sqrt(a (MOS - low)(high - MOS)), 0 outside the scale."""
    mos = np.asarray(mos, dtype=np.float64)
    return np.sqrt(np.maximum(a * (mos - scale.low) * (scale.high - mos), 0))


def fit_sos_a(mos: Array, sos: Array, scale: RatingScale) -> float:
    """Fit parameter a of the SOS hypothesis: least squares of SOS^2 on (MOS - low)(high - MOS), without intercept.

    Source: Hossfeld, Schatz, Egger, QoMEX 2011, doi 10.1109/QoMEX.2011.6065690.

    Raises:
        UserError: Every MOS lies at an end of the scale.
    """
    mos, sos = np.asarray(mos, dtype=np.float64), np.asarray(sos, dtype=np.float64)
    spread = (mos - scale.low) * (scale.high - mos)  # (N,)
    if not (spread**2).sum() > 0:
        raise UserError(
            "sos_a: `fit` needs a MOS inside the scale, but every MOS lies at one of its ends; give a number"
        )
    return float((spread * sos**2).sum() / (spread**2).sum())


def sos_hypothesis(mos: Array, sos: Array, scale: RatingScale) -> tuple[float, float]:
    """Return parameter a fitted to MOS (N,) and SOS (N,), and R^2, the share of the variance of SOS^2 it explains.

    Both are NaN if every MOS lies at an end of the scale; R^2 is also NaN if all SOS are equal.
    """
    if not ((mos > scale.low) & (mos < scale.high)).any():
        return float("nan"), float("nan")
    a = fit_sos_a(mos, sos, scale)
    residual = sos**2 - hypothesis_label(mos, a, scale) ** 2
    total = ((sos**2 - (sos**2).mean()) ** 2).sum()
    r2 = 1 - (residual**2).sum() / total if total > 0 else float("nan")
    return a, float(r2)


def complete(ratings: Sequence[Rating], scale: RatingScale) -> list[Rating]:
    """Return the ratings with the MOS and SOS of their votes where the file states none.

    The SOS is that of a sample (ddof 1), as databases state it, or of the fractions if the number of voters is unknown.
    A MOS that a rounding error puts beyond an end of the scale is moved there, an SOS below 0 likewise.

    Raises:
        UserError: A MOS is not stated, and the votes are in other bins than those of the scale.
    """
    moments = vote_moments(ratings, scale)
    return [_complete(rating, voted, scale) for rating, voted in zip(ratings, moments, strict=True)]


def vote_moments(ratings: Sequence[Rating], scale: RatingScale) -> list[tuple[float, float] | None]:
    """Return mean and standard deviation (ddof 0) of the votes on each image; None without votes in the scale's bins.

    All images are computed at once, which is several times as fast for large databases.
    """
    rows = [row for row, rating in enumerate(ratings) if len(rating.counts or ()) == scale.num_bins]
    totals = np.array([sum(ratings[row].counts) for row in rows], dtype=np.float64)  # (N,)
    counts = np.array([ratings[row].counts for row in rows], dtype=np.float64).reshape(-1, scale.num_bins)  # (N, K)
    shares = counts / totals[:, None]
    moments: list[tuple[float, float] | None] = [None] * len(ratings)
    for row, mean, std in zip(rows, scale.mean(shares).tolist(), scale.std(shares).tolist(), strict=True):
        moments[row] = (mean, std)
    return moments


def _complete(rating: Rating, voted: tuple[float, float] | None, scale: RatingScale) -> Rating:
    mos, sos = rating.mos, rating.sos
    if mos is None:
        _require_bins(rating, scale)
    if voted is not None and None in (mos, sos):
        voters = rating.voters
        mos = voted[0] if mos is None else mos
        sos = voted[1] * (voters / (voters - 1) if voters else 1) ** 0.5 if sos is None else sos
    mos = mos if rating.open_ended else scale.without_rounding(mos)
    sos = max(sos, 0.0) if sos is not None and sos >= -ROUNDING * (scale.high - scale.low) else sos
    if (mos, sos) == (rating.mos, rating.sos):
        return rating
    return replace(rating, mos=mos, sos=sos, sos_from_votes=rating.sos is None and sos is not None)


def make_records(
    ratings: Sequence[Rating],
    scale: RatingScale,
    dos: str = "auto",
    sos_source: str = "auto",
    sos_a: float | str = 0.1477,
) -> tuple[list[Record], LabelRecipe]:
    """Make the labels of a database.

    Args:
        ratings: Ratings from the label file; not empty.
        scale: Rating scale of the database.
        dos: `counts`, `gaussian`, `max_entropy`, or `auto`: counts if the file has them for every image, else gaussian.
            Single grades, such as BID's, are sorted into bins only for `counts`.
        sos_source: `file`, `hypothesis`, or `auto`: the file if it has an SOS or votes for every image, else the
            hypothesis.
        sos_a: Parameter of the hypothesis, or `fit` to fit it to the SOS in the file.

    Raises:
        UserError: The file lacks what the recipe needs.
    """
    mos = np.array([rating.mos for rating in ratings])  # (N,)
    sos, sos_recipe, a = _choose_sos(ratings, mos, scale, sos_source, sos_a)  # (N,)
    if dos == "auto":
        dos = "counts" if all(rating.counts is not None for rating in ratings) else "gaussian"
    counts = _counts(ratings, scale) if dos == "counts" else None  # (N, K)
    distributions, fallbacks = make_dos(dos, mos, sos, counts, scale)  # (N, K), (N,)
    records = [
        Record(rating.image, m, s, tuple(p), rating.reference, rating.split, rating.name, rating.image_set)
        for rating, m, s, p in zip(ratings, mos.tolist(), sos.tolist(), distributions.tolist(), strict=True)
    ]
    return records, LabelRecipe(dos, sos_recipe, a, len(records), int(fallbacks.sum()))


def make_dos(recipe: str, mos: Array, sos: Array, counts: Array | None, scale: RatingScale) -> tuple[Array, Array]:
    """Return DOS (N, K) by a recipe from MOS (N,), SOS (N,) or counts (N, K), and which rows are fallbacks (N,)."""
    if recipe == "counts":
        return counts / counts.sum(1, keepdims=True), np.zeros(len(mos), dtype=bool)
    if recipe == "gaussian":
        return dos_gaussian(mos, sos, scale), sos == 0
    return dos_max_entropy(mos, sos, scale)


def _choose_sos(
    ratings: Sequence[Rating], mos: Array, scale: RatingScale, source: str, a: float | str
) -> tuple[Array, str, float | None]:
    without = next((rating for rating in ratings if rating.sos is None), None)
    in_part = without is not None and any(rating.sos is not None for rating in ratings)
    if without is not None and (source == "file" or a == "fit" or (source == "auto" and in_part)):
        others = ", although other images have one" if in_part else ""
        raise UserError(
            f"{without.source}: no SOS for {without.image}{others}, but sos_source is {source} with sos_a {a}; use "
            "`sos_source: hypothesis` with a number for sos_a"
        )
    if without is None and source != "hypothesis":
        recipe = "votes" if all(rating.sos_from_votes for rating in ratings) else "file"
        return np.array([rating.sos for rating in ratings]), recipe, None
    if a == "fit":
        a = fit_sos_a(mos, np.array([rating.sos for rating in ratings]), scale)
    return hypothesis_label(mos, a, scale), "hypothesis", a


def _require_bins(rating: Rating, scale: RatingScale) -> None:
    if rating.counts is not None and len(rating.counts) != scale.num_bins:
        without = ", or use `dos: gaussian`" if rating.mos is not None else ", or add a column with the MOS"
        raise UserError(
            f"{rating.source}: {len(rating.counts)} columns of votes for {rating.image}, but the scale has "
            f"{scale.num_bins} bins; give scale.bin_centers one centre per column{without}"
        )


def _counts(ratings: Sequence[Rating], scale: RatingScale) -> Array:
    """Return votes per bin (N, K); single grades are sorted into the bins."""
    rows = []
    for rating in ratings:
        if rating.counts is None and rating.grades is None:
            raise UserError(f"{rating.source}: no votes for {rating.image}; use `dos: gaussian` or `dos: max_entropy`")
        _require_bins(rating, scale)
        in_bins = rating.counts or np.bincount(scale.bin_index(np.array(rating.grades)), minlength=scale.num_bins)
        rows.append(in_bins)
    return np.array(rows, dtype=np.float64)
