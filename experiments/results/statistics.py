"""Statistics over the splits of runs: location and spread, and paired tests of two runs.

S splits, D of which differ.
"""

from typing import NamedTuple

import numpy as np
from scipy.stats import rankdata, t

Array = np.ndarray
NAN = float("nan")
NEGLIGIBLE = 1e-9  # of the largest value: what is smaller, or differs by less, is rounding


class Description(NamedTuple):
    """`std` has ddof 1 and is NaN for one split."""

    mean: float
    std: float
    median: float


class Comparison(NamedTuple):
    """Mean difference, and the two-sided p values of three paired tests; NaN where there is none.

    `corrected_p` is of the t test corrected for splits that share training images, `wilcoxon_n` the number of splits
    that Wilcoxon's test is over: those with a difference.
    """

    difference: float = NAN
    t_p: float = NAN
    corrected_p: float = NAN
    wilcoxon_p: float = NAN
    wilcoxon_n: float = NAN


def describe(values: Array) -> Description:
    """Of values (S,); all NaN where one of them is."""
    std = values.std(ddof=1) if len(values) > 1 else NAN
    return Description(float(values.mean()), float(std), float(np.median(values)))


def compare(values: Array, baseline: Array, test_share: float = NAN) -> Comparison:
    """Values (S,) with those of a baseline (S,) on the same splits, at least one.

    Args:
        values: Of a run.
        baseline: Of the run that it is compared with.
        test_share: Test images for each training image, for the corrected t test.

    Returns:
        The mean of values - baseline and p of the tests; no p for one split, none of the t tests where all differences
        are the same up to rounding, none of Wilcoxon's where all are 0, nothing at all where a value is NaN.
    """
    differences = values - baseline
    mean = float(differences.mean())
    if len(differences) < 2 or np.isnan(mean):
        return Comparison(mean)
    rounding = NEGLIGIBLE * max(np.abs(values).max(), np.abs(baseline).max())
    steps = np.round(differences / rounding) if rounding > 0 else np.zeros(len(differences))
    spread = differences.std(ddof=1)
    t_p, corrected_p = NAN, NAN
    if spread > rounding:
        t_p, corrected_p = t_test(mean, spread, len(differences)), t_test(mean, spread, len(differences), test_share)
    return Comparison(mean, t_p, corrected_p, signed_rank_test(steps), float(np.count_nonzero(steps)))


def t_test(mean: float, spread: float, splits: int, test_share: float = 0.0) -> float:
    """Two-sided p of a mean difference over splits with a standard deviation of them (ddof 1) above 0.

    Random splits of the same images share most of their training images, so that the variance of the mean is larger
    than spread^2 / S. The corrected resampled t test takes spread^2 (1 / S + test_share); with a share of 0 this is the
    paired t test.

    Source: Nadeau and Bengio, Inference for the Generalization Error, Machine Learning 52, 2003.
    """
    statistic = mean / (spread * np.sqrt(1 / splits + test_share))
    return float(2 * t.sf(np.abs(statistic), splits - 1))


def signed_rank_test(differences: Array) -> float:
    """Two-sided p of Wilcoxon's signed-rank test of differences (S,), exact; NaN where all are 0.

    Differences of 0 are dropped, as Wilcoxon did, and equal ones share their mean rank. Every choice of signs of the D
    others is equally likely, so that their number by the sum of positive ranks is all that it takes.

    Source: Wilcoxon, Individual Comparisons by Ranking Methods, Biometrics Bulletin 1, 1945.
    """
    differences = differences[differences != 0]
    if len(differences) == 0:
        return NAN
    ranks = np.round(2 * rankdata(np.abs(differences))).astype(int)  # (D,), doubled: mean ranks may end in .5
    ways = np.ones(1)  # (sum + 1,): choices of signs that lead to each sum
    for rank in ranks:
        ways = np.pad(ways, (0, rank)) + np.pad(ways, (rank, 0))
    positive = ranks[differences > 0].sum()
    smaller_tail = min(ways[: positive + 1].sum(), ways[positive:].sum()) / ways.sum()
    return float(min(1, 2 * smaller_tail))
