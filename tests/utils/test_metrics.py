"""Metrics against scipy and against values worked out by hand."""

import math
import warnings

import numpy as np
import pytest
from scipy import stats
from scipy.spatial.distance import jensenshannon

from utils.metrics import (
    BETTER,
    distribution_metrics,
    dos_coverage,
    fit_logistic,
    jsd,
    kl,
    krcc,
    logistic,
    pit_histogram,
    plcc,
    probability_integral_transform,
    score_metrics,
    split_metrics,
    srcc,
)

CENTERS = np.arange(1.0, 6.0)


@pytest.fixture
def scores():
    rng = np.random.default_rng(0)
    target = rng.uniform(1, 5, 300).round(1)  # with ties
    return target + rng.normal(0, 0.5, 300), target


@pytest.fixture
def distributions():
    rng = np.random.default_rng(0)
    pred, target = rng.dirichlet(np.ones(5), 40), rng.dirichlet(np.ones(5), 40)
    target[0] = [0, 0, 1, 0, 0]
    return pred, target


def test_correlations_are_scipys(scores):
    pred, target = scores
    pred = pred.round(1)
    assert plcc(pred, target) == pytest.approx(stats.pearsonr(pred, target).statistic, abs=1e-14)
    assert srcc(pred, target) == pytest.approx(stats.spearmanr(pred, target).statistic, abs=1e-14)
    assert krcc(pred, target) == pytest.approx(stats.kendalltau(pred, target).statistic, abs=1e-14)


def test_kendall_by_counting_pairs():
    x, y = np.array([1, 2, 3, 4, 4]), np.array([2, 1, 3, 3, 5])
    signs = np.sign(np.subtract.outer(x, x)) * np.sign(np.subtract.outer(y, y))
    pairs = [(np.subtract.outer(v, v) != 0).sum() for v in (x, y)]
    assert krcc(x, y) == pytest.approx(signs.sum() / math.sqrt(pairs[0] * pairs[1]))


def test_constant_predictions_have_no_correlation():
    with pytest.warns(UserWarning, match="logistic fit failed"):
        metrics = score_metrics(np.full(20, 3.0), np.linspace(1, 5, 20))
    assert all(math.isnan(metrics[name]) for name in ("srcc", "plcc", "krcc"))
    assert metrics["rmse"] == metrics["rmse_raw"]
    assert metrics["logistic_fit"] == 0


@pytest.mark.parametrize("value", [0.1, 1e-30, -1e6 / 3])
def test_constants_that_are_no_binary_fractions_have_none_either(value):
    rising = np.linspace(1, 5, 23)
    constant = np.full(23, value)
    assert math.isnan(plcc(constant, rising))
    assert math.isnan(plcc(rising, constant))
    nearly = constant * (1 + 1e-6 * rising)
    assert plcc(nearly, rising) == pytest.approx(math.copysign(1, value), abs=1e-6)


def test_the_fit_hides_that_a_network_is_the_wrong_way_round(scores):
    pred, target = scores
    metrics = score_metrics(-pred, target)
    assert metrics["plcc"] == pytest.approx(score_metrics(pred, target)["plcc"], abs=1e-3)
    assert metrics["srcc"] < -0.8
    assert metrics["plcc_raw"] < -0.8


def test_logistic_runs_from_b2_to_b1_around_b3():
    assert logistic(np.array([-1e9, 3.0, 1e9]), 5, 1, 3, -0.5).tolist() == [1, 3, 5]
    assert logistic(np.array([3.5]), 5, 1, 3, 0.5)[0] == pytest.approx(1 + 4 / (1 + math.exp(-1)))


@pytest.mark.parametrize("unit", [1, 25])
def test_logistic_is_found_again_on_any_scale(unit):
    x = np.linspace(1, 5, 200) * unit
    y = logistic(x, 4.5 * unit, 1.2 * unit, 2.8 * unit, 0.4 * unit)
    metrics = score_metrics(x, y)
    assert metrics["rmse"] < 1e-4 * unit
    assert metrics["plcc"] == pytest.approx(1, abs=1e-6)
    assert metrics["plcc_raw"] == pytest.approx(stats.pearsonr(x, y).statistic)
    assert metrics["rmse_raw"] == pytest.approx(np.sqrt(np.mean((x - y) ** 2)))


def test_fit_is_the_least_squares_one(scores):
    pred, target = scores
    fitted = fit_logistic(pred, target)
    error = ((logistic(pred, *fitted) - target) ** 2).sum()
    for index in range(4):
        for step in (0.99, 1.01):
            moved = fitted.copy()
            moved[index] *= step
            assert ((logistic(pred, *moved) - target) ** 2).sum() >= error


def test_start_of_the_release_is_not_trusted_where_it_gets_stuck():
    rng = np.random.default_rng(3)
    for _ in range(60):  # 0..100 scale, noisy: the start slope of 0.5 points is a step there
        pred = rng.uniform(0, 100, 60)
        target = np.clip(pred + rng.normal(0, 40, 60), 0, 100)
        metrics = score_metrics(pred, target)
        assert metrics["logistic_fit"]
        assert metrics["plcc"] >= metrics["plcc_raw"] - 0.02


def test_rank_metrics_ignore_the_fit(scores):
    pred, target = scores
    assert score_metrics(np.exp(pred), target)["srcc"] == pytest.approx(score_metrics(pred, target)["srcc"])


@pytest.mark.parametrize(
    ("pred", "target", "message"),
    [
        ([1, 2], [1, 2, 3], "two"),
        ([], [], "two"),
        ([[1, 2]], [[1, 2]], "two"),
        ([1, float("nan")], [1, 2], "finite"),
    ],
)
def test_bad_scores(pred, target, message):
    with pytest.raises(ValueError, match=message):
        score_metrics(pred, target)


def test_distribution_metrics_are_scipys(distributions):
    pred, target = distributions
    metrics = distribution_metrics(pred, {"dos": target, "mos": target @ CENTERS}, CENTERS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        jsd = np.mean([jensenshannon(p, q) ** 2 for p, q in zip(pred, target, strict=True)])
    assert metrics["jsd"] == pytest.approx(jsd)
    cdfs = pred.cumsum(1) - target.cumsum(1)
    assert metrics["emd"] == pytest.approx(np.mean([np.linalg.norm(row) / math.sqrt(5) for row in cdfs]))
    assert metrics["dos_rmse"] == pytest.approx(np.mean([np.linalg.norm(row) / math.sqrt(5) for row in pred - target]))
    cosine = [p @ q / (np.linalg.norm(p) * np.linalg.norm(q)) for p, q in zip(pred, target, strict=True)]
    assert metrics["cosine"] == pytest.approx(np.mean(cosine))
    assert metrics["intersection"] == pytest.approx(1 - np.abs(pred - target).sum(1).mean() / 2)


@pytest.mark.parametrize("centers", [CENTERS, [10, 30, 50, 70, 90], [0, 1, 5, 20, 21]])
def test_kl_and_wasserstein_are_scipys(centers, distributions):
    pred, target = distributions
    metrics = distribution_metrics(pred, {"dos": target, "mos": target @ centers}, np.array(centers))
    assert metrics["kl"] == pytest.approx(np.mean([stats.entropy(q, p) for p, q in zip(pred, target, strict=True)]))
    apart = [stats.wasserstein_distance(centers, centers, p, q) for p, q in zip(pred, target, strict=True)]
    assert metrics["wasserstein"] == pytest.approx(np.mean(apart))


@pytest.mark.parametrize(("low", "high", "centers"), [(0.5, 5.5, CENTERS), (0, 100, [10, 30, 50, 70, 90])])
def test_pit_is_the_distribution_function_of_evenly_spread_bins(low, high, centers, distributions):
    pred, _ = distributions
    edges = np.linspace(low, high, 6)
    mos = np.random.default_rng(1).uniform(low, high, len(pred))
    pit = probability_integral_transform(pred, mos, centers)
    for value, p, score in zip(pit, pred, mos, strict=True):
        assert value == pytest.approx(stats.rv_histogram((p, edges)).cdf(score))
    ends = probability_integral_transform(pred, np.full(len(pred), low), centers)
    np.testing.assert_allclose(ends, 0, atol=1e-15)
    np.testing.assert_allclose(probability_integral_transform(pred, np.full(len(pred), high), centers), 1)


def test_calibrated_predictions_cover_what_they_say():
    """Scores drawn from the predicted distributions: PIT is uniform, coverage is nominal."""
    rng = np.random.default_rng(0)
    pred = rng.dirichlet(np.full(5, 2.0), 20_000)
    drawn = (rng.random((len(pred), 1)) > pred.cumsum(1)).sum(1) + rng.uniform(0.5, 1.5, len(pred))
    metrics = distribution_metrics(pred, {"dos": pred, "mos": drawn}, CENTERS)
    assert metrics["coverage_50"] == pytest.approx(0.50, abs=0.01)
    assert metrics["coverage_80"] == pytest.approx(0.80, abs=0.01)
    assert metrics["coverage_95"] == pytest.approx(0.95, abs=0.01)
    np.testing.assert_allclose(pit_histogram(pred, drawn, CENTERS), 0.1, atol=0.01)
    assert metrics["coverage_dos_90"] == pytest.approx(0.90)


def test_coverage_of_the_dos_is_scipys(distributions):
    pred, target = distributions
    edges = np.arange(0.5, 6)
    expected = []
    for one, other in zip(pred, target, strict=True):
        ends = stats.rv_histogram((one, edges)).ppf([0.05, 0.95])
        expected.append(np.diff(stats.rv_histogram((other, edges)).cdf(ends))[0])
    np.testing.assert_allclose(dos_coverage(pred, target, CENTERS), expected)


def test_every_metric_has_a_better_way_but_coverage(distributions):
    pred, target = ({"dos": dos, "mos": dos @ CENTERS, "sos": dos.std(1)} for dos in distributions)
    metrics = split_metrics(pred, target, CENTERS)
    coverage = {"coverage_50", "coverage_80", "coverage_95", "coverage_dos_90"}
    assert set(metrics) - set(BETTER) == {"logistic_fit", *coverage}
    assert metrics["sos_srcc"] == pytest.approx(stats.spearmanr(pred["sos"], target["sos"]).statistic)
    assert metrics["sos_plcc"] == pytest.approx(stats.pearsonr(pred["sos"], target["sos"]).statistic)


def test_equal_and_disjoint_distributions():
    one, other = np.eye(5)[[0]], np.eye(5)[[4]]
    equal = distribution_metrics(one, {"dos": one, "mos": np.array([1.0])}, CENTERS)
    perfect = {"jsd": 0, "emd": 0, "kl": 0, "dos_rmse": 0, "intersection": 1, "cosine": 1, "wasserstein": 0}
    coverage = {"coverage_50": 1, "coverage_80": 1, "coverage_95": 1, "coverage_dos_90": pytest.approx(0.9)}
    assert equal == {**perfect, **coverage}
    apart = distribution_metrics(one, {"dos": other, "mos": np.array([5.0])}, CENTERS)
    assert (apart["wasserstein"], apart["coverage_95"]) == (4, 0)
    assert apart["kl"] == pytest.approx(12 * math.log(10))  # a share of 0 counts as 1e-12
    assert apart["jsd"] == pytest.approx(math.log(2))
    assert apart["emd"] == pytest.approx(math.sqrt(4 / 5))
    assert (apart["intersection"], apart["cosine"]) == (0, 0)


def test_kl_is_not_below_zero_where_shares_are_of_float32():
    target = np.random.default_rng(0).dirichlet(np.ones(5), 500)
    rounded = target.astype(np.float32).astype(np.float64)
    assert np.abs(rounded.sum(1) - 1).max() > 1e-8
    assert (kl(rounded, target) >= 0).all()
    assert kl(rounded, target).max() < 1e-12
    np.testing.assert_allclose(kl(rounded, np.eye(5)[target.argmax(1)]), -np.log(target.max(1)), rtol=1e-6)


def test_bad_distributions():
    with pytest.raises(ValueError, match="two"):
        distribution_metrics(np.ones((2, 5)), {"dos": np.ones((2, 4)), "mos": np.ones(2)}, CENTERS)


def test_divergences_of_nearly_equal_distributions_are_not_negative():
    rng = np.random.default_rng(0)
    p = rng.dirichlet(np.ones(5), 1000)
    q = p * (1 + 1e-9 * rng.normal(size=p.shape))
    assert min(jsd(p, q).min(), kl(p, q).min()) == 0
