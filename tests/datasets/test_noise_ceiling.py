"""The noise ceiling, against simulated panels whose truth is known."""

import math

import numpy as np
import pytest

from datasets.labels import LabelRecipe
from datasets.noise_ceiling import _half, _labels, collect_votes, noise_ceiling
from datasets.ratings import Rating
from datasets.scale import RatingScale
from utils.metrics import emd, plcc, srcc

ACR = RatingScale(1, 5, (1, 2, 3, 4, 5))
COUNTS = LabelRecipe("counts", "file", None, 0, 0)


def panel(images: int, voters: int, seed: int = 0):
    """Return the votes of a panel (N, 5) and the distributions (N, 5) that they were drawn from."""
    rng = np.random.default_rng(seed)
    mos, spread = rng.uniform(1.5, 4.5, (images, 1)), rng.uniform(0.5, 1.1, (images, 1))
    truth = np.exp(-((np.arange(1, 6) - mos) ** 2) / (2 * spread**2))
    truth /= truth.sum(1, keepdims=True)
    return rng.multinomial(voters, truth), truth


def votes(counts):
    return collect_votes([Rating(f"{row}", 3.0, counts=tuple(map(float, row))) for row in counts], ACR)


def test_the_true_correlation_lies_between_the_estimates():
    """The ceiling estimates what a perfect predictor, which knows `truth`, reaches on these labels."""
    counts, truth = panel(3000, 40)
    label, sos = counts / 40, (counts @ np.arange(1, 6) ** 2 / 40 - (counts @ np.arange(1, 6) / 40) ** 2) ** 0.5
    ceiling = noise_ceiling(votes(counts), ACR, COUNTS, repeats=10)
    reached = {
        "mos_srcc": srcc(ACR.mean(truth), ACR.mean(label)),
        "mos_plcc": plcc(ACR.mean(truth), ACR.mean(label)),
        "sos_srcc": srcc(ACR.std(truth), sos),
        "sos_plcc": plcc(ACR.std(truth), sos),
    }
    for name, value in reached.items():
        assert ceiling[f"split_half_{name}"] - 0.02 < value < ceiling[name] + 0.005, name
    assert ceiling["sos_plcc"] > reached["sos_plcc"] + 0.01  # the bootstrap is optimistic where noise is large
    assert ceiling["split_half_sos_plcc"] == pytest.approx(reached["sos_plcc"], abs=0.02)
    true_emd = emd(truth, label).mean()
    assert ceiling["emd"] == pytest.approx(true_emd, rel=0.05)
    assert ceiling["split_half_emd"] == pytest.approx(true_emd, rel=0.05)


def test_many_voters_leave_no_noise():
    counts, _ = panel(200, 200_000)
    ceiling = noise_ceiling(votes(counts), ACR, COUNTS, repeats=3)
    assert ceiling["mos_srcc"] > 0.9999
    assert ceiling["split_half_sos_plcc"] > 0.999
    assert ceiling["emd"] < 0.001


def test_grades_and_counts_of_the_same_opinions_agree():
    counts, _ = panel(300, 25)
    grades = [Rating("a", 3.0, grades=tuple(np.repeat(np.arange(1.0, 6), row))) for row in counts]
    one, other = (noise_ceiling(of, ACR, COUNTS, repeats=30) for of in (votes(counts), collect_votes(grades, ACR)))
    for name in one:
        assert one[name] == pytest.approx(other[name], abs=0.02), name


def test_the_recipe_of_the_labels_counts():
    """Gaussian labels smooth the noise of single bins; SOS from the hypothesis follows the MOS."""
    counts, _ = panel(500, 20)
    of_counts = noise_ceiling(votes(counts), ACR, COUNTS, repeats=5)
    gaussian = noise_ceiling(votes(counts), ACR, LabelRecipe("gaussian", "hypothesis", 0.2, 0, 0), repeats=5)
    assert gaussian["emd"] < of_counts["emd"]
    assert gaussian["sos_srcc"] > of_counts["sos_srcc"]
    assert gaussian["mos_srcc"] == of_counts["mos_srcc"]


def test_seeded():
    counts, _ = panel(50, 20)
    assert noise_ceiling(votes(counts), ACR, COUNTS) == noise_ceiling(votes(counts), ACR, COUNTS)


def test_labels_are_those_that_the_recipe_makes_of_the_votes():
    """Labels from votes match independent formulas for SOS (ddof 1) and for the hypothesis."""
    rows = [(2, 0, 1, 0, 0), (0, 5, 1, 9, 3), (1, 1, 0, 1, 1), (0, 0, 30, 20, 10)]
    grades = [np.repeat(np.arange(1.0, 6), row) for row in rows]
    mos, sos, _ = _labels(np.array(rows), votes(rows), ACR, COUNTS)
    np.testing.assert_allclose(mos, [of.mean() for of in grades])
    np.testing.assert_allclose(sos, [of.std(ddof=1) for of in grades])
    _, sos, _ = _labels(np.array(rows), votes(rows), ACR, LabelRecipe("gaussian", "hypothesis", 0.05, 0, 0))
    np.testing.assert_allclose(sos, np.sqrt(0.05 * (mos - 1) * (5 - mos)))


def test_unanimous_voters_have_no_correlation_to_report():
    ceiling = noise_ceiling(votes([(0, 0, 9, 0, 0)] * 4), ACR, COUNTS, repeats=3)
    assert math.isnan(ceiling["mos_srcc"])
    assert math.isnan(ceiling["split_half_mos_srcc"])
    assert ceiling["emd"] == 0


@pytest.mark.slow
def test_slow_labels_are_made_less_often():
    """With many images the correlations use all repeats, and the EMD of max-entropy labels only some."""
    counts, _ = panel(3000, 30)
    few = noise_ceiling(votes(counts), ACR, LabelRecipe("max_entropy", "file", None, 0, 0), repeats=12)
    many = noise_ceiling(votes(counts), ACR, COUNTS, repeats=12)
    assert few["mos_srcc"] == many["mos_srcc"]
    assert few["emd"] < many["emd"]


def test_halves_are_drawn_without_replacement_and_fairly():
    counts, _ = panel(40, 31)
    rng = np.random.default_rng(0)
    halves = np.stack([_half(counts, rng) for _ in range(400)])
    assert (halves.sum(2) == 15).all()
    assert (halves <= counts).all()
    assert (halves >= 0).all()
    np.testing.assert_allclose(halves.mean(0), counts * 15 / 31, atol=0.6)


@pytest.mark.parametrize(
    "ratings",
    [
        [],
        [Rating("a", 3.0)],
        [Rating("a", 3.0, counts=(0.2, 0.8, 0, 0, 0))],
        [Rating("a", 3.0, counts=(0, 1, 0, 0, 0))],
        [Rating("a", 3.0, counts=(5, 5))],
        [Rating("a", 3.0, counts=(0, 3, 0, 0, 0)), Rating("b", 3.0)],
        [Rating("a", 3.0, counts=(0, 3, 0, 0, 0)), Rating("b", 3.0, grades=(3.0,))],
    ],
)
def test_no_votes_no_ceiling(ratings):
    assert collect_votes(ratings, ACR) is None


def test_many_images_need_few_draws(monkeypatch):
    counts = votes(panel(300, 40)[0])
    assert noise_ceiling(counts, ACR, COUNTS, repeats=3) != noise_ceiling(counts, ACR, COUNTS, repeats=2)
    monkeypatch.setattr("datasets.noise_ceiling.MAX_LABELS", 700)
    assert noise_ceiling(counts, ACR, COUNTS, repeats=50) == noise_ceiling(counts, ACR, COUNTS, repeats=2)
