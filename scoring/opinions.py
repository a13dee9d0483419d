"""Answers about opinions from predicted distributions: good or poor, the better of two, the best of several, panels.

N images, K bins. Each opinion is an independent draw from the predicted DOS, as if that were true: the error of the
network is not part of any answer. "Better" follows the scale, so on some scales it means a lower score.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from datasets.scale import RatingScale, mean_on, std_on
from utils.errors import UserError

GOOD = 0.6  # share of the scale from which an opinion, or the mean of a panel, is good; poor is the mirror image
PANEL = 25  # people: a common size in laboratories
CENTRAL_MEANS = 0.9  # share of the panels whose mean is in the interval
EXACT_PEOPLE = 1_000  # beyond, the mean of a panel is normal to the third digit, and the exact sum is slow
MOST_IMAGES = 1_000  # that are compared; the time grows with the square
SMALLEST_SHARE = 1e-15  # nearer to 0 or 1, quantiles of the normal distribution are infinite
ROUNDING = 1e-9  # relative to the width of a scale: of sums of scores

Array = np.ndarray


@dataclass(frozen=True)
class Prediction:
    """The predicted ratings of one image: `mos` and `sos` in units of `scale`, `dos` over its bins, lowest first."""

    mos: float
    sos: float
    dos: tuple[float, ...]
    scale: RatingScale


@dataclass(frozen=True)
class Comparison:
    """Which of two images people would find better.

    Args:
        probability: Probability that a person rates the first image better than the second; ties count half.
        difference: MOS of the first image minus that of the second, in units of the scale.
        standard_error: Standard error of that difference if a panel rates both images.
        panel: Number of people in the panel.
    """

    probability: float
    difference: float
    standard_error: float
    panel: int


@dataclass(frozen=True)
class Ranked:
    """One of several images: its place in the input, the probability that a person finds it best, its prediction."""

    index: int
    probability: float
    prediction: Prediction


@dataclass(frozen=True)
class PanelMean:
    """What a panel would find: `low` and `high` enclose its mean in 90 % of panels; `good` is P(it is good)."""

    low: float
    high: float
    good: float


def good_or_better(dos: Sequence[float], scale: RatingScale) -> float:
    """Return the share of opinions that are good or better (GoB), 0 to 1.

    Opinions are spread evenly over their bin, as in `scoring.records.quantiles`. Those in the best 40 % of the range
    count, where the range is that of the bins or of the scale, whichever reaches further. With the five grades of
    absolute category rating (ACR), whose bins 1, 2, 3, 4, 5 cover 0.5 to 5.5, these are exactly the grades 4 and 5.

    Source: ITU-T P.800 and G.107, as %GoB.
    """
    return _share_beyond(dos, scale, above=scale.higher_is_better)


def poor_or_worse(dos: Sequence[float], scale: RatingScale) -> float:
    """Return the share of opinions that are poor or worse (PoW), 0 to 1: the worst 40 % of the range; on ACR, 1 and 2.

    Source: ITU-T P.800 and G.107, as %PoW. See `good_or_better`.
    """
    return _share_beyond(dos, scale, above=not scale.higher_is_better)


def joint_distribution(dos_a: Sequence[float], dos_b: Sequence[float], correlation: float = 0.0) -> Array:
    """Return the distribution (K, K) of a person's opinions on two images, the first by row.

    Each person has two standard normal values with this correlation, one per image, and gives the score at the same
    quantile of the image's DOS (a Gaussian copula). 0 makes the opinions independent. With 1, a person who is at the
    median for one image is at the median for the other.

    Args:
        dos_a: DOS (K,) of the first image.
        dos_b: DOS (K,) of the second image.
        correlation: Correlation of the normal values, -1 to 1.

    Raises:
        UserError: The correlation is out of range.
    """
    if not -1 <= correlation <= 1:
        raise UserError(f"correlation: {correlation} is not allowed; use -1 to 1, 0 for independent opinions")
    a, b = _normalised(dos_a), _normalised(dos_b)
    if correlation == 0:
        return np.outer(a, b)
    below = _copula(a.cumsum()[:-1, None], b.cumsum()[None, :-1], correlation)  # (K - 1, K - 1)
    cumulative = np.zeros((len(a) + 1, len(b) + 1))
    cumulative[1:-1, 1:-1] = below
    cumulative[-1, 1:], cumulative[1:, -1] = b.cumsum(), a.cumsum()
    return np.maximum(np.diff(np.diff(cumulative, axis=0), axis=1), 0)  # rounding gives -1e-17


def compare(a: Prediction, b: Prediction, panel: int = PANEL, correlation: float = 0.0) -> Comparison:
    """Compare two images.

    Args:
        a: Prediction of the first image.
        b: Prediction of the second image.
        panel: Number of people whose mean opinions are compared; each rates both images.
        correlation: How one person's opinions on the two images correlate, see `joint_distribution`; 0 compares the
            opinions of two different people.

    Raises:
        UserError: The scales differ, or a number is out of range.
    """
    if a.scale != b.scale:
        raise UserError(
            f"compare: the scales differ, {a.scale.describe()} and {b.scale.describe()}, or their bins do; use "
            "predictions of one predictor"
        )
    _require_people(panel)
    joint = joint_distribution(a.dos, b.dos, correlation)
    margin = np.tril(joint, -1).sum() - np.triu(joint, 1).sum()  # P(higher) - P(lower)
    probability = (1 + (margin if a.scale.higher_is_better else -margin)) / 2
    centers = np.array(a.scale.bin_centers)
    differences = centers[:, None] - centers[None, :]
    mean = (joint * differences).sum()
    variance = (joint * (differences - mean) ** 2).sum()
    return Comparison(float(probability), a.mos - b.mos, float(np.sqrt(variance / panel)), panel)


def best_probabilities(dos: Array, higher_is_better: bool = True) -> Array:
    """Return for each of several images the probability (N,) that a person finds it the best; ties are shared equally.

    Image i with score k is the best of those with a random order among equal scores with probability
    sum_k p_i(k) int_0^1 prod_{j != i} (F_j(k - 1) + p_j(k) x) dx. The integrand is a polynomial of degree N - 1, which
    N / 2 Gauss-Legendre nodes integrate exactly.

    Args:
        dos: DOS (N, K) of the images, lowest score first.
        higher_is_better: Whether the highest score is the best.

    Raises:
        UserError: There are too many images.
    """
    dos = _normalised(dos if higher_is_better else np.asarray(dos)[:, ::-1])
    count = len(dos)
    if count > MOST_IMAGES:
        raise UserError(f"best: {count} images are too many to compare; the limit is {MOST_IMAGES}; choose fewer")
    nodes, weights = np.polynomial.legendre.leggauss(-(-count // 2))
    nodes, weights = (nodes + 1) / 2, weights / 2  # from -1..1 to 0..1
    below = dos.cumsum(1) - dos  # (N, K)
    probabilities = np.zeros(count)
    for worse, share in zip(below.T, dos.T, strict=True):  # (N,) each, by bin
        beaten = worse[:, None] + share[:, None] * nodes  # (N, nodes)
        ones = np.ones((1, len(nodes)))
        before = np.concatenate([ones, beaten[:-1].cumprod(0)])  # (N, nodes): product over the images before
        after = np.concatenate([beaten[:0:-1].cumprod(0)[::-1], ones])
        probabilities += share * (before * after * weights).sum(1)
    return probabilities


def ranking(predictions: Sequence[Prediction]) -> list[Ranked]:
    """Return the images in order of the probability that a person finds them best; among equals, of their MOS.

    Raises:
        UserError: There are too many images, or their scales differ.
    """
    if not predictions:
        return []
    scale = predictions[0].scale
    if any(prediction.scale != scale for prediction in predictions):
        raise UserError("best: the scales of the images differ; use predictions of one predictor")
    probabilities = best_probabilities([prediction.dos for prediction in predictions], scale.higher_is_better)
    sign = 1 if scale.higher_is_better else -1
    ranked = map(Ranked, range(len(predictions)), probabilities.tolist(), predictions)
    return sorted(ranked, key=lambda image: (-image.probability, -sign * image.prediction.mos))


def panel_mean(dos: Sequence[float], scale: RatingScale, people: int = PANEL) -> PanelMean:
    """Return what a panel would find: the interval of its mean opinion, and how likely it calls the image good.

    The interval contains the mean of at least 90 % of panels, and has at most 5 % on either side. A panel calls an
    image good if its mean is in the best 40 % of the scale: at least 3.4 on 1 to 5. The distribution of the mean is
    exact, the DOS convolved with itself, for up to 1,000 people and evenly spaced bins; otherwise it is the normal
    approximation.

    Args:
        dos: DOS (K,).
        scale: Its scale.
        people: Number of people in the panel.

    Raises:
        UserError: The number is less than 1.
    """
    _require_people(people)
    centers, share, width = np.array(scale.bin_centers), _normalised(dos), scale.high - scale.low
    above = scale.higher_is_better
    cut = scale.low + width * (GOOD if above else 1 - GOOD)
    tail = (1 - CENTRAL_MEANS) / 2
    steps = np.diff(centers)
    if people > EXACT_PEOPLE or np.ptp(steps) > ROUNDING * width:
        deviation = max(float(std_on(share, centers)) / people**0.5, ROUNDING * width)
        normal = NormalDist(float(mean_on(share, centers)), deviation)
        low, high = (min(max(normal.inv_cdf(part), scale.low), scale.high) for part in (tail, 1 - tail))
        return PanelMean(low, high, 1 - normal.cdf(cut) if above else normal.cdf(cut))
    shares = _sum_distribution(share, people)  # (M (K - 1) + 1,) for M people
    means = np.linspace(centers[0], centers[-1], len(shares))
    low, high = means[np.searchsorted(shares.cumsum(), (tail - ROUNDING, 1 - tail - ROUNDING))]
    good = means >= cut - ROUNDING * width if above else means <= cut + ROUNDING * width
    return PanelMean(float(low), float(high), min(float(shares[good].sum()), 1.0))


def _share_beyond(dos: Sequence[float], scale: RatingScale, above: bool) -> float:
    """Return the share of opinions in the upper or lower 40 % of the range of a scale and its bins."""
    edges = scale.edges
    low, high = min(scale.low, edges[0]), max(scale.high, edges[-1])
    cut = low + (high - low) * (GOOD if above else 1 - GOOD)
    over = np.clip((edges[1:] - cut) / np.diff(edges), 0, 1)  # (K,), of each bin
    return float(np.dot(dos, over if above else 1 - over))


def _copula(u: Array, v: Array, correlation: float) -> Array:
    """Return P(U <= u, V <= v) of a Gaussian copula, by Owen's T function.

    Source: Owen, Tables for computing bivariate normal probabilities, 1956, equation 2.1.
    """
    if abs(correlation) == 1:
        return np.minimum(u, v) if correlation == 1 else np.maximum(u + v - 1, 0)
    from scipy.special import ndtr, ndtri, owens_t  # noqa: PLC0415, a slow import that scoring does not need

    h, k = (ndtri(np.clip(x, SMALLEST_SHARE, 1 - SMALLEST_SHARE)) for x in np.broadcast_arrays(u, v))
    h, k = (np.where(x == 0, SMALLEST_SHARE, x) for x in (h, k))  # the slopes below divide by them
    root = np.sqrt(1 - correlation**2)
    slopes = owens_t(h, (k / h - correlation) / root) + owens_t(k, (h / k - correlation) / root)
    return (ndtr(h) + ndtr(k)) / 2 - slopes - (h * k < 0) / 2


def _sum_distribution(share: Array, people: int) -> Array:
    """Return the distribution of the sum of independent draws from 0..K-1, by repeated squaring."""
    result, power = np.ones(1), share
    while people:
        if people % 2:
            result = np.convolve(result, power)
        people //= 2
        if people:
            power = np.convolve(power, power)
    return result


def _normalised(dos: Array | Sequence) -> Array:
    """Return distributions (K,) or (N, K) that sum to 1 in float64; those of a network do so in float32."""
    dos = np.asarray(dos, dtype=np.float64)
    return dos / dos.sum(-1, keepdims=True)


def _require_people(number: int) -> None:
    if number < 1:
        raise UserError(f"panel: {number} people are not allowed; use 1 or more")
