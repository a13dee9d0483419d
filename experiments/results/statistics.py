"""Statistics over the splits of runs: mean, standard deviation, median, and paired tests of two runs.

S splits.
"""

from typing import NamedTuple

import numpy as np
from scipy.stats import PermutationMethod, t, ttest_rel, wilcoxon

Array = np.ndarray
NAN = float("nan")
NEGLIGIBLE = 1e-9  # relative to the largest value; smaller differences are rounding
MOST_TIED = 12  # differences with ties for which all 4,096 choices of signs are tried


class Description(NamedTuple):
    """Mean, standard deviation (ddof 1, NaN for one split) and median."""

    mean: float
    std: float
    median: float


class Comparison(NamedTuple):
    """Mean difference and two-sided p values of three paired tests; NaN where a value is undefined.

    `corrected_p` is from the t test corrected for splits that share training images. `wilcoxon_n` is the number of
    splits with a nonzero difference, which Wilcoxon's test uses.
    """

    difference: float = NAN
    t_p: float = NAN
    corrected_p: float = NAN
    wilcoxon_p: float = NAN
    wilcoxon_n: float = NAN


def describe(values: Array) -> Description:
    """Return the statistics of values (S,); all are NaN if a value is NaN."""
    std = values.std(ddof=1) if len(values) > 1 else NAN
    return Description(float(values.mean()), float(std), float(np.median(values)))


def compare(values: Array, baseline: Array, test_share: float = NAN) -> Comparison:
    """Compare values (S,) with those of a baseline (S,) on the same splits, at least one.

    Args:
        values: Values of a run.
        baseline: Values of the baseline.
        test_share: Ratio of test images to training images, for the corrected t test.

    Returns:
        Mean of values - baseline, and p of the tests. p is NaN for a single split; for the t tests also if all
        differences are equal up to rounding, for Wilcoxon's if all are 0. All is NaN if a value is NaN.
    """
    differences = values - baseline
    mean = float(differences.mean())
    if len(differences) < 2 or np.isnan(mean):
        return Comparison(mean)
    rounding = NEGLIGIBLE * max(np.abs(values).max(), np.abs(baseline).max())
    steps = np.round(differences / rounding) if rounding > 0 else np.zeros(len(differences))
    t_p, corrected_p = NAN, NAN
    if differences.std(ddof=1) > rounding:
        t_p, corrected_p = float(ttest_rel(values, baseline).pvalue), corrected_t_test(differences, test_share)
    return Comparison(mean, t_p, corrected_p, signed_rank_test(steps), float(np.count_nonzero(steps)))


def corrected_t_test(differences: Array, test_share: float) -> float:
    """Return the two-sided p of the corrected resampled t test of differences (S,) that are not all equal.

    Random splits of the same images share most training images, so the variance of their mean is larger than var / S;
    it is taken as var (1 / S + test_share).

    Source: Nadeau and Bengio, Inference for the Generalization Error, Machine Learning 52, 2003.
    """
    splits = len(differences)
    statistic = differences.mean() / np.sqrt(differences.var(ddof=1) * (1 / splits + test_share))
    return float(2 * t.sf(np.abs(statistic), splits - 1))


def signed_rank_test(differences: Array) -> float:
    """Return the two-sided p of Wilcoxon's signed-rank test of differences (S,); NaN if all are 0.

    Differences of 0 are dropped; equal ones share their mean rank. The p is exact, unless more than MOST_TIED
    differences have ties: then it is the normal approximation.
    """
    differences = differences[differences != 0]
    if len(differences) == 0:
        return NAN
    tied = len(np.unique(np.abs(differences))) < len(differences)
    if not tied:
        method = "exact"
    elif len(differences) <= MOST_TIED:
        method = PermutationMethod(n_resamples=2**MOST_TIED)  # every choice of signs
    else:
        method = "asymptotic"
    return float(wilcoxon(differences, zero_method="wilcox", method=method).pvalue)
