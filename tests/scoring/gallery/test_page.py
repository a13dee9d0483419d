"""The page of scored images: what it shows and in which order, what it survives, that it needs nothing beside it."""

import base64
import io
import os
import re
import time
from xml.etree.ElementTree import fromstring

import numpy as np
import pytest
from PIL import Image

from datasets.scale import RatingScale
from scoring.gallery import page as page_module
from scoring.gallery.charts import histogram, opinion_bars
from scoring.gallery.page import FailedImage, common_folder, digits_of, image_from_row, scored_thumbnail
from scoring.gallery.ranking import DISPUTED_WIDTH, disputed, sampled
from scoring.pictures import PictureSettings, open_picture, opened_picture
from tests.scoring.gallery.pages import image, names_of, page_of, random_images
from tests.scoring.scored import ACR, DMOS
from utils.errors import UserError
from utils.html import LONG_SIDE

GOOD, MIDDLING, BAD, SPLIT = [0, 0, 0, 0.2, 0.8], [0, 0.2, 0.6, 0.2, 0], [0.9, 0.1, 0, 0, 0], [0.5, 0, 0, 0, 0.5]


def decoded(source: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(source.removeprefix("data:image/jpeg;base64,"))))


def test_what_the_page_says(tmp_path, photo):
    images = [
        image("a/bad.png", BAD, photo),
        image("a/good.png", GOOD, photo),
        image("a/middling.png", MIDDLING, photo),
    ]
    page = page_of(tmp_path / "holiday.html", [*images, FailedImage("a/odd.png", "a/odd.png is empty")])
    assert names_of(page) == ["good.png", "middling.png", "bad.png"]
    for words in (
        *("holiday", "Folder a/", "Scale 1 to 5, higher is better", "checkpoint 0123abcd", "release@40x32", "(UTC)"),
        *("Images scored 3 1 not scored", "MOS 2.97 mean; 1.10 to 4.80", "Opinions differ 0 images marked so"),
        *("at least 0.60, which is 15 % of the width", "MOS of 3 images; highest bar: 1."),
        *(
            "MOS 4.80 SOS 0.40",
            "90 % within 3.75 to 5.00 100 % good or better, 0 % poor or worse",
            "Not scored odd.png a/odd.png is empty",
        ),
    ):
        assert words in page.words, words
    assert "are shown:" not in page.words
    assert page.labels[1] == (
        "Share of opinions at each score. 1: prediction 0.0 %; 2: prediction 0.0 %; 3: prediction 0.0 %; "
        "4: prediction 20.0 %; 5: prediction 80.0 %."
    )
    pictures = [given for tag, given in page.tags if tag == "img"]
    assert [(given["width"], given["height"], given["loading"]) for given in pictures] == [("70", "50", "lazy")] * 3
    assert decoded(pictures[0]["src"]).size == (70, 50)


def test_the_filters_are_of_no_use_without_javascript_and_hidden(tmp_path):
    page = page_of(tmp_path / "page.html", random_images(3))
    form = next(given for tag, given in page.tags if tag == "form")
    assert "hidden" in form
    fields = [given for tag, given in page.tags if tag == "input"]
    assert [given.get("value", given["name"]) for given in fields] == ["best", "worst", "sos", "low", "high", "text"]
    cards = [given for tag, given in page.tags if "data-mos" in given]
    assert [float(given["data-mos"]) for given in cards] == sorted((float(g["data-mos"]) for g in cards), reverse=True)


def test_a_scale_on_which_lower_is_better(tmp_path):
    page = page_of(tmp_path / "page.html", [image("a", BAD, scale=DMOS), image("b", GOOD, scale=DMOS)], DMOS)
    assert names_of(page) == ["a", "b"]
    assert "Scale 0 to 100, lower is better" in page.words
    assert "MOS 12.0 SOS 6.0" in page.words
    assert "at least 15.0, which" in page.words


@pytest.mark.parametrize(("low", "high", "digits"), [(1, 5, 2), (0, 100, 1), (0, 1, 3), (0, 10, 2), (0, 1000, 0)])
def test_scores_have_the_digits_that_their_scale_needs(low, high, digits):
    assert digits_of(RatingScale(low, high, (low, high))) == digits


def test_names_cannot_disturb_the_page(tmp_path):
    record = {"mos": "3", "mos_01": "0.5", "sos": "1", "low_90": "1", "high_90": "5", "scale": "acr", "notes": None}
    record |= {f"p{k}": "0.2" for k in range(1, 6)} | {"gob": "0.4", "pow": "0.4", "error": None}
    odd = "<script>alert(1)<b>\"'&\nnew\u202egpj.\udcff"
    images = [image_from_row({**record, "path": odd}, "x"), image_from_row({**record, "path": odd, "error": odd}, "x")]
    page = page_of(tmp_path / f"{odd}.html", images)
    assert page.source.count("<script>") == 1
    shown = "<script>alert(1)<b>\"'&\\nnew\\u202egpj.\\udcff"
    assert [tag for tag, _ in page.tags].count("b") == 0
    assert page.words.count(shown) == 5  # the title twice, the card, the failure and its reason
    assert "\u202e" not in page.source


def test_images_that_are_gone_or_damaged_since(tmp_path):
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0nothing")
    images = [image("gone", GOOD, tmp_path / "gone.jpg"), image("broken", BAD, tmp_path / "broken.jpg")]
    page = page_of(tmp_path / "page.html", images)
    assert "img" not in [tag for tag, _ in page.tags]
    assert f"image {tmp_path / 'gone.jpg'} does not exist MOS 4.80" in page.words
    assert re.search(rf"{tmp_path / 'broken.jpg'} (cannot be decoded: .*|is not an image .*) MOS 1\.10", page.words)


def test_nothing_but_failures(tmp_path, monkeypatch):
    monkeypatch.setattr(page_module, "REASONS", 2)
    page = page_of(tmp_path / "page.html", [FailedImage(f"{k}.png", f"reason {k}") for k in range(3)])
    assert "Images scored 0 3 not scored" in page.words
    assert "The first 2 of 3. 0.png reason 0 1.png reason 1" in page.words
    assert "reason 2" not in page.words
    assert {"images", "filters", "script"}.isdisjoint([*page.ids, *(tag for tag, _ in page.tags)])


def test_one_image_has_no_others_to_differ_from(tmp_path):
    page = page_of(tmp_path / "page.html", [image("deep/in/a.png", SPLIT, notes="first frame of several")])
    assert names_of(page) == ["a.png"]
    assert "a.png first frame of several" in page.words
    assert "Folder deep/in/" in page.words
    assert "Opinions differ 0" in page.words


def test_a_mark_in_words(tmp_path):
    page = page_of(tmp_path / "page.html", [image("split", SPLIT), *(image(f"{k}", MIDDLING) for k in range(9))])
    assert "Opinions differ 1 image marked so" in page.words
    assert [given["data-mos"] for _, given in page.tags if given.get("class") == "disputed"] == ["3.00"]
    assert page.words.count("opinions differ") == 1


def test_many_images_are_shown_quickly(tmp_path, photo):
    began = time.process_time()  # not what others do meanwhile
    page = page_of(tmp_path / "page.html", random_images(1_200, photo))
    assert time.process_time() - began < 20  # 2 s on a desktop
    assert len(names_of(page)) == 1_200
    assert page.source.count("data:image/jpeg;base64,") == 1_200


def test_too_many_images_are_sampled_and_the_page_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(page_module, "SHOWN", 40)
    monkeypatch.setattr(page_module, "EXTREMES", 5)
    images = random_images(300)
    page = page_of(tmp_path / "page.html", images)
    assert "40 of 300 images are shown: the 5 best, the 5 worst and the 5 with the highest SOS" in page.words
    assert "Images scored 300" in page.words
    shown = names_of(page)
    assert len(shown) == 40
    by_mos = [one.name.removeprefix("folder/") for one in sorted(images, key=lambda one: -one.mos)]
    assert shown == [name for name in by_mos if name in shown]
    by_sos = [one.name.removeprefix("folder/") for one in sorted(images, key=lambda one: -one.sos)]
    assert {*by_mos[:5], *by_mos[-5:], *by_sos[:5]} <= set(shown)


def test_a_page_that_fails_leaves_the_one_before(tmp_path, monkeypatch):
    page_of(tmp_path / "page.html", random_images(3))
    before = (tmp_path / "page.html").read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(page_module, "scored_thumbnail", full)
    with pytest.raises(UserError, match=r"page\.html cannot be written: No space left on device"):
        page_of(tmp_path / "page.html", random_images(3))
    assert (tmp_path / "page.html").read_bytes() == before
    assert os.listdir(tmp_path) == ["page.html"]


def test_a_thumbnail_is_upright_and_flat(tmp_path):
    left_red = Image.new("RGB", (1600, 800), "blue")
    left_red.paste("red", (0, 0, 800, 800))
    turned = Image.Exif()
    turned[0x0112] = 6  # the right side is shown below
    left_red.save(tmp_path / "turned.jpg", exif=turned, quality=95)
    small = scored_thumbnail(str(tmp_path / "turned.jpg"))
    assert (small.width, small.height) == (LONG_SIDE // 2, LONG_SIDE)
    pixels = np.asarray(decoded(small.source).convert("RGB"), dtype=int)
    assert np.abs(pixels[10, 60] - (254, 0, 0)).max() < 12
    assert np.abs(pixels[-10, 60] - (0, 0, 254)).max() < 12
    Image.new("RGBA", (50, 50), (255, 0, 0, 0)).save(tmp_path / "clear.png")
    clear = decoded(scored_thumbnail(str(tmp_path / "clear.png"), PictureSettings(background="lime")).source)
    assert np.abs(np.asarray(clear, dtype=int)[25, 25] - (0, 255, 0)).max() < 12


def test_coarse_is_a_fraction_that_is_large_enough(tmp_path):
    Image.effect_noise((1000, 700), 60).convert("RGB").save(tmp_path / "large.jpg")
    assert open_picture(tmp_path / "large.jpg").image.size == (1000, 700)
    with opened_picture(tmp_path / "large.jpg", coarse=240) as picture:
        assert picture.image.size == (500, 350)
    small = opened_picture(tmp_path / "large.jpg", PictureSettings(max_pixels=600_000), coarse=240)
    with pytest.raises(UserError, match="1000x700 is 700000 pixels, more than the limit of 600000"), small:
        pass


def test_records_that_were_changed():
    record = {"path": "a", "error": None, "scale": "acr", "notes": "", "mos": 3, "mos_01": 0.5, "sos": 1}
    record |= {"low_90": 1, "high_90": 5, "gob": 0.4, "pow": 0.4} | {f"p{k}": 0.2 for k in range(1, 6)}
    assert image_from_row(record, "b").dos == (0.2,) * 5
    for change in ({"mos": "nan"}, {"p1": "many"}, {f"p{k}": 0 for k in range(1, 6)}):
        with pytest.raises(ValueError, match=r"values that are not numbers|could not convert"):
            image_from_row({**record, **change}, "b")


@pytest.mark.parametrize(
    ("names", "folder"),
    [
        (["a/b/c.png", "a/b/cd.png"], "a/b/"),
        (["a/c.png", "b/c.png"], ""),
        (["/a.png", "/b/c.png"], "/"),
        (["a/b"], "a/"),
    ],
)
def test_the_folder_of_all(names, folder):
    assert common_folder([name.replace("/", os.sep) for name in names]) == folder.replace("/", os.sep)


def tops(svg: str) -> list[float]:
    """Heights of the bars of a chart."""
    return [float(top) for top in re.findall(r"v-([\d.]+)h", svg)]


def test_bars_and_marks():
    svg = opinion_bars({"prediction": [0.1, 0, 0.4, 0.4, 0.1]}, ACR, 0.4, mark=(1, 3.4, 5))
    assert tops(svg) == [9, 36, 36, 9]
    chart = fromstring(svg)
    assert float(chart.find("circle").get("cx")) == pytest.approx((3.4 - 0.5) / 5 * 120, abs=0.05)
    assert re.search(r"M12 \d+v4m0-2H108m0-2v4", svg)  # 0.5 / 5 and 4.5 / 5 of the width
    assert [(text.get("x"), text.text) for text in chart.findall("text")] == [
        *(("12", "1"), ("36", "2"), ("60", "3"), ("84", "4"), ("108", "5"))
    ]
    many = RatingScale(0, 100, tuple(range(5, 100, 10)))
    drawn = fromstring(opinion_bars({"label": [0.1] * 10, "prediction": [0.1] * 10}, many, 0.1))
    assert [text.text for text in drawn.findall("text")] == ["5", "35", "65", "95"]
    assert [path.get("d").count("M") for path in drawn.findall("path")] == [10, 10, 1]


def test_histogram_counts_every_image():
    svg, most = histogram(np.array([1, 1.1, 3, 5]), ACR)
    assert most == 2
    assert tops(svg) == [80, 40, 40]
    assert fromstring(svg).find("desc").text == "1 to 5: most, 2, between 1 and 1.2."


def test_disputed_takes_both_rules():
    sos = np.linspace(0, 1.2, 40)
    assert np.flatnonzero(disputed(sos, 4)).tolist() == [36, 37, 38, 39]
    assert not disputed(np.full(40, 0.5), 4).any()
    assert disputed(np.full(40, DISPUTED_WIDTH * 4), 4).sum() == 4
    assert not disputed(sos[-9:], 4).any()


def test_sampled_is_even_between_the_extremes():
    mos_01 = np.random.default_rng(0).random(10_000)
    order = np.argsort(-mos_01, kind="stable")
    assert sampled(order, mos_01, most=10_000, extremes=7) is order
    sos = np.where(np.arange(10_000) < 7, 1.0, 0.1)
    kept = sampled(order, sos, most=500, extremes=7)
    assert len(kept) == len(set(kept.tolist())) == 500
    places = np.flatnonzero(np.isin(order, kept))
    assert np.array_equal(order[places], kept)
    assert set(range(7)) <= set(kept.tolist())
    assert places[:7].tolist() == list(range(7))
    assert places[-7:].tolist() == list(range(9_993, 10_000))
    assert np.diff(places).max() <= 22  # (10,000 - 21) / 479 = 20.8
