"""Paired tests against scipy and against what they are by definition."""

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from experiments.results.statistics import compare, signed_rank_test


@pytest.fixture
def runs():
    rng = np.random.default_rng(0)
    baseline = rng.normal(0.9, 0.01, 10)
    return baseline + rng.normal(0.004, 0.006, 10), baseline


def test_without_ties_they_are_scipys(runs):
    compared = compare(*runs, test_share=0.25)
    assert compared.difference == pytest.approx(np.mean(runs[0] - runs[1]))
    assert compared.t_p == pytest.approx(stats.ttest_rel(*runs).pvalue, rel=1e-12)
    assert compared.wilcoxon_p == pytest.approx(stats.wilcoxon(*runs, method="exact").pvalue, rel=1e-12)
    assert compared.wilcoxon_n == 10


@pytest.mark.parametrize("splits", [3, 5, 10])
def test_the_corrected_t_test_of_nadeau_and_bengio(splits, runs):
    values, baseline = (of_run[:splits] for of_run in runs)
    differences = values - baseline
    statistic = differences.mean() / math.sqrt((1 / splits + 20 / 80) * differences.var(ddof=1))
    density = stats.t(splits - 1)
    compared = compare(values, baseline, test_share=20 / 80)
    assert compared.corrected_p == pytest.approx(2 * density.cdf(-abs(statistic)), rel=1e-12)
    assert compared.corrected_p > compared.t_p
    assert math.isnan(compare(values, baseline).corrected_p)  # of sizes that are not known


@pytest.mark.parametrize(
    "differences", [[1, -2, 3, 4, 5, 6], [2, 2, -2, 3, 5, 5], [0, 1, -1, 4, 0, 4, 7], [-3], [1, -1, 1, -1]]
)
def test_wilcoxon_by_trying_every_sign(differences):
    others = np.array([difference for difference in differences if difference])
    ranks = stats.rankdata(np.abs(others))
    sums = [ranks[np.array(signs)].sum() for signs in itertools.product((False, True), repeat=len(others))]
    ours = ranks[others > 0].sum()
    tail = min(np.mean(np.less_equal(sums, ours)), np.mean(np.greater_equal(sums, ours)))
    assert signed_rank_test(np.array(differences)) == pytest.approx(min(1, 2 * tail), rel=1e-12)


def test_zero_differences_are_dropped(runs):
    values, baseline = runs
    values = np.append(values, 0.9)
    compared = compare(values, np.append(baseline, 0.9))
    assert compared.wilcoxon_n == 10
    assert compared.wilcoxon_p == compare(*runs).wilcoxon_p
    rounded = compare(np.append(values, 0.3), np.append(baseline, [0.9, 0.1 + 0.2]))
    assert (rounded.wilcoxon_n, rounded.wilcoxon_p) == (10, compared.wilcoxon_p)  # 0.1 + 0.2 is not 0.3 in binary


def test_ties_are_not_broken_by_rounding():
    baseline = np.array([0.1, 0.2, 0.3, 0.7, 0.9, 0.6])
    signs = np.array([1, 1, 1, -1, 1, 1])
    differences = baseline + 0.1 * signs - baseline
    assert len(set(np.abs(differences))) > 1
    assert compare(baseline + 0.1 * signs, baseline).wilcoxon_p == signed_rank_test(signs)


@pytest.mark.parametrize("shift", [0.1, -1e-3])
def test_a_constant_difference_has_no_t_test(shift):
    baseline = np.array([0.91, 0.93, 0.925, 0.94, 0.9, 0.915])
    compared = compare(baseline + shift, baseline, test_share=0.25)
    assert compared.difference == pytest.approx(shift)
    assert math.isnan(compared.t_p)
    assert math.isnan(compared.corrected_p)
    assert compared.wilcoxon_p == 2 / 2**6


def test_what_is_not_to_be_compared():
    same = np.array([0.9, 0.8])
    assert compare(same, same)._asdict() == pytest.approx(
        {"difference": 0, "t_p": math.nan, "corrected_p": math.nan, "wilcoxon_p": math.nan, "wilcoxon_n": 0},
        nan_ok=True,
    )
    zero = compare(np.zeros(3), np.zeros(3), 0.25)
    assert (zero.difference, zero.wilcoxon_n) == (0, 0)
    for values in (np.array([0.9]), np.array([0.9, math.nan])):
        compared = compare(values, np.full(len(values), 0.8))
        assert all(math.isnan(value) for value in compared[1:])


def test_many_tied_differences_take_the_normal_approximation():
    differences = np.resize([1, 2, -1, 3, 2, -4], 24)
    assert signed_rank_test(differences) == stats.wilcoxon(differences, method="asymptotic").pvalue
