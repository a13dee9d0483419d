"""Distortions: every kind grows with its strength, keeps size and mode, and depends only on its arguments."""

from collections import Counter

import numpy as np
import pytest
import torch
from PIL import Image

from datasets.distortions import DISTORTIONS, GAP, HARD, LARGEST, PER_PIXEL, UNSEEN, WEAKEST, distort, draw_damage
from datasets.transforms import build_test_crop, build_train_crop, damage, seeded
from utils.settings import TransformSettings

STRENGTHS = (0.1, 0.3, 0.6, 1.0)


@pytest.fixture(scope="module")
def picture() -> Image.Image:
    """Return a picture with detail of every size, as photographs have, wider than high."""
    generator = np.random.default_rng(0)
    total = np.zeros((192, 288, 3))
    for size in (4, 8, 16, 32, 96, 192):
        coarse = Image.fromarray(generator.integers(0, 256, (size, size, 3), dtype=np.uint8))
        total += np.asarray(coarse.resize((288, 192), Image.Resampling.BICUBIC)) / 6
    return Image.fromarray(total.astype(np.uint8))


def difference(one: Image.Image, other: Image.Image) -> float:
    return float(np.abs(np.asarray(one, dtype=float) - np.asarray(other, dtype=float)).mean())


@pytest.mark.parametrize("kind", DISTORTIONS)
def test_damage_grows_with_the_strength(kind, picture):
    damaged = [distort(picture, kind, strength) for strength in STRENGTHS]
    assert {(image.size, image.mode) for image in damaged} == {((288, 192), "RGB")}
    distances = [difference(image, picture) for image in damaged]
    assert all(np.diff(distances) > 0), distances
    assert distances[-1] > 8  # levels of 0..255: severe


@pytest.mark.parametrize("kind", DISTORTIONS)
def test_the_same_arguments_give_the_same_pixels(kind, picture):
    before = np.asarray(picture).copy()
    assert difference(distort(picture, kind, 0.5, seed=1), distort(picture, kind, 0.5, seed=1)) == 0
    assert (np.asarray(picture) == before).all()


RANDOM = ["motion_blur", "noise", "impulse_noise", "colour_cast", "colour_noise", "stripes", "lost_blocks", "scatter"]


@pytest.mark.parametrize("kind", [*RANDOM, "speckle"])
def test_the_seed_decides_what_is_random(kind, picture):
    assert difference(distort(picture, kind, 0.5, seed=1), distort(picture, kind, 0.5, seed=2)) > 0


def test_motion_blur_only_averages_along_its_path():
    """A column of light keeps its amount, and spreads horizontally by the length of the path at most."""
    pixels = np.zeros((40, 200, 3), np.uint8)
    pixels[:, 100] = 240
    spread = np.asarray(distort(Image.fromarray(pixels), "motion_blur", 1, seed=0), dtype=float)[20, :, 0]
    assert spread.sum() == pytest.approx(240, rel=0.1)
    assert np.flatnonzero(spread).min() >= 100 - 0.03 * 200 - 1
    assert np.flatnonzero(spread).max() <= 100 + 0.03 * 200 + 1


def test_exposure_and_saturation_are_what_they_say(picture):
    assert np.asarray(distort(picture, "underexposure", 0.25)).mean() == pytest.approx(
        np.asarray(picture).mean() / 2, abs=1
    )
    grey = np.asarray(distort(picture, "saturation_loss", 1))
    assert (grey == grey[:, :, :1]).all()


def test_tones_and_colours_are_what_they_say(picture):
    before = np.asarray(picture).astype(float)
    assert len(np.unique(distort(picture, "posterization", 1))) == 2
    assert len(np.unique(np.reshape(distort(picture, "few_colours", 1), (-1, 3)), axis=0)) == 3
    logs = np.log2(np.asarray(distort(picture, "wrong_gamma", 0.5)) / 255)  # an exponent of 2 or 1/2
    assert np.nanmedian(logs / np.log2(before / 255)) == pytest.approx(2, abs=0.05)
    assert {np.mean(distort(picture, "wrong_gamma", 0.5, seed)) > before.mean() for seed in range(8)} == {True, False}
    ratios = np.asarray(distort(Image.new("RGB", (8, 8), (50,) * 3), "colour_cast", 1))[0, 0] / 50
    assert np.prod(ratios) == pytest.approx(1, abs=0.05)  # a hue, not more light
    assert ratios.max() / ratios.min() > 2
    haze = np.asarray(distort(picture, "haze", 1))
    assert np.ptp(haze) <= 0.15 * 255 + 1
    vignetting = np.asarray(distort(Image.new("RGB", (81, 81), (200,) * 3), "vignetting", 1))
    assert (vignetting[40, 40, 0], vignetting[0, 0, 0]) == (200, round(200 * np.exp(-5)))


def test_places_are_what_they_say(picture):
    """Stripes are the same along a row or column, weaker losses are among the stronger, and blue keeps its place."""
    grey = Image.new("RGB", (40, 30), (128,) * 3)
    striped = [np.asarray(distort(grey, "stripes", 0.5, seed)) for seed in range(8)]
    along = [((each == each[:, :1]).all(), (each == each[:1]).all()) for each in striped]  # the rows, the columns
    assert set(along) == {(True, False), (False, True)}
    before = np.asarray(picture)
    lost = [(np.asarray(distort(picture, "lost_blocks", strength)) != before).any(2) for strength in (0.3, 1)]
    assert lost[1][lost[0]].all()
    fringed = np.asarray(distort(picture, "colour_fringes", 1)) != before
    assert not fringed[:, :, 2].any()
    assert fringed[:, :, 0].mean() > 0.5


def test_draws_are_rising_and_of_every_kind():
    drawn = [draw_damage(seed) for seed in range(1500)]
    times = Counter(kind for kind, _, _ in drawn)
    assert set(UNSEEN) < set(DISTORTIONS)
    assert set(times) == set(DISTORTIONS) - set(UNSEEN)
    assert min(times[kind] for kind in HARD) > max(times[kind] for kind in set(DISTORTIONS) - set(HARD))
    for kind, (weaker, stronger), enlargement in drawn:
        assert WEAKEST <= weaker <= stronger - GAP <= 1 - GAP
        assert 1 <= enlargement <= LARGEST
        assert (enlargement > 1) == (kind in PER_PIXEL)
    assert drawn == [draw_damage(seed) for seed in range(1500)]


def test_strengths_are_independent_of_what_is_random_in_the_distortion():
    weaker = [draw_damage(seed)[1][0] for seed in range(300)]
    first_draws = [np.random.default_rng(seed).random() for seed in range(300)]  # the direction of motion, for one
    assert abs(np.corrcoef(weaker, first_draws)[0, 1]) < 0.2


def test_damaged_images_are_cropped_and_mirrored_as_the_intact_one(picture, monkeypatch):
    """Without an effect, what comes damaged is the intact image itself."""
    monkeypatch.setattr("datasets.transforms.distort", lambda image, *_: image)
    monkeypatch.setattr("datasets.distortions.PER_PIXEL", ())
    settings = TransformSettings(resize=40, crop=32)
    transform = build_train_crop(settings)
    for seed in range(8):
        pixels, strengths = damage(picture, seed, transform, settings.resize)
        assert pixels.shape == (2, 3, 32, 32)
        assert torch.equal(pixels, seeded(transform, picture, seed).expand(2, 3, 32, 32))
        assert 0 < strengths[0] < strengths[1] <= 1


def test_noise_on_a_larger_image_is_finer(picture, monkeypatch):
    found = []
    for enlargement in (1.0, 2.5):
        drawn = ("noise", (0.5, 1.0), enlargement)
        monkeypatch.setattr("datasets.transforms.draw_damage", lambda _seed, drawn=drawn: drawn)
        pixels, _ = damage(picture, 0, build_test_crop(TransformSettings(resize=64, crop=64)), 64)
        assert pixels.shape == (2, 3, 64, 64)
        found.append(pixels.float().diff(dim=3).abs().mean().item())
    assert found[1] < found[0] / 1.5
