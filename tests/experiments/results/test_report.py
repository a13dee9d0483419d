"""The report of a run: what it shows, what it survives, that it needs nothing beside it."""

import base64
import io
import json
import re
from pathlib import Path
from xml.etree.ElementTree import fromstring

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from experiments.results import charts
from experiments.results.report import write_report
from experiments.results.thumbnails import image_thumbnail
from main import main
from tests.databases import write_database
from tests.experiments.results.reports import SCALE, distances_of, page_of, quantities, random_dos, write_split
from tests.written import database_split, metrics_content
from utils.errors import UserError
from utils.files import to_json
from utils.html import LONG_SIDE
from utils.metrics import emd, fit_logistic
from utils.svg import BOTTOM, LEFT, RIGHT, TOP


@pytest.fixture
def made(tmp_path) -> Path:
    return tmp_path / "made"


@pytest.mark.with_report
def test_a_real_run(run):
    written = (run.parent / "report.html").read_text(encoding="utf-8")
    page = page_of(run.parent)
    assert written == page.source
    metrics = json.loads((run / "metrics.json").read_text())
    for section in ("numbers", "curves", "splits", "split-1", "settings"):
        assert page.ids.count(section) == 1
    assert "Database koniq10k (scale 1 to 5, higher is better)" in page.words
    assert "Backbone cvt_nano" in page.words
    assert "Splits finished 1 of 1" in page.words
    tiles = page.between("Numbers", "Epoch selection")
    low, high = metrics["intervals"]["koniq10k"]["emd"]
    assert f"EMD ↓ {metrics['emd']:.3f} [{low:.3f}, {high:.3f}]" in tiles
    ceiling = metrics["noise_ceiling"]["koniq10k"]
    for start, name in (("", "mos_srcc"), ("without the fit ", "mos_plcc"), ("", "emd")):
        both = f"{ceiling[name]:.3f} by bootstrap, {ceiling['split_half_' + name]:.3f} by split half"
        assert f"noise ceiling {start}{both}" in tiles
    assert f"RMSE ↓ {metrics['rmse']:.3f}" in tiles
    names = ("srcc", "plcc", "krcc", "rmse", "sos_srcc", "jsd", "emd")
    for selection, remark in (("last", "epoch 2, the last epoch"), ("release optimistic", "optimistic")):
        values = metrics["selections"][selection.split()[0]]
        row = page.between(f"{selection} ", "release" if selection == "last" else "noise ceiling, bootstrap what")
        assert row.endswith(
            f"{remark} {' '.join(f'{values[name]:.4f}' for name in names)} ".replace("-0.0000", "0.0000")
        )
    row = page.between("estimated from two halves of the voters; PLCC without the fit ", "best.pt")
    shown = [ceiling[f"split_half_{name}"] for name in ("mos_srcc", "mos_plcc", "sos_srcc", "emd")]
    assert re.findall(r"\d\.\d{4}", row) == [f"{value:.4f}" for value in shown]
    assert page.words.count("Noise ceiling of the test part by bootstrap, which is optimistic.") == 2  # SRCC, EMD
    assert "by bootstrap over the 4 images. PLCC" in page.words
    assert "hypothesis" not in page.words
    every = page.between("Every metric", "Settings")
    for name in ("KL ↓", "COVERAGE 50", "WASSERSTEIN ↓"):
        key = name.rstrip(" ↓").lower().replace(" ", "_")
        assert (
            f"{metrics[key]:.4f} {metrics['intervals']['koniq10k'][key][0]:.4f} to" in every.partition(name)[2][:50]
        ), name
    assert f"{100 * metrics['coverage_80']:.1f} % in the central 80 %" in page.words
    assert database_split(run)["hash"] in page.words
    assert "20 images, DOS from counts" in page.words
    assert len(page.labels) == 8 + 4  # four curves, four of the split; the bars of the four test images
    images = [given for tag, given in page.tags if tag == "img"]
    assert len(images) == 4
    assert all(given["src"].startswith("data:image/jpeg;base64,") for given in images)


def test_it_needs_nothing_beside_it_and_is_the_same_again(made):
    write_split(made)
    write_split(made, 2)
    (made / "images").mkdir()
    for index in range(12):
        Image.new("RGB", (300, 200)).save(made / "images" / f"{index}.jpg")
    page = page_of(made)
    assert all(address.startswith(("data:", "#")) for address in page.addresses)
    assert any(address.startswith("data:") for address in page.addresses)
    assert not re.search(r"https?:|//[a-z]|@import|<script|<link|<iframe", re.sub(r"base64,[^\"]*", "", page.source))
    assert len(page.ids) == len(set(page.ids))
    assert "url(" not in page.source
    used = re.findall(r"href=\"#([^\"]+)", page.source)
    assert used
    assert set(used) <= set(page.ids)
    assert not re.search(r"(?:fill|stroke)=\"#", page.source)
    assert page.source == write_report(made).read_text(encoding="utf-8")
    html = next(given for tag, given in page.tags if tag == "html")
    assert html["lang"] == "en"
    assert ("meta", {"name": "viewport", "content": "width=device-width, initial-scale=1"}) in page.tags


def test_mean_and_deviation_over_the_splits_that_are_finished(made):
    values = [write_split(made, number, selected_epoch=2 + number)["emd"] for number in (1, 3)]
    (made / "split_02").mkdir()
    (made / "split_02" / "last.pt").write_text("")
    page = page_of(made)
    assert "Splits finished 2 of 3 (1, 3)" in page.words
    assert "best.pt contains the weights of epochs 3, 5, split by split: protocol.selection is release." in page.words
    mean, deviation = np.mean(values), np.std(values, ddof=1)
    assert f"EMD ↓ {mean:.3f} ± {deviation:.3f} over 2 splits" in page.words
    assert f"{mean:.4f} ± {deviation:.4f}" in page.between("release", "best.pt")
    details = [given for tag, given in page.tags if tag == "details" and given.get("class") == "split"]
    assert [(given["id"], "open" in given) for given in details] == [("split-1", True), ("split-3", False)]
    assert "hash1" in page.words
    assert "hash3" in page.words
    assert page.words.count("3 min 20 s") == 2


def test_names_are_escaped_and_kept(made):
    names = ["<b>\"a\"&'b'.jpg", "über/ñ 图.png", "NA", "007", "<script>alert(1)</script>"]
    write_split(made, names=names)
    page = page_of(made)
    assert [name for name in names if name not in page.words] == []
    assert "b" not in {tag for tag, _ in page.tags}
    assert "script" not in {tag for tag, _ in page.tags}


def test_the_gallery_shows_the_nearest_and_the_farthest(made):
    target = quantities(random_dos(12, seed=1))
    mixture = np.linspace(0, 1, 12)[:, None]
    pred_dos = (1 - mixture) * target["dos"] + mixture * 0.2
    write_split(made, pred_dos=pred_dos)
    distances = emd(pred_dos, target["dos"])
    order = [f"{index}.jpg" for index in np.argsort(distances)]
    page = page_of(made)
    best, worst = page.between("Best first", "Worst first"), page.between("Worst first", "Every metric")
    assert re.findall(r"\d+\.jpg", best) == order[:4]
    assert re.findall(r"\d+\.jpg", worst) == order[::-1][:4]
    assert re.findall(r"EMD (\S+)", worst) == [f"{value:.3f}" for value in np.sort(distances)[::-1][:4]]
    assert "By EMD between predicted and label DOS" in page.words
    card = next(label for label in page.labels if label.startswith("Share of opinions at each score. "))
    first = int(order[0].split(".")[0])
    assert f"1: label {100 * target['dos'][first, 0]:.1f} %, prediction {100 * pred_dos[first, 0]:.1f} %" in card
    assert f"MOS {target['mos'][first]:.2f} {SCALE.mean(pred_dos)[first]:.2f}" in best


def test_images_that_are_missing_or_broken_are_said_so(made):
    (made / "images").mkdir(parents=True)
    write_split(made, names=["gone.jpg", "broken.jpg", "cut.jpg", "folder"])
    (made / "images" / "broken.jpg").write_text("not a picture")
    Image.effect_noise((200, 200), 90).save(made / "images" / "whole.jpg")
    (made / "images" / "cut.jpg").write_bytes((made / "images" / "whole.jpg").read_bytes()[:2000])
    (made / "images" / "folder").mkdir()
    page = page_of(made)
    assert page.words.count("image not available") == 1
    assert page.words.count("image cannot be decoded") == 3


def test_thumbnails_are_small_and_as_the_network_sees_them(tmp_path):
    picture = Image.new("RGB", (900, 600), "blue")
    picture.paste("red", (0, 0, 450, 600))
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter, which training does not heed
    picture.save(tmp_path / "a.jpg", exif=exif)
    made = image_thumbnail(tmp_path / "a.jpg")
    content = base64.b64decode(made.source.removeprefix("data:image/jpeg;base64,"))
    with Image.open(io.BytesIO(content)) as small:
        assert small.size == (made.width, made.height) == (LONG_SIDE, round(LONG_SIDE * 2 / 3))
        assert small.getpixel((20, 60))[0] > 200
        assert small.getpixel((220, 60))[0] < 50
        assert not small.getexif()


@pytest.mark.parametrize("images", [1, 3])
def test_few_images_have_undefined_metrics(images, made):
    metrics = write_split(made, names=[f"{index}.jpg" for index in range(images)])
    page = page_of(made)
    assert (metrics["srcc"] is None) == (images == 1)
    assert ("SRCC ↑ –" in page.words) == (images == 1)
    assert ("not defined in any epoch" in page.source) == (images == 1)
    assert "without the logistic fit, which failed" in page.words
    assert ("Worst first" in page.words) == (images > 1)


def test_constant_predictions(made):
    write_split(made, pred_dos=np.full((12, 5), 0.2))
    page = page_of(made)
    assert "PLCC ↑ –" in page.words
    assert "logistic fit</text>" not in page.source


def test_every_null_is_a_dash(made):
    metrics = write_split(made)
    folder = made / "split_01"
    nothing = dict.fromkeys(metrics["databases"]["koniq10k"])
    scores = {**nothing, "databases": {"koniq10k": nothing}}
    gaps = {"selections": {"last": {"epoch": 1, **scores}, "release": {"epochs": {}, **scores}}, "environment": {}}
    details = {"intervals": {name: [None, None] for name in nothing}, "pit_histogram": None}
    details["noise_ceiling"] = {"mos_srcc": None, "split_half_mos_srcc": None}
    gaps |= {key: {"koniq10k": value} for key, value in details.items()}
    (folder / "metrics.json").write_text(to_json({**metrics, **scores, **gaps}))
    record = json.loads((folder / "log.jsonl").read_text())
    record |= {"lr": None, "train": dict.fromkeys(record["train"]), "test": scores}
    (folder / "log.jsonl").write_text(to_json(record) + "\n")
    page = page_of(made)
    assert "SRCC ↑ –" in page.words
    assert "PIT histogram" not in page.words
    assert "last epoch 1, the last epoch – – – – – – –" in page.words


def test_what_intervals_are_drawn_by_and_where_sos_labels_come_from_is_said(made):
    write_split(made, interval_units={"unit": "reference", "count": 3})
    page = page_of(made)
    assert "95 % intervals by bootstrap over the 3 references, each with all its images. PLCC" in page.words
    assert "Intervals: over the 3 references, each with all its images." in page.words
    assert "SOS hypothesis" not in page.words
    path = made / "split_01" / "split.json"
    content = json.loads(path.read_text())
    content["databases"]["koniq10k"]["labels"] |= {"sos": "hypothesis", "sos_a": 0.13}
    path.write_text(to_json(content))
    page = page_of(made)
    note = "SOS labels are a function of the MOS labels (the SOS hypothesis), not measured"
    tile = page.between("Numbers", "Epoch selection").partition("SOS SRCC")[2].partition("EMD")[0]
    assert note in tile
    assert f"SOS SRCC: the {note}." in page.between("Epoch selection", "Learning curves")
    assert page.between("Every metric", "Settings").count(note) == 2  # SRCC and PLCC of the SOS
    assert note in page.between("SOS. Label against prediction.", "Residuals")


def test_a_network_with_other_bins_than_the_labels(made):
    """No predicted DOS, no metrics of it."""
    metrics = write_split(made, pit_histogram=None)
    folder = made / "split_01"
    table = pd.read_csv(folder / "predictions.csv")
    table.drop(columns=[f"pred_p{k}" for k in range(1, 6)]).to_csv(folder / "predictions.csv", index=False)
    few = {name: metrics[name] for name in ("srcc", "plcc", "rmse")}
    (folder / "metrics.json").write_text(to_json(metrics_content({"koniq10k": few})))
    page = page_of(made)
    assert "By difference of predicted MOS and MOS label" in page.words
    nearest = np.argmin(np.abs(table["pred_mos"] - table["target_mos"]))
    assert page.between("Best first", ".jpg").split()[-1] == str(nearest)
    assert "EMD ↓ –" in page.words
    bars = [label for label in page.labels if label.startswith("Share of opinions")]
    assert bars
    assert not any("prediction" in label for label in bars)


@pytest.mark.with_report
def test_several_databases(tmp_path):
    names = ("koniq10k", "csiq")
    members = ", ".join(f"{{name: {name}, root: {write_database(name, tmp_path / name).root}}}" for name in names)
    (tmp_path / "union.yaml").write_text(f"dataset: [{members}]\n")
    small = ["model.backbone=cvt_nano", "transform.resize=40", "transform.crop=32", "train.epochs=1"]
    small += ["train.batch_size=8", "train.workers=0", "train.device=cpu", "protocol.splits=1"]
    config = ["--config", str(tmp_path / "union.yaml"), "run.name=union", f"run.root={tmp_path / 'runs'}"]
    assert main([*config, *small, "protocol.validation_fraction=0.2"]) == 0
    page = page_of(tmp_path / "runs" / "union")
    metrics = json.loads((tmp_path / "runs" / "union" / "split_01" / "metrics.json").read_text())
    tiles = page.between("Arrows show", "Epoch selection")
    assert f"EMD ↓ {metrics['emd']:.3f}" in tiles.partition("koniq10k")[0]
    assert "RMSE" not in tiles.partition("koniq10k")[0]  # of two scales
    assert "Mean over the databases SRCC ↑ PLCC ↑ KRCC ↑ SOS SRCC ↑ JSD ↓ EMD ↓ last" in page.words
    for selection in ("epoch 1, the last epoch", "best SRCC on the validation part", "release optimistic"):
        assert page.words.count(selection) == 1 + len(names)
    for name, unit in (("koniq10k", "points of 1 to 5"), ("csiq", "points of 0 to 1")):
        database_metrics = metrics["databases"][name]
        known = metrics["intervals"][name]["rmse"] != [None, None]
        assert known == (name == "koniq10k")  # all test images of csiq are of one scene
        assert f"RMSE ↓ {database_metrics['rmse']:.3f} {'[' if known else unit}" in tiles.partition(name)[2]
        assert unit in tiles.partition(name)[2]
        assert f"MOS label ({unit})" in page.source
        distances = distances_of(tmp_path / "runs" / "union" / "split_01" / "predictions.csv", name)
        shown = page.between(f" {name}, {len(distances)} images", "Every metric").partition("Worst first")[2]
        assert re.search(r"EMD (\S+)", shown)[1] == f"{distances.max():.3f}"
        for selection in ("last", "validation", "release"):
            assert f"{metrics['selections'][selection]['databases'][name]['emd']:.4f}" in page.words
    assert metrics["interval_units"]["csiq"] == {"unit": "reference", "count": 1}
    assert "over the 2 images of koniq10k; one reference of csiq, too few for an interval. PLCC" in page.words
    assert len([given for tag, given in page.tags if tag == "img"]) > 4


def test_a_split_is_not_a_run(made):
    write_split(made)
    with pytest.raises(UserError, match=r"is one split; name the folder of its run, .*made$"):
        write_report(made / "split_01")


def test_figures_stay_light_and_show_every_point():
    rng = np.random.default_rng(0)
    target = rng.uniform(1, 5, 2000)
    pred = np.clip(target + rng.normal(0, 0.3, 2000), 1, 5)
    svg = charts.scatter("MOS", pred, target, SCALE, fit_logistic(pred, target)).svg()
    assert svg.count("h.01") == 2000
    assert len(svg) < 50_000
    x, y = (float(value) for value in re.search(r"M(\S+) (\S+?)h", svg).groups())  # the first image
    low, high = 1 - 0.03 * 4, 5 + 0.03 * 4
    assert low + (high - low) * (x - LEFT) / (RIGHT - LEFT) == pytest.approx(pred[0], abs=0.01)
    assert high - (high - low) * (y - TOP) / (BOTTOM - TOP) == pytest.approx(target[0], abs=0.01)
    assert "predicted MOS (points of 1 to 5)" in svg


def test_curves_show_every_split_and_their_mean():
    values = np.array([[0.2, 0.5, np.nan], [0.4, 0.7, 0.9]])
    chart = charts.curves("SRCC", [charts.Series("test", values)], "SRCC")
    lines = [mark.get("class") for mark in fromstring(chart.svg())]
    assert lines.count("line dark thin") == 2
    assert lines.count("line dark") == 2  # the mean, and its key in the legend
