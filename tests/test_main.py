"""Training end to end: what a run leaves, what inference makes of it, and resuming exactly."""

import json
import signal
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from datasets.labels import LabelRecipe
from datasets.noise_ceiling import collect_votes, noise_ceiling
from datasets.readers import read_ratings
from datasets.scale import RatingScale
from datasets.transforms import build_train_crop, to_input
from inference import load_predictor
from main import main
from tests.conftest import KONIQ_SCORES
from tests.databases import write_database
from tests.running import ROOT, folder_of, run_as_script, train, train_losses
from tests.written import database_split
from tools.export import main as export
from utils.checkpoint import read_checkpoint
from utils.config import load_config
from utils.errors import MissingFileError, UserError
from utils.metrics import BETTER, distribution_metrics, score_metrics

CONFIGS = sorted((ROOT / "configs").glob("**/*.yaml"))
WRITTEN = ("koniq10k", "demo")  # with checkpoints and report; the others would write half a gigabyte each
P = [f"p{k}" for k in range(1, 6)]
SMALL = [
    *("transform.resize=40", "transform.crop=32", "transform.test_crop=null", "train.epochs=1"),
    *("train.batch_size=8", "train.workers=0"),
    *("model.pretrained=none", "protocol.splits=1", "train.device=cpu"),
    "train.compile=false",  # minutes for CvT-21; experiments/training/test_precision.py compiles a smaller one
]


def test_a_run_leaves_what_is_promised(run):
    names = {"config.yaml", "split.json", "log.jsonl", "predictions.csv", "metrics.json", "last.pt", "best.pt"}
    assert {path.name for path in run.iterdir()} == names
    log = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert [record["epoch"] for record in log] == [1, 2]
    assert set(log[0]["train"]) == {"total", "dos", "mos", "sos"}
    split = database_split(run)
    assert len(split["train"]) == 16
    assert split["labels"]["dos"] == "counts"


def test_metrics_follow_from_predictions(run, koniq_table):
    table = pd.read_csv(run / "predictions.csv")
    assert list(table.columns) == [
        *["image", "target_mos", "pred_mos", "target_sos", "pred_sos"],
        *[f"target_{p}" for p in P],
        *[f"pred_{p}" for p in P],
    ]
    metrics = json.loads((run / "metrics.json").read_text())
    split = database_split(run)
    assert table["image"].tolist() == split["test"]
    pred, target = (table[[f"{side}_{p}" for p in P]].to_numpy() for side in ("pred", "target"))
    for name, value in score_metrics(table["pred_mos"], table["target_mos"]).items():
        assert metrics[name] == pytest.approx(value, nan_ok=True), name
    labels = {"dos": target, "mos": table["target_mos"].to_numpy()}
    for name, value in distribution_metrics(pred, labels, np.arange(1, 6)).items():
        assert metrics[name] == pytest.approx(value), name
    np.testing.assert_allclose(table["pred_mos"], pred @ np.arange(1, 6))
    known = koniq_table.set_index("image_name")["MOS"]
    np.testing.assert_allclose(table["target_mos"], [known[Path(name).name] for name in table["image"]], atol=1e-8)


@pytest.mark.parametrize("average", [[], ["optim.ema_decay=0.9", "optim.lr=1e-2"]])
@pytest.mark.parametrize("name", ["last.pt", "best.pt"])
def test_inference_gives_the_score_that_evaluation_gave(name, average, quick, koniq_root, tmp_path):
    train(quick, "protocol.selection=last", *average)
    predictor = load_predictor(folder_of(tmp_path) / name, device="cpu")
    for row in pd.read_csv(folder_of(tmp_path) / "predictions.csv").itertuples():
        prediction = predictor(koniq_root / row.image)
        assert prediction.mos == pytest.approx(row.pred_mos, abs=1e-5)
        assert prediction.sos == pytest.approx(row.pred_sos, abs=1e-5)
        assert prediction.dos == pytest.approx([getattr(row, f"pred_{p}") for p in P], abs=1e-6)


def test_another_crop_in_tests_is_that_of_evaluation_inference_and_export(quick, koniq_root, tmp_path, capsys):
    assert train(quick, "train.epochs=1", "transform.test_crop=40") == 0
    predictor = load_predictor(folder_of(tmp_path) / "best.pt", device="cpu")
    assert predictor.preprocess.id == "release@40x40"
    five = load_predictor(folder_of(tmp_path) / "best.pt", device="cpu", preprocess="five-crop")
    assert five.preprocess.id == "five-crop@40x32"
    assert five.prepare(Image.new("RGB", (90, 60))).views.shape == (5, 3, 32, 32)
    square = Image.effect_noise((40, 40), 60).convert("RGB")
    pixels = torch.from_numpy(np.asarray(square) / np.float32(255)).permute(2, 0, 1)[None]
    assert predictor.differentiable(pixels).item() == pytest.approx(predictor(square).mos, abs=1e-5)
    assert build_train_crop(predictor.transform)(Image.new("RGB", (90, 60))).shape == (3, 32, 32)
    for row in pd.read_csv(folder_of(tmp_path) / "predictions.csv").itertuples():
        picture = Image.open(koniq_root / row.image).convert("RGB")
        whole = to_input(picture.resize((40, 40), Image.Resampling.BILINEAR))
        with torch.inference_mode():
            dos = predictor.model(whole[None])[0].tolist()
        assert predictor(picture).dos == pytest.approx(dos, abs=1e-6)
        assert [getattr(row, f"pred_{p}") for p in P] == pytest.approx(dos, abs=1e-6)
    capsys.readouterr()
    assert export([str(folder_of(tmp_path) / "best.pt"), "--output", str(tmp_path / "best.pt2")]) == 0
    assert "(B, 3, 40, 40)" in capsys.readouterr().out


def test_the_noise_ceiling_stands_beside_the_metrics(quick, koniq_root, tmp_path, capsys):
    train(quick, "train.epochs=1")
    output = capsys.readouterr().out
    metrics = json.loads((folder_of(tmp_path) / "metrics.json").read_text())
    split = database_split(folder_of(tmp_path))
    ratings = {rating.name: rating for rating in read_ratings("koniq10k", koniq_root)}
    scale, recipe = RatingScale(1, 5, (1, 2, 3, 4, 5)), LabelRecipe("counts", "file", None, 20, 0)
    votes = collect_votes([ratings[name] for name in split["test"]], scale)
    ceiling = metrics["noise_ceiling"]["koniq10k"]
    assert ceiling == noise_ceiling(votes, scale, recipe)
    assert f"EMD {ceiling['emd']:.3f} ({ceiling['split_half_emd']:.3f})" in output
    train(quick, "train.epochs=1", "dataset.dos=gaussian", "dataset.sos_source=hypothesis", "--overwrite")
    other = json.loads((folder_of(tmp_path) / "metrics.json").read_text())["noise_ceiling"]["koniq10k"]
    assert other["mos_srcc"] == ceiling["mos_srcc"]  # the same votes
    assert other["emd"] != ceiling["emd"]  # other labels of them


def test_one_test_image_has_no_correlations_and_no_traceback(quick, tmp_path, capsys):
    assert train(quick, "train.epochs=1", "protocol.train_fraction=0.95") == 0
    assert "noise ceiling   MOS SRCC nan (nan)" in capsys.readouterr().out
    metrics = json.loads((folder_of(tmp_path) / "metrics.json").read_text())
    assert metrics["noise_ceiling"]["koniq10k"]["mos_srcc"] is None


def test_the_recipe_and_its_fallbacks_are_written_into_the_run(quick, tmp_path, koniq_root, koniq_table):
    table = koniq_table.copy()
    table.loc[3, "SD"] = 0
    table.to_csv(koniq_root / KONIQ_SCORES, index=False)
    for dos, fallbacks in (("gaussian", 1), ("max_entropy", 1), ("counts", 0)):
        train(quick, "train.epochs=1", f"dataset.dos={dos}", "--overwrite")
        labels = database_split(folder_of(tmp_path))["labels"]
        assert (labels["dos"], labels["fallbacks"], labels["images"]) == (dos, fallbacks, 20)


def test_training_learns(quick):
    """The coarser the noise, the worse the label: the loss falls."""
    options = ["train.epochs=15", "optim.lr=1e-3", "schedule.name=onecycle", "model.drop_path=0"]
    totals = [epoch["total"] for epoch in train_losses(load_config(ROOT / "configs/koniq10k.yaml", [*quick, *options]))]
    assert np.mean(totals[-3:]) < 0.9 * totals[0]


def test_same_seed_same_weights_other_seed_other_weights(quick, tmp_path):
    weights = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        train(quick, f"run.name={name}", f"seed={seed}", "train.epochs=1")
        weights.append(read_checkpoint(tmp_path / "runs" / name / "split_01" / "last.pt")["model"])
    key = "algorithmic.0.weight"
    assert torch.equal(weights[0][key], weights[1][key])
    assert not torch.equal(weights[0][key], weights[2][key])


@pytest.mark.parametrize("workers", [0, 1])
def test_an_unreadable_image_is_named_in_one_line(workers, quick, koniq_root):
    (koniq_root / "1024x768" / "1005.jpg").write_text("not a picture")
    with pytest.raises(UserError, match=r"1005\.jpg is not an image") as caught:
        train(quick, f"train.workers={workers}")
    assert "\n" not in str(caught.value)


def test_a_place_that_cannot_be_written_is_named(quick, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"folder .* cannot be created"):
        train(quick, f"run.root={tmp_path / 'file'}")


def test_splits_and_their_summary(quick, tmp_path, capsys):
    assert train(quick, "protocol.splits=2", "train.epochs=1") == 0
    output = capsys.readouterr().out
    parts = [database_split(folder_of(tmp_path, n))["test"] for n in (1, 2)]
    metrics = [json.loads((folder_of(tmp_path, n) / "metrics.json").read_text())["emd"] for n in (1, 2)]
    assert parts[0] != parts[1]
    assert f"EMD      {np.mean(metrics):.4f} ({np.std(metrics, ddof=1):.4f})" in output
    assert train(quick, "protocol.splits=3", "train.epochs=1", "--split", "3") == 0
    assert folder_of(tmp_path, 3).exists()
    with pytest.raises(UserError, match="splits 1 to 3"):
        train(quick, "protocol.splits=3", "--split", "4")


@pytest.mark.parametrize("selection", ["release", "validation", "last"])
def test_selection(selection, quick, tmp_path):
    train(
        quick, f"protocol.selection={selection}", "protocol.validation_fraction=0.2", "train.epochs=4", "optim.lr=1e-3"
    )
    log = [json.loads(line) for line in (folder_of(tmp_path) / "log.jsonl").read_text().splitlines()]
    part = {"release": "test", "validation": "validation"}.get(selection)
    srcc = [record[part]["srcc"] if part else record["epoch"] for record in log]
    chosen = 1 + int(np.argmax(srcc))
    best = read_checkpoint(folder_of(tmp_path) / "best.pt")
    metrics = json.loads((folder_of(tmp_path) / "metrics.json").read_text())
    assert best["epoch"] == metrics["selected_epoch"] == chosen
    assert metrics["selected"]["srcc"] == log[chosen - 1]["test"]["srcc"]
    assert metrics["srcc"] == log[-1]["test"]["srcc"]
    chosen = 1 + int(np.argmax([record["validation"]["srcc"] for record in log]))
    assert metrics["selections"]["validation"] == {"epoch": chosen, **log[chosen - 1]["test"]}
    assert metrics["selections"]["last"] == {"epoch": 4, **log[-1]["test"]}


def test_release_is_the_best_on_test_of_each_metric(quick, tmp_path, capsys):
    """From the log alone; a correlation that is not defined in an epoch is no best."""
    train(quick, "train.epochs=4", "optim.lr=1e-3")
    tests = [json.loads(line)["test"] for line in (folder_of(tmp_path) / "log.jsonl").read_text().splitlines()]
    release = json.loads((folder_of(tmp_path) / "metrics.json").read_text())["selections"]["release"]
    assert release.keys() == {*BETTER, "epochs", "databases"}
    for name, better in BETTER.items():
        values = [np.nan if test[name] is None else test[name] for test in tests]
        best = np.nanmax(values) if better == "higher" else np.nanmin(values)
        assert release[name] == best
        assert values[release["epochs"][name] - 1] == best
    output = capsys.readouterr().out
    assert f"release         SRCC {release['srcc']:.4f}" in output
    assert "each metric at its best epoch on the test part: optimistic" in output


def test_validation_never_looks_at_test_labels(quick, koniq_root, koniq_table, tmp_path):
    """Test labels turned upside down: the same epoch is chosen, with the same weights, and another SRCC."""
    options = ("protocol.selection=validation", "protocol.validation_fraction=0.25", "train.epochs=4", "optim.lr=1e-3")
    train(quick, *options)
    test = [Path(name).name for name in database_split(folder_of(tmp_path))["test"]]
    rows = koniq_table["image_name"].isin(test)
    votes = ["c1", "c2", "c3", "c4", "c5"]
    koniq_table.loc[rows, votes] = koniq_table.loc[rows, votes[::-1]].to_numpy()
    koniq_table.loc[rows, "MOS"] = (6 - koniq_table.loc[rows, "MOS"]).round(9)
    koniq_table.to_csv(koniq_root / KONIQ_SCORES, index=False)
    train(quick, *options, "run.name=corrupted")
    folders = folder_of(tmp_path), tmp_path / "runs" / "corrupted" / "split_01"
    ours, theirs = (json.loads((folder / "metrics.json").read_text()) for folder in folders)
    assert ours["selected_epoch"] == theirs["selected_epoch"]
    assert ours["selections"]["validation"]["epoch"] == theirs["selections"]["validation"]["epoch"]
    assert ours["srcc"] != theirs["srcc"]
    weights = [read_checkpoint(folder / "best.pt")["model"] for folder in folders]
    assert all(torch.equal(tensor, weights[1][name]) for name, tensor in weights[0].items())


def test_tensorboard_shows_every_epoch_once(quick, tmp_path):
    train(quick, "train.epochs=2", "logging.tensorboard=true")
    (folder_of(tmp_path) / "metrics.json").unlink()
    train(quick, "train.epochs=2", "--resume")
    events = EventAccumulator(str(folder_of(tmp_path) / "tensorboard")).Reload()
    log = [json.loads(line) for line in (folder_of(tmp_path) / "log.jsonl").read_text().splitlines()]
    for tag, of_epoch in (("train/total", lambda record: record["train"]["total"]), ("lr", lambda r: r["lr"])):
        scalars = events.Scalars(tag)
        assert [scalar.step for scalar in scalars] == [1, 2]
        assert [scalar.value for scalar in scalars] == pytest.approx([of_epoch(record) for record in log])
    assert "test/srcc" in events.Tags()["scalars"]


def test_tensorboard_that_is_missing_is_said_before_training(quick, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(UserError, match="pip install tensorboard"):
        train(quick, "logging.tensorboard=true")
    assert not (tmp_path / "runs").exists()


def test_sos_a_is_fitted_on_the_training_part(quick, tmp_path, koniq_table, capsys):
    train(quick, "loss.sos_a=fit", "train.epochs=1")
    names = database_split(folder_of(tmp_path))["train"]
    labels = koniq_table.set_index("image_name").loc[[Path(name).name for name in names]]
    spread = (labels["MOS"] - 1) * (5 - labels["MOS"])
    expected = (spread * labels["SD"] ** 2).sum() / (spread**2).sum()
    assert f"sos_a {expected:.4f}, fitted to the training part" in capsys.readouterr().out


@pytest.mark.parametrize("weights", [[], ["loss.mos=0", "loss.sos=0"], ["loss.dos=0", "loss.mos=0"]])
def test_a_loss_that_is_not_finite_stops_with_names_and_terms(weights, quick, tmp_path):
    with pytest.raises(UserError, match=r"not finite in epoch 1, step \d: total nan.*images: 1024x768/\d+\.jpg"):
        train(quick, "optim.lr=1e30", "train.epochs=20", *weights)
    assert not (folder_of(tmp_path) / "metrics.json").exists()


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (["optim.lrr=1"], UserError, r"did you mean 'lr'\?"),
        (["dataset.root=/nowhere"], MissingFileError, "is not a folder"),
        (["train.batch_size=17"], UserError, "17 is more than the 16 training images"),
        (["train.device=tpu"], UserError, "not available; allowed: auto"),
        (["model.pretrained=imagenet22k"], UserError, "not for cvt_nano"),
        (["scale.bin_centers=[1,3,5]"], UserError, "5 columns of votes"),
        (["transform.crop=2"], UserError, "transform.crop: cvt_nano cannot take images of 2 pixels"),
        (["transform.test_crop=2"], UserError, "transform.test_crop: cvt_nano cannot take images of 2 pixels"),
        (["scale.high=3"], UserError, "is not a rating scale"),
    ],
)
def test_mistakes_leave_nothing_behind(arguments, error, message, quick, tmp_path):
    with pytest.raises(error, match=message):
        train(quick, *arguments)
    assert not (tmp_path / "runs").exists()


def test_missing_images_are_all_listed(quick, koniq_root, tmp_path):
    for name in ("1003.jpg", "1007.jpg"):
        (koniq_root / "1024x768" / name).unlink()
    with pytest.raises(MissingFileError, match=r"1003\.jpg, 1024x768/1007\.jpg"):
        train(quick)
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("arguments", [["optim.lrr=1"], ["--resum"], ["--split", "0"], ["--resume", "--overwrite"]])
def test_command_line_mistakes_end_with_status_2(arguments, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert run_as_script(monkeypatch, "main.py", *arguments) == 2
    error = capsys.readouterr().err
    assert "Traceback" not in error
    assert "error: " in error
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "path",
    [pytest.param(path, id=path.stem, marks=[pytest.mark.with_report] * (path.stem in WRITTEN)) for path in CONFIGS],
)
def test_every_config_makes_a_step_and_an_evaluation(path, tmp_path, monkeypatch):
    """CvT-21 in one of them; the others of it have its smallest sister, whose settings are the same."""
    small = path.stem not in WRITTEN and load_config(path).model.backbone == "cvt_21"
    make_step_and_evaluation(path, tmp_path, monkeypatch, *(["model.backbone=cvt_nano"] if small else []))


@pytest.mark.slow
@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_config_makes_a_step_in_its_own_size(path, tmp_path, monkeypatch):
    make_step_and_evaluation(path, tmp_path, monkeypatch)


def make_step_and_evaluation(path: Path, tmp_path: Path, monkeypatch, *overrides: str) -> None:
    if path.stem not in WRITTEN:
        monkeypatch.setattr("experiments.training.run_folder.save_checkpoint", lambda *_: None)
    config = load_config(path)
    where = [f"run.root={tmp_path / 'runs'}"]
    for number, dataset in enumerate(config.dataset):
        key = f"dataset.{number}.root" if len(config.dataset) > 1 else "dataset.root"  # as the files have it
        where.append(f"{key}={write_database(dataset.name, tmp_path / dataset.name).root}")
    tiny = ["protocol.validation_fraction=0.3"] if config.protocol.selection == "validation" else []
    assert main(["--config", str(path), *SMALL, *where, *tiny, *overrides]) == 0


def test_how_an_automatic_split_was_made_is_said(quick, capsys):
    assert train(quick, "protocol.method=auto", "train.epochs=1") == 0
    assert "SOS from file; random split" in capsys.readouterr().out


def test_main_can_run_in_a_thread(quick, tmp_path):
    """As from a notebook's or a server's thread, where Python does not allow handlers of signals."""
    before = signal.getsignal(signal.SIGTERM)
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(train, quick).result() == 0
    assert (folder_of(tmp_path) / "best.pt").is_file()
    assert signal.getsignal(signal.SIGTERM) == before
