"""Statistics over the splits of runs: location and spread, and paired tests of two runs.

S splits.
"""

import warnings
from typing import NamedTuple

import numpy as np
from scipy.stats import ttest_rel, wilcoxon

Array = np.ndarray
NAN = float("nan")


class Description(NamedTuple):
    """`std` has ddof 1 and is NaN for one split."""

    mean: float
    std: float
    median: float


class Comparison(NamedTuple):
    """Mean difference, and the two-sided p values of two paired tests; NaN where there is none."""

    difference: float = NAN
    t_p: float = NAN
    wilcoxon_p: float = NAN


def describe(values: Array) -> Description:
    """Of values (S,); all NaN where one of them is."""
    std = values.std(ddof=1) if len(values) > 1 else NAN
    return Description(float(values.mean()), float(std), float(np.median(values)))


def compare(values: Array, baseline: Array) -> Comparison:
    """Values (S,) with those of a baseline (S,) on the same splits, at least one.

    Returns:
        The mean of values - baseline, with p of the paired t test and of Wilcoxon's signed-rank test; no p for one
        split or where all differences are 0, nothing at all where a value is NaN.
    """
    differences = values - baseline
    mean = float(differences.mean())
    if len(differences) < 2 or not differences.any():
        return Comparison(mean)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scipy's word on nearly equal differences, and on few of them
        return Comparison(mean, float(ttest_rel(values, baseline).pvalue), float(wilcoxon(values, baseline).pvalue))
