"""Robustness: what a network gets whose answers are known, ties, and what damage cannot change."""

import argparse

import numpy as np
import pytest
from PIL import Image
from scipy.stats import spearmanr

from datasets.distortions import DISTORTIONS, distort
from datasets.scale import RatingScale
from experiments.evaluation.robustness import (
    ALL,
    DRAWN,
    LEVELS,
    NOT_DRAWN,
    measure,
    rank_correlation,
    summarise,
    to_text,
)
from scoring.pictures import PictureSettings
from utils.errors import UserError

ACR, DMOS = RatingScale(1, 5, (1, 2, 3, 4, 5)), RatingScale(0, 100, (10, 30, 50, 70, 90), higher_is_better=False)


def network(score, scale=ACR):
    """A predictor whose MOS of an image is `score(image, intact)`, the intact image being the first of a stream."""

    def score_many(images, batch_size):
        assert batch_size == 4
        intact = None
        for image in images:
            intact = np.asarray(image, dtype=float) if intact is None else intact
            yield argparse.Namespace(mos=score(np.asarray(image, dtype=float), intact))

    return argparse.Namespace(score_many=score_many, scale=scale, pictures=PictureSettings())


def by_difference(image, intact):
    assert image.shape == intact.shape  # at the photograph's own size
    return 5 - np.abs(image - intact).mean() / 64


@pytest.fixture
def picture(tmp_path):
    """A colour picture with detail of every size."""
    rng = np.random.default_rng(0)
    noise = [Image.fromarray(rng.integers(0, 256, (side, side, 3), dtype=np.uint8)) for side in (4, 16, 32, 96, 192)]
    Image.fromarray(np.mean([each.resize((288, 192)) for each in noise], axis=0).astype(np.uint8)).save(
        tmp_path / "colour.png"
    )
    return str(tmp_path / "colour.png")


@pytest.mark.parametrize("scale", [ACR, DMOS])
def test_each_kind_is_ranked_at_five_rising_strengths(picture, scale):
    """By a network that gives the difference of the pixels, which rises with nearly every strength."""
    intact = np.asarray(Image.open(picture), dtype=float)
    sign = 1 if scale.higher_is_better else -1
    rows, errors = measure(network(lambda *images: sign * by_difference(*images), scale), [picture], 4)
    assert errors == []
    assert list(rows["kind"]) == list(DISTORTIONS)
    for kind, found in zip(rows["kind"], rows["srcc"], strict=True):
        damaged = [np.asarray(distort(Image.open(picture), kind, level / 5)) for level in range(1, 6)]
        expected = spearmanr(range(6), [0, *(np.abs(image - intact).mean() for image in damaged)]).statistic
        assert found == pytest.approx(expected)
    assert rows["srcc"].mean() > 0.99
    assert set(rows[LEVELS[0]]) == {5 * sign}  # the photograph itself


def test_a_network_that_prefers_damage_is_wrong_and_one_that_sees_nothing_gets_nothing(picture):
    rows, _ = measure(network(lambda *images: -by_difference(*images)), [picture], 4)
    assert rows["srcc"].mean() < -0.99
    rng = np.random.default_rng(0)
    rows, _ = measure(network(lambda *_: 3 + 1e-7 * rng.standard_normal()), [picture], 4)
    assert list(rows["srcc"]) == [0] * len(DISTORTIONS)  # differences by rounding order nothing


@pytest.mark.parametrize("mos", [[5, 4, 4, 3, 2, 2], [5, 5, 5, 5, 5, 1], [3, 4, 2, 5, 1, 1], [1, 2, 3, 4, 5, 6]])
def test_ties_share_their_rank(mos):
    assert rank_correlation(mos, ACR) == pytest.approx(-spearmanr(range(6), mos).statistic)
    assert rank_correlation(mos, DMOS) == pytest.approx(spearmanr(range(6), mos).statistic)
    nearly = [score + 1e-6 * number for number, score in enumerate(mos)]
    assert rank_correlation(nearly, ACR) == rank_correlation(mos, ACR)


def test_damage_that_changes_nothing_is_left_out(picture, tmp_path):
    Image.open(picture).convert("L").save(tmp_path / "grey.png")
    rows, _ = measure(network(by_difference), [picture, str(tmp_path / "grey.png")], 4)
    summary = summarise(rows).set_index("kind")
    assert summary.loc["saturation_loss", "photographs"] == 1
    assert summary.loc["blur", "photographs"] == summary.loc[ALL, "photographs"] == 2
    assert np.isnan(rows[rows["kind"] == "saturation_loss"]["srcc"]).sum() == 1
    assert (summary["lowest"] > 0.9).all()


def test_the_summary_has_mean_and_lowest_of_each_kind_and_of_kinds_together(picture):
    rows, _ = measure(network(by_difference), [picture], 4)
    values = {"kind": ["blur", "blur", "webp"], "image": ["a", "b", "b"], "srcc": [1.0, 0.5, 0.0], "mos_0": [4, 3, 3]}
    rows = rows.iloc[[0, 1, 2]].assign(**values)
    summary = summarise(rows).set_index("kind")
    assert list(summary.index) == ["blur", "webp", DRAWN, NOT_DRAWN, ALL]
    for kind in ("blur", DRAWN):
        assert list(summary.loc[kind, ["photographs", "mean", "lowest", "mos_0"]]) == [2, 0.75, 0.5, 3.5]
    for kind in ("webp", NOT_DRAWN):
        assert list(summary.loc[kind, ["photographs", "mean", "lowest", "mos_0"]]) == [1, 0, 0, 3]
    assert list(summary.loc[ALL, ["photographs", "mean", "lowest"]]) == [2, 0.5, 0]
    assert to_text(rows).splitlines()[2].startswith("| blur ")


def test_what_cannot_be_read_is_named(picture, tmp_path):
    (tmp_path / "broken.png").write_text("no image")
    rows, errors = measure(network(by_difference), [str(tmp_path / "broken.png"), picture], 4)
    assert set(rows["image"]) == {picture}
    assert len(errors) == 1
    assert "broken.png" in errors[0]
    with pytest.raises(UserError, match=r"no photograph can be read: .*nowhere.png"):
        measure(network(by_difference), ["nowhere.png"], 4)
