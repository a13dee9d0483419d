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


@pytest.mark.parametrize("kind", ["motion_blur", "noise", "impulse_noise"])
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


def test_draws_are_rising_and_of_every_kind():
    drawn = [draw_damage(seed) for seed in range(1500)]
    times = Counter(kind for kind, _, _ in drawn)
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
