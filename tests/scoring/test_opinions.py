"""Answers from distributions, against a million simulated people, other formulas and numbers by hand."""

import numpy as np
import pytest
from scipy.stats import binom, multivariate_normal, norm

from datasets.scale import RatingScale
from inference import load_predictor
from scoring.opinions import (
    EXACT_PEOPLE,
    Comparison,
    PanelMean,
    Prediction,
    best_probabilities,
    compare,
    good_or_better,
    joint_distribution,
    panel_mean,
    poor_or_worse,
    ranking,
)
from tests.scoring.scored import ACR, DMOS
from utils.errors import UserError

PEOPLE = 1_000_000
DIGITS = 1e-3
A, B, C = (0.05, 0.15, 0.3, 0.35, 0.15), (0.1, 0.2, 0.4, 0.2, 0.1), (0.3, 0, 0.1, 0.2, 0.4)
UNEVEN = RatingScale(0, 10, (1, 2, 5, 9))


def prediction(dos, scale: RatingScale = ACR) -> Prediction:
    return Prediction(float(scale.mean(np.array(dos))), float(scale.std(np.array(dos))), tuple(dos), scale)


def simulated(dos, rng, people: int = PEOPLE) -> np.ndarray:
    """Bins of independent opinions."""
    return rng.choice(len(dos), people, p=dos)


@pytest.mark.parametrize("dos", [A, B, C])
def test_good_and_poor_are_the_outer_grades_of_acr(dos):
    assert good_or_better(dos, ACR) == pytest.approx(dos[3] + dos[4], abs=1e-15)
    assert poor_or_worse(dos, ACR) == pytest.approx(dos[0] + dos[1], abs=1e-15)
    for low, high in ((0, 100), (0, 5), (0, 1), (1, 5), (0, 9)):  # five equal bins, as in the configs
        centers = low + (np.arange(5) + 0.5) * (high - low) / 5
        for higher in (True, False):
            shares = [share(dos, RatingScale(low, high, centers, higher)) for share in (good_or_better, poor_or_worse)]
            outer = [dos[3] + dos[4], dos[0] + dos[1]][:: 1 if higher else -1]
            assert shares == pytest.approx(outer, abs=1e-12)
    ten = RatingScale(1, 10, tuple(range(1, 11)))
    assert good_or_better(np.arange(10) / 45, ten) == pytest.approx((6 + 7 + 8 + 9) / 45)


@pytest.mark.parametrize("scale", [UNEVEN, RatingScale(0, 10, (1, 2, 5, 9), higher_is_better=False)])
def test_bins_are_cut_where_opinions_lie_evenly_in_them(scale):
    dos, rng = np.array([0.1, 0.2, 0.3, 0.4]), np.random.default_rng(0)
    bins = simulated(dos, rng)
    opinions = scale.edges[bins] + rng.random(PEOPLE) * np.diff(scale.edges)[bins]  # of 0.5 to 11
    shares = (opinions >= 0.6 * 11).mean(), (opinions <= 0.4 * 11).mean()
    expected = shares if scale.higher_is_better else shares[::-1]
    assert (good_or_better(dos, scale), poor_or_worse(dos, scale)) == pytest.approx(expected, abs=DIGITS)


@pytest.mark.parametrize("correlation", [0, 0.35, 0.9, 0.999999, 1, -0.5, -1])
@pytest.mark.parametrize(("a", "b"), [(A, B), (C, A)])
def test_one_person_on_two_images(a, b, correlation):
    rng = np.random.default_rng(6)
    first, other = rng.standard_normal((2, PEOPLE))
    second = correlation * first + np.sqrt(1 - correlation**2) * other
    x, y = (np.searchsorted(np.cumsum(dos)[:-1], norm.cdf(z)) for dos, z in ((a, first), (b, second)))
    joint = joint_distribution(a, b, correlation)
    counted = np.bincount(x * 5 + y, minlength=25).reshape(5, 5) / PEOPLE
    assert np.abs(joint - counted).max() < 1.5e-3
    assert joint.sum(0) == pytest.approx(np.array(b), abs=1e-9)
    assert joint.sum(1) == pytest.approx(np.array(a), abs=1e-9)
    result = compare(prediction(a), prediction(b), panel=16, correlation=correlation)
    assert result.probability == pytest.approx((x > y).mean() + (x == y).mean() / 2, abs=DIGITS)
    assert result.standard_error == pytest.approx((x - y).std() / 4, abs=DIGITS)
    assert result.difference == pytest.approx(float(ACR.mean(np.array(a)) - ACR.mean(np.array(b))))


def test_the_copula_against_scipy():
    a = (0.5, 0.25, 0.125, 0.0625, 0.0625)  # with the median on an edge
    for correlation in (0.3, -0.8):
        below = joint_distribution(a, C, correlation).cumsum(0).cumsum(1)
        normal = multivariate_normal(cov=[[1, correlation], [correlation, 1]])
        for i in range(4):
            for j in range(4):
                limits = norm.ppf([np.cumsum(a)[i], np.cumsum(C)[j]])
                assert below[i, j] == pytest.approx(normal.cdf(limits), abs=1e-6)
    assert joint_distribution(a, C, 1e-9) == pytest.approx(np.outer(a, C), abs=1e-9)
    assert joint_distribution((1, 0, 0), (0, 0, 1), 0.5) == pytest.approx(np.outer((1, 0, 0), (0, 0, 1)), abs=1e-12)


@pytest.mark.parametrize("correlation", [0, 0.5, 1])
def test_an_image_against_itself(correlation):
    result = compare(prediction(A), prediction(A), correlation=correlation)
    assert result.probability == 0.5
    assert result.difference == 0
    if correlation == 1:
        assert result.standard_error == pytest.approx(0, abs=1e-9)
    if correlation == 0:
        assert result == Comparison(result.probability, 0, pytest.approx(prediction(A).sos * (2 / 25) ** 0.5), 25)


def test_two_images_by_hand():
    better, worse = prediction((0, 0, 0, 0.5, 0.5)), prediction((0, 0, 0, 1, 0))
    assert compare(better, worse).probability == pytest.approx(0.75)
    assert compare(worse, better).probability == pytest.approx(0.25)
    lower, higher = prediction((1, 0, 0, 0, 0), DMOS), prediction((0, 0, 0, 0, 1), DMOS)
    assert compare(lower, higher, panel=1) == Comparison(1, -80, 0, 1)  # lower is better, and the difference plain


def test_what_is_not_compared():
    with pytest.raises(UserError, match="the scales differ, 1 to 5, higher is better and 0 to 100, lower is better"):
        compare(prediction(A), prediction(A, DMOS))
    with pytest.raises(UserError, match=r"correlation: 1\.5 is not allowed; use -1 to 1"):
        compare(prediction(A), prediction(A), correlation=1.5)
    for call in (lambda: compare(prediction(A), prediction(A), panel=0), lambda: panel_mean(A, ACR, 0)):
        with pytest.raises(UserError, match="panel: 0 people are not allowed; use 1 or more"):
            call()
    with pytest.raises(UserError, match="the scales of the images differ"):
        ranking([prediction(A), prediction(A, DMOS)])
    with pytest.raises(UserError, match="1001 images are too many to compare; the limit is 1000"):
        best_probabilities(np.tile(A, (1001, 1)))


@pytest.mark.parametrize("higher", [True, False])
def test_the_best_of_several(higher):
    images, rng = np.array([A, B, C, A, (0, 0, 0, 0.9, 0.1)]), np.random.default_rng(2)
    scores = np.stack([simulated(dos, rng) for dos in images]) * (1 if higher else -1)
    best = scores == scores.max(0)
    probabilities = best_probabilities(images, higher)
    assert probabilities == pytest.approx((best / best.sum(0)).mean(1), abs=DIGITS)
    assert probabilities.sum() == pytest.approx(1, abs=1e-12)
    assert probabilities[0] == pytest.approx(probabilities[3], abs=1e-15)


@pytest.mark.parametrize("count", [1, 2, 3, 10, 999, 1000])
def test_equal_images_share_equally(count):
    assert best_probabilities(np.tile(A, (count, 1))) == pytest.approx(np.full(count, 1 / count), rel=1e-9)


def test_the_best_of_two_is_the_comparison_and_of_many_sums_to_1():
    assert best_probabilities([A, B])[0] == pytest.approx(compare(prediction(A), prediction(B)).probability)
    many = np.random.default_rng(3).dirichlet(np.full(10, 0.2), 500)
    many[::7] = np.eye(10)[3]
    assert best_probabilities(many).sum() == pytest.approx(1, abs=1e-10)
    assert best_probabilities([[1, 0, 0], [0, 0, 1], [0, 0, 1]]) == pytest.approx([0, 0.5, 0.5])


def test_the_ranking_is_in_order():
    images = [prediction(dos) for dos in (B, (1, 0, 0, 0, 0), (0, 0, 0, 0, 1), (0.9, 0.1, 0, 0, 0), A)]
    ranked = ranking(images)
    assert [image.index for image in ranked] == [2, 4, 0, 3, 1]  # the last two by MOS
    assert ranked[0].prediction is images[2]
    assert sum(image.probability for image in ranked) == pytest.approx(1)
    assert ranking([]) == []
    assert [image.index for image in ranking([prediction(A, DMOS), prediction((1, 0, 0, 0, 0), DMOS)])] == [1, 0]


@pytest.mark.parametrize(("dos", "scale"), [(A, ACR), (C, ACR), (B, DMOS)])
@pytest.mark.parametrize("people", [1, 5, 25])
def test_panels(dos, scale, people):
    rng = np.random.default_rng(people)
    counts = rng.multinomial(people, dos, PEOPLE)  # (panels, K)
    means = counts @ np.array(scale.bin_centers) / people
    panel = panel_mean(dos, scale, people)
    cut = scale.low + (scale.high - scale.low) * (0.6 if scale.higher_is_better else 0.4)
    good = means >= cut - 1e-9 if scale.higher_is_better else means <= cut + 1e-9
    assert panel.good == pytest.approx(good.mean(), abs=DIGITS)
    expected = np.quantile(means, (0.05, 0.95), method="inverted_cdf")
    assert (panel.low, panel.high) == pytest.approx(expected, abs=1e-9)
    assert ((means >= panel.low - 1e-9) & (means <= panel.high + 1e-9)).mean() >= 0.9 - DIGITS


def test_a_panel_is_good_from_3_point_4():
    assert panel_mean((0, 0, 0.6, 0.4, 0), ACR, 5).good == pytest.approx(binom.sf(1, 5, 0.4))  # 2 of 5: 3.4
    assert panel_mean((0, 0, 1, 0, 0), ACR, 7).good == 0
    assert panel_mean((0, 0, 0, 1, 0), ACR, 7) == PanelMean(4, 4, 1)
    assert panel_mean((0, 0, 0, 1, 0), ACR, 2 * EXACT_PEOPLE).high == pytest.approx(4, abs=1e-7)  # without a spread


def test_large_panels_and_uneven_bins_are_normal():
    for dos, scale, people in ((A, ACR, 1600), ((0.1, 0.2, 0.3, 0.4), UNEVEN, 400)):
        mos, sos = prediction(dos, scale).mos, prediction(dos, scale).sos
        panel, error = panel_mean(dos, scale, people), sos / people**0.5
        assert (panel.low, panel.high) == pytest.approx(norm.interval(0.9, mos, error))
        assert panel.good == pytest.approx(norm.sf(scale.low + 0.6 * (scale.high - scale.low), mos, error))
    exact, normal = panel_mean(A, ACR, EXACT_PEOPLE), panel_mean(A, ACR, EXACT_PEOPLE + 1)
    assert (exact.low, exact.high) == pytest.approx((normal.low, normal.high), abs=2e-3)
    many = np.random.default_rng(4).multinomial(EXACT_PEOPLE, A, 20_000) @ np.arange(1, 6) / EXACT_PEOPLE
    assert (exact.low, exact.high) == pytest.approx(np.quantile(many, (0.05, 0.95)), abs=3e-3)


def test_those_of_a_predictor_are_of_its_predictions(checkpoint):
    predictor = load_predictor(checkpoint, device="cpu")
    pictures = list(np.random.default_rng(3).integers(0, 256, (3, 50, 70, 3), dtype=np.uint8))
    first, second = predictor(pictures[:2])  # in the same batch, since batches round differently
    assert predictor.compare(*pictures[:2]) == compare(first, second)
    assert predictor.compare(*pictures[:2], panel=9, correlation=0.5) == compare(first, second, 9, 0.5)
    assert predictor.compare(pictures[0], pictures[0]).probability == pytest.approx(0.5)
    assert predictor.best(pictures) == ranking(predictor(pictures))
    assert [(one.index, one.probability) for one in predictor.best(pictures[:1])] == [(0, 1)]
