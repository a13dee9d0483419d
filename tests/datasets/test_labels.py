"""DOS recipes, the SOS hypothesis and Records."""

import numpy as np
import pytest
from scipy.stats import entropy, norm

from datasets.labels import (
    Rating,
    complete,
    dos_gaussian,
    fit_sos_a,
    hypothesis_label,
    make_dos,
    make_records,
    vote_moments,
)
from datasets.max_entropy import dos_max_entropy
from datasets.scale import RatingScale
from utils.errors import UserError

ACR = RatingScale(1, 5, (1, 2, 3, 4, 5))
PERCENT = RatingScale(0, 100, (10, 30, 50, 70, 90))


def grid():
    mos, sos = np.meshgrid(np.linspace(12, 88, 39), np.linspace(1, 39, 39))
    return mos.ravel(), sos.ravel()


def test_counts():
    dos, fallbacks = make_dos("counts", np.array([2.0]), np.array([0.5]), np.array([[0, 1, 3, 0, 0]]), ACR)
    np.testing.assert_allclose(dos, [[0, 0.25, 0.75, 0, 0]])
    assert fallbacks.tolist() == [False]


def test_gaussian_is_scipys_density_at_the_centres():
    mos, sos = np.array([32.56, 66.36, 5.0]), np.array([19.12, 20.22, 12.0])
    expected = norm.pdf(np.array(PERCENT.bin_centers), mos[:, None], sos[:, None])
    expected /= expected.sum(1, keepdims=True)
    expected[expected < 1e-5] = 0
    expected /= expected.sum(1, keepdims=True)
    np.testing.assert_allclose(dos_gaussian(mos, sos, PERCENT), expected, atol=1e-15)


def test_gaussian_zeroes_what_is_tiny_and_sums_to_one():
    dos = dos_gaussian([20.0], [7.0], PERCENT)
    assert (dos[0, 3:] == 0).all()
    assert dos.sum() == pytest.approx(1, abs=1e-15)


def test_gaussian_without_spread_is_one_hot_in_the_bin_of_the_mos():
    dos = dos_gaussian([1.0, 2.6, 4.5], [0.0, 0.0, 0.0], ACR)
    assert dos.argmax(1).tolist() == [0, 2, 3]
    assert dos.max(1).tolist() == [1, 1, 1]


def test_gaussian_survives_a_hair_of_spread():
    dos = dos_gaussian([97.0], [1e-12], PERCENT)
    assert dos.tolist() == [[0, 0, 0, 0, 1]]


def test_max_entropy_has_exactly_the_moments():
    mos, sos = grid()
    dos, replaced = dos_max_entropy(mos, sos, PERCENT)
    kept = ~replaced
    assert 0 < replaced.sum() < len(mos)
    np.testing.assert_allclose(dos.sum(1), 1, atol=1e-12)
    assert (dos >= 0).all()
    np.testing.assert_allclose(PERCENT.mean(dos)[kept], mos[kept], atol=1e-7)
    np.testing.assert_allclose(PERCENT.std(dos)[kept] ** 2, sos[kept] ** 2, atol=1e-5)


@pytest.mark.parametrize("scale", [PERCENT, ACR], ids=["percent", "acr"])
def test_max_entropy_is_exact_up_to_the_edge_of_what_is_feasible(scale):
    """Max-entropy DOS has the given MOS and SOS to 1e-6, also at the feasible edges and close to them."""
    centers = np.array(scale.bin_centers)
    mos = np.concatenate([centers[:-1] + share * np.diff(centers) for share in (1e-9, 0.2, 0.5, 1 - 1e-9)])
    left = np.searchsorted(centers, mos, side="right") - 1
    least = (mos - centers[left]) * (centers[left + 1] - mos)
    most = (mos - centers[0]) * (centers[-1] - mos)
    for edge, inwards in ((least, 1), (most, -1)):
        for step in (1e-13, 1e-11, 1e-9, 1e-7, 1e-5, 1e-3):
            sos = np.sqrt(np.maximum(edge + inwards * step * (centers[-1] - centers[0]) ** 2, 0))
            dos, replaced = dos_max_entropy(mos, sos, scale)
            feasible = ~replaced
            np.testing.assert_allclose(scale.mean(dos)[feasible], mos[feasible], atol=1e-6)
            np.testing.assert_allclose(scale.std(dos)[feasible], sos[feasible], atol=1e-6)
            assert (dos >= 0).all()
            inside = (sos**2 > least + 1e-9) & (sos**2 < most - 1e-9)
            assert not replaced[inside].any()


def test_max_entropy_is_the_flattest():
    (dos,), _ = dos_max_entropy(np.array([41.0]), np.array([22.0]), PERCENT)
    centers = np.array(PERCENT.bin_centers)
    keeps_moments = np.linalg.svd(np.stack([np.ones(5), centers, centers**2]))[2][3:]  # null space
    for direction in keeps_moments:
        for step in (-0.01, 0.01):
            assert entropy(dos + step * direction) < entropy(dos)


@pytest.mark.parametrize(
    ("mos", "sos", "expected"),
    [
        (3.0, 2.5, [0.5, 0, 0, 0, 0.5]),  # more than the outer bins allow
        (2.5, 0.1, [0, 0.5, 0.5, 0, 0]),  # less than the nearest bins allow
        (3.0, 0.0, [0, 0, 1, 0, 0]),
    ],
)
def test_max_entropy_takes_the_nearest_feasible(mos, sos, expected):
    dos, replaced = dos_max_entropy(np.array([mos]), np.array([sos]), ACR)
    np.testing.assert_allclose(dos[0], expected, atol=1e-6)
    assert replaced[0] == (sos > 0)


def test_max_entropy_beyond_the_outer_centres():
    dos, replaced = dos_max_entropy(np.array([3.0, 95.0]), np.array([5.0, 5.0]), PERCENT)
    assert replaced.all()
    np.testing.assert_allclose(dos, [[1, 0, 0, 0, 0], [0, 0, 0, 0, 1]], atol=1e-12)


def test_hypothesis_is_fitted_back():
    mos = np.linspace(1, 5, 50)
    assert fit_sos_a(mos, hypothesis_label(mos, 0.2, ACR), ACR) == pytest.approx(0.2)
    with pytest.raises(UserError, match="inside the scale"):
        fit_sos_a([1, 5], [0, 0], ACR)


def ratings(**fields):
    return [Rating(f"{index}.jpg", 2.0 + index, source=f"labels.csv, line {index + 2}", **fields) for index in range(3)]


def test_recipe_is_chosen_by_what_there_is():
    assert make_records(ratings(sos=0.5, counts=(1, 1, 1, 1, 1)), ACR)[1].dos == "counts"
    records, recipe = make_records(ratings(sos=0.5), ACR)
    assert (recipe.dos, recipe.sos, recipe.sos_a, recipe.images, recipe.fallbacks) == ("gaussian", "file", None, 3, 0)
    assert [record.sos for record in records] == [0.5] * 3
    records, recipe = make_records(ratings(), ACR, sos_a=0.1)
    assert (recipe.dos, recipe.sos, recipe.sos_a) == ("gaussian", "hypothesis", 0.1)
    assert records[1].sos == pytest.approx((0.1 * 2 * 2) ** 0.5)


def test_fallbacks_are_counted():
    assert make_records(ratings(sos=1.9), ACR, dos="max_entropy")[1].fallbacks == 2


@pytest.mark.parametrize(
    ("fields", "options", "message"),
    [
        ({}, {"dos": "counts"}, "line 2: no votes for 0.jpg"),
        ({}, {"sos_source": "file"}, "line 2: no SOS for 0.jpg"),
        ({}, {"sos_a": "fit"}, "no SOS for 0.jpg, but sos_source is auto with sos_a fit"),
        ({"counts": (1, 2, 3)}, {"dos": "counts"}, "3 columns of votes .* 5 bins"),
    ],
)
def test_what_a_recipe_lacks_is_said(fields, options, message):
    with pytest.raises(UserError, match=message):
        make_records(ratings(**fields), ACR, **options)


def test_moments_of_all_images_at_once_are_those_of_each():
    scale = RatingScale(1, 10, tuple(range(1, 11)))
    rng = np.random.default_rng(0)
    counts = [tuple(row) for row in rng.multinomial(90, rng.dirichlet(np.ones(10), 50)).tolist()]
    ratings = [Rating(f"{k}.jpg", None, counts=row) for k, row in enumerate(counts)]
    ratings[7:9] = [Rating("7.jpg", 5.0, counts=(1.0, 2.0)), Rating("8.jpg", 5.0)]
    moments = vote_moments(ratings, scale)
    assert moments[7:9] == [None, None]
    for rating, completed, found in zip(ratings, complete(ratings, scale), moments, strict=True):
        if found is not None:
            opinions = np.repeat(np.arange(1, 11), rating.counts)
            assert found == pytest.approx((opinions.mean(), opinions.std()))
            assert (completed.mos, completed.sos) == pytest.approx((opinions.mean(), opinions.std(ddof=1)))
    assert vote_moments([], scale) == []
