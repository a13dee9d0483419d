"""What the tabs show: the numbers of the predictor and of inference.py, sentences about bad files, names as text."""

import base64
import io
import re
from html import unescape
from statistics import NormalDist
from urllib.parse import unquote

import numpy as np
import pytest
from PIL import Image

from inference import load_predictor
from scoring.opinions import Comparison, Prediction
from scoring.page import handlers as module
from scoring.page.handlers import Handlers
from tests.lite import DATABASES, lite_checkpoint
from tests.scoring.scored import rows_of, scored
from tests.written import split_content
from utils.errors import UserError

HOSTILE = ["<img src=x onerror=alert(1)>.png", '"><script>alert(1)<script>.png', "${alert(1)}{{1}}.png"]


@pytest.fixture(scope="module")
def lite(tmp_path_factory):
    """A network of the shipped weights' kind, whose scale is 1 to 5."""
    return load_predictor(lite_checkpoint(tmp_path_factory.mktemp("lite") / "lite.pt"), device="cpu")


@pytest.fixture
def reverse(checkpoint):
    """A network on a scale from 0 to 100 on which lower is better."""
    return load_predictor(checkpoint, device="cpu")


def words(html: str) -> str:
    text = unescape(re.sub(r"<[^>]*>", " ", html)).replace("\N{NO-BREAK SPACE}", " ")
    return " ".join(text.split())


def pictures(html: str) -> list[Image.Image]:
    sources = re.findall(r'<img src="data:image/jpeg;base64,([^"]+)"', html)
    return [Image.open(io.BytesIO(base64.b64decode(source))) for source in sources]


def test_a_score_is_that_of_the_predictor(lite, photo):
    prediction = lite(photo)
    html = Handlers(lite).score([str(photo)])
    dos = np.array(prediction.dos)
    good, poor = dos[3:].sum(), dos[:2].sum()
    for text in (
        f"MOS {prediction.mos:.2f} on a scale from 1 to 5 {prediction.mos:.2f} 1 5",
        f"{100 * good:.0f} % find it good or better {100 * poor:.0f} % find it poor or worse",
        " ".join(
            f"{k + 1} {grade} {100 * dos[k]:.0f} %"
            for k, grade in reversed([*enumerate(("bad", "poor", "fair", "good", "excellent"))])
        ),
        f"Mean (MOS) {prediction.mos:.2f}, standard deviation (SOS) {prediction.sos:.2f}.",
        "photo.png · 70 × 50",
    ):
        assert text in words(html)
    grade = ("bad", "poor", "fair", "good", "excellent")[round(prediction.mos) - 1]
    assert f'class="rq-grade" x="100" y="117">{grade}<' in html
    assert f'stroke-dasharray="{25 * (prediction.mos - 1):.1f} 200"' in html  # of 100 along the arc
    assert [picture.size for picture in pictures(html)] == [(70, 50)]


def test_a_score_stands_among_the_labels_of_the_training_images(photo, tmp_path):
    labels = [0, 0.2, 0.5, 0.9, 1]  # quartiles
    origin = {**split_content(DATABASES), "train_mos": labels}
    trained = load_predictor(lite_checkpoint(tmp_path / "lite.pt", origin), device="cpu")
    for mos, share in ((1, 0), (1.8, 1 / 4), (2.4, 3 / 8), (3, 1 / 2), (5, 1)):
        assert trained.standing(Prediction(mos, 0.5, (), trained.scale)) == pytest.approx(share)
    share = trained.standing(trained(photo))
    assert 0 < share < 1
    sentence = f"Better than {100 * share:.0f} % of the photographs that the network was trained on"
    assert sentence in words(Handlers(trained).score([str(photo)]))


def test_without_labels_of_the_training_images_a_score_stands_nowhere(lite, reverse, photo):
    assert lite.standing(lite(photo)) is reverse.standing(reverse(photo)) is None
    assert "Better than" not in words(Handlers(lite).score([str(photo)]))


def test_on_a_scale_where_lower_is_better_the_dial_is_full_at_its_low_end(reverse, photo):
    prediction = reverse(photo)
    html = Handlers(reverse).score([str(photo)])
    assert f'stroke-dasharray="{100 - prediction.mos:.1f} 200"' in html
    assert f"on a scale from 0 to 100 {prediction.mos:.1f} 100 0" in words(html)
    bars = " ".join(f"{k:g} {grade} {100 * share:.0f} %" for k, grade, share in zip(
        (10, 30, 50, 70, 90), ("excellent", "good", "fair", "poor", "bad"), prediction.dos, strict=True))  # fmt: skip
    assert bars in words(html)


def test_bad_files_are_sentences_without_places_on_the_server(lite, photos, tmp_path):
    paths = [photos / "p0.png", photos / "p2b.png", photos / "p5b.png", tmp_path / "gone.png"]
    html = Handlers(lite).score([str(path) for path in paths])
    assert "p2b.png is empty" in words(html)
    assert "p5b.png is not an image" in words(html)
    assert "gone.png is no longer on the server; choose it again" in words(html)
    assert html.count("rq-card") == 1
    assert str(tmp_path) not in html
    assert Handlers(lite).score([]).count("rq-card") == 0


def test_more_pictures_than_the_tab_shows(lite, photo, monkeypatch):
    monkeypatch.setattr(module, "MOST_PICTURES", 2)
    html = Handlers(lite).score([str(photo)] * 5)
    assert html.count("rq-card") == 2
    assert "The first 2 pictures are scored here; 3 more were left out." in words(html)


def test_a_map_replaces_the_picture(lite, photo):
    handlers = Handlers(lite)
    (plain,), (coloured,) = (pictures(handlers.score([str(photo)], maps)) for maps in (False, True))
    assert plain.size == coloured.size
    outside = np.asarray(coloured.convert("RGB"), dtype=float)[:3]  # the network crops 64 of 80
    assert np.ptp(outside, axis=2).mean() < 6  # grey but for the compression
    assert "raises the score lowers it not seen by the network" in words(handlers.score([str(photo)], True))


@pytest.mark.parametrize("name", ["lite", "reverse"])
def test_the_winner_is_that_of_all_pairs_of_opinions(name, request, photos):
    predictor = request.getfixturevalue(name)
    handlers, paths = Handlers(predictor), [str(photos / "p0.png"), str(photos / "p8.png")]
    first, second = predictor(paths)
    better = 1 if predictor.scale.higher_is_better else -1
    pairs = [(p * q, better * (i - j)) for i, p in enumerate(first.dos) for j, q in enumerate(second.dos)]
    prefer = sum(share * (difference > 0) + share * (difference == 0) / 2 for share, difference in pairs)
    variance = first.sos**2 + second.sos**2
    panel = NormalDist().cdf(better * (first.mos - second.mos) / (variance / 25) ** 0.5)
    text = words(handlers.compare(*paths))
    assert f"{100 * prefer:.0f} % of people would prefer A, {100 - 100 * prefer:.0f} % would prefer B" in text
    sure, winner = max((panel, "A"), (1 - panel, "B"))
    if sure < module.CLOSE:
        assert text.startswith("Too close to call")
    else:
        assert text.startswith(f"{winner} {'wins' if sure >= module.SURE else 'would probably win'}")
        assert f"favour {winner} with a probability of" in text
    numbers = handlers.comparison(*paths)
    assert numbers["probability"] == pytest.approx(prefer, abs=1e-6)
    assert [row["mos"] for row in numbers["rows"]] == pytest.approx([first.mos, second.mos], abs=1e-5)


def test_comparisons_without_a_winner(lite, photo, photos):
    handlers = Handlers(lite)
    assert "Too close to call" in handlers.compare(str(photo), str(photo))
    assert handlers.compare(str(photo), None) == ""
    text = words(handlers.compare(str(photos / "p2b.png"), str(photos / "p5b.png")))
    assert text.startswith("p2b.png is empty; p5b.png is not an image")


@pytest.mark.parametrize(("kind", "better"), [("lite", 1), ("reverse", -1)])
def test_the_winner_follows_the_scale(kind, better, photo, monkeypatch, request):
    handlers = Handlers(request.getfixturevalue(kind))
    for probability, sign, winner in ((0.9, better, "A"), (0.1, -better, "B")):
        numbers = Comparison(probability, difference=sign * 2.0, standard_error=0.5, panel=25)
        monkeypatch.setattr(module, "compare", lambda *_, numbers=numbers: numbers)
        text = words(handlers.compare(str(photo), str(photo)))
        assert text.startswith(f"{winner} wins")
        assert f"favour {winner} with a probability of more than 99 %" in text


def test_a_folder_gives_the_csv_of_inference(checkpoint, reverse, photos, tmp_path):
    paths = sorted(map(str, photos.iterdir()))
    *progress, (html, running) = Handlers(reverse).folder(paths)
    assert [words(shown) for shown, _ in progress] == [f"{done} of 11 files" for done in range(1, 12)]
    assert [*(more for _, more in progress), running] == [True] * 11 + [False]
    text = unquote(re.search(r'href="data:text/csv;charset=utf-8,([^"]+)"', html)[1])
    (tmp_path / "page.csv").write_text(text, encoding="utf-8", newline="")
    _, expected = scored(tmp_path / "command.csv", photos, "--relative-to", photos, "--checkpoint", checkpoint)
    rows = rows_of(tmp_path / "page.csv")
    assert rows[0].keys() == expected[0].keys()
    assert [row["path"] for row in rows] == [row["path"] for row in expected]
    assert [row["mos"] for row in rows if row["mos"]] == pytest.approx([row["mos"] for row in expected if row["mos"]])
    assert rows == [row | {"error": mine["error"]} for row, mine in zip(expected, rows, strict=True)]  # without places
    assert "9 pictures scored" in words(html)
    assert "2 could not be scored." in words(html)
    names = re.findall(r'<p class="rq-name">([^<]+)<', html)
    best = sorted((row for row in expected if row["mos"]), key=lambda row: row["mos"])  # lower is better
    assert names == [row["path"] for row in best]
    assert re.findall(r'<td class="text">([^<]+)<', html) == names


def test_folders_that_are_empty_too_large_or_all_bad(lite, photo, photos, monkeypatch):
    handlers = Handlers(lite)
    assert [*handlers.folder([])] == [("", False)]
    (*_, (html, _)) = handlers.folder([str(photos / "p2b.png")])
    assert words(html).startswith("0 pictures scored 1 could not be scored.")
    monkeypatch.setattr(module, "MOST_FILES", 2)
    ((html, running),) = handlers.folder([str(photo)] * 3)
    assert (words(html), running) == ("3 files are too many; up to 2 can be scored here at once.", False)
    with pytest.raises(UserError, match="3 files are too many; send up to 2"):
        handlers.rows([str(photo)] * 3)


def test_two_folders_at_once_do_not_wait_for_each_other(lite, photos):
    handlers, paths = Handlers(lite), sorted(map(str, photos.iterdir()))
    first = handlers.folder(paths)
    next(first)
    *_, (second, _) = handlers.folder(paths)
    *_, (html, _) = first
    assert html == second


def test_names_are_text(lite, photo, tmp_path):
    paths = [tmp_path / name for name in HOSTILE]
    for path in paths:
        path.write_bytes(photo.read_bytes())
    bad = tmp_path / "<b>bad.png"
    bad.write_bytes(b"no image")
    handlers, given = Handlers(lite), [str(path) for path in (*paths, bad)]
    *_, (folder, _) = handlers.folder(given)
    for html in (handlers.score(given), folder, handlers.compare(*given[:2]), handlers.compare(given[3], given[0])):
        assert "<script>alert" not in html
        assert "<img src=x" not in html
        assert "<b>bad" not in html
    for name in (*HOSTILE, bad.name):
        assert name in words(folder)
    assert [row["path"] for row in handlers.rows(given)] == [*HOSTILE, bad.name]


def test_errors_of_the_network_are_sentences(lite, photo, monkeypatch):
    def fail(*_):
        raise UserError("the GPU has too little memory")

    monkeypatch.setattr(lite, "predict", fail)
    handlers = Handlers(lite)
    *_, (folder, running) = handlers.folder([str(photo)])
    assert words(folder) == "the GPU has too little memory" == words(handlers.score([str(photo)]))
    assert not running
