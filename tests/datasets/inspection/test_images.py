"""Inspection of image files, and the fit of the SOS hypothesis."""

import numpy as np
import pytest
from PIL import Image
from scipy.stats import linregress

from datasets.inspection.images import describe_files, equal_files, inspect_images
from datasets.labels import hypothesis_label, sos_hypothesis
from datasets.scale import RatingScale

PERCENT = RatingScale(0, 100, (10, 30, 50, 70, 90))


@pytest.fixture
def folder(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    picture = Image.fromarray(pixels)
    for name in ("a.png", "b.jpg", "same.jpg"):
        picture.save(tmp_path / name)
    turned = Image.Exif()
    turned[0x0112] = 6
    picture.resize((40, 30)).save(tmp_path / "turned.jpg", exif=turned)
    (tmp_path / "cut.png").write_bytes((tmp_path / "a.png").read_bytes()[:5000])
    (tmp_path / "text.png").write_text("hello")
    return tmp_path


NAMES = ["a.png", "b.jpg", "same.jpg", "turned.jpg", "cut.png", "text.png", "gone.png"]


def test_headers(folder):
    files = {file.image: file for file in inspect_images(folder, NAMES, decode=False)}
    assert (files["a.png"].kind, files["a.png"].width, files["a.png"].height) == ("PNG", 80, 60)
    assert [name for name, file in files.items() if file.rotated] == ["turned.jpg"]
    assert [name for name, file in files.items() if file.error] == ["text.png", "gone.png"]  # cut.png has its header
    assert "text.png is not an image" in files["text.png"].error
    assert equal_files(list(files.values())) == []


def test_decoding(folder):
    files = inspect_images(folder, NAMES, decode=True)
    assert [file.image for file in files if file.error] == ["cut.png", "text.png", "gone.png"]
    assert equal_files(files) == [["b.jpg", "same.jpg"]]


def test_description(folder):
    text = describe_files(inspect_images(folder, NAMES[:4], decode=False))
    assert text == "JPEG 3, PNG 1; 40x30 to 80x60 pixels; 1 rotated by EXIF, read as stored"
    assert describe_files(inspect_images(folder, NAMES[5:], decode=False)) == "none readable"


def test_order_and_progress(folder):
    seen = []

    def progress(items):
        for item in items:
            seen.append(item.image)
            yield item

    assert [file.image for file in inspect_images(folder, NAMES, False, progress)] == NAMES == seen


def test_hypothesis_fit():
    mos = np.linspace(5, 95, 50)
    a, r2 = sos_hypothesis(mos, hypothesis_label(mos, 0.15, PERCENT), PERCENT)
    assert (a, r2) == (pytest.approx(0.15), pytest.approx(1))
    sos = np.random.default_rng(0).uniform(5, 20, 50)
    spread = mos * (100 - mos)
    a, r2 = sos_hypothesis(mos, sos, PERCENT)
    assert a == pytest.approx(np.linalg.lstsq(spread[:, None], sos**2, rcond=None)[0][0])
    assert np.isnan(sos_hypothesis(mos, np.full(50, 3.0), PERCENT)[1])
    assert np.isnan(sos_hypothesis(np.array([0.0, 100]), np.zeros(2), PERCENT)).all()
    assert r2 < linregress(spread, sos**2).rvalue ** 2  # an intercept could only help
