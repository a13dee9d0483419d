"""Training end to end: what a run leaves, what inference makes of it, and resuming exactly."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import main as training
from inference import load_predictor
from main import main
from tests.conftest import KONIQ_SCORES
from utils.checkpoint import read_checkpoint
from utils.errors import MissingFileError, UserError
from utils.metrics import distribution_metrics, score_metrics
from utils.run_folder import RunFolder

ROOT = Path(__file__).parents[1]
CONFIGS = sorted((ROOT / "configs").glob("**/*.yaml"))
P = [f"p{k}" for k in range(1, 6)]
# every source of randomness and of state: stochastic depth, an average of the weights, a schedule, clipping
STATEFUL = [
    "model.drop_path=0.3",
    "optim.ema_decay=0.9",
    "schedule.name=onecycle",
    "optim.clip_norm=1",
    "optim.lr=1e-3",
]


def train(quick, *arguments):
    return main(["--config", str(ROOT / "configs" / "koniq10k.yaml"), *quick, *arguments])


def folder_of(tmp_path: Path, number: int = 1) -> Path:
    return tmp_path / "runs" / "quick" / f"split_{number:02d}"


@pytest.fixture
def run(quick, tmp_path) -> Path:
    """A finished run of two epochs."""
    assert train(quick) == 0
    return folder_of(tmp_path)


def test_a_run_leaves_what_is_promised(run):
    names = {"config.yaml", "split.json", "log.jsonl", "predictions.csv", "metrics.json", "last.pt", "best.pt"}
    assert {path.name for path in run.iterdir()} == names
    log = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert [record["epoch"] for record in log] == [1, 2]
    assert set(log[0]["train"]) == {"total", "dos", "mos", "sos"}
    split = json.loads((run / "split.json").read_text())
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
    split = json.loads((run / "split.json").read_text())
    assert table["image"].tolist() == split["test"]
    pred, target = (table[[f"{side}_{p}" for p in P]].to_numpy() for side in ("pred", "target"))
    for name, value in score_metrics(table["pred_mos"], table["target_mos"]).items():
        assert metrics[name] == pytest.approx(value, nan_ok=True), name
    for name, value in distribution_metrics(pred, target).items():
        assert metrics["dos_rmse" if name == "rmse" else name] == pytest.approx(value), name
    np.testing.assert_allclose(table["pred_mos"], pred @ np.arange(1, 6))
    known = koniq_table.set_index("image_name")["MOS"]
    np.testing.assert_allclose(table["target_mos"], [known[Path(name).name] for name in table["image"]], atol=1e-8)


def test_inference_gives_the_score_that_evaluation_gave(run, koniq_root):
    predictor = load_predictor(run / "last.pt", device="cpu")
    for row in pd.read_csv(run / "predictions.csv").itertuples():
        prediction = predictor(koniq_root / row.image)
        assert prediction.mos == pytest.approx(row.pred_mos, abs=1e-5)
        assert prediction.sos == pytest.approx(row.pred_sos, abs=1e-5)
        assert prediction.dos == pytest.approx([getattr(row, f"pred_{p}") for p in P], abs=1e-6)


def test_training_learns(quick, tmp_path):
    """The coarser the noise, the worse the label: the loss falls."""
    train(quick, "train.epochs=15", "optim.lr=1e-3", "schedule.name=onecycle", "model.drop_path=0")
    log = [json.loads(line) for line in (folder_of(tmp_path) / "log.jsonl").read_text().splitlines()]
    totals = [record["train"]["total"] for record in log]
    assert np.mean(totals[-3:]) < 0.9 * totals[0]


def test_same_seed_same_weights_other_seed_other_weights(quick, tmp_path):
    weights = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        train(quick, f"run.name={name}", f"seed={seed}", "train.epochs=1")
        weights.append(read_checkpoint(tmp_path / "runs" / name / "split_01" / "last.pt")["model"])
    key = "algorithmic.0.weight"
    assert torch.equal(weights[0][key], weights[1][key])
    assert not torch.equal(weights[0][key], weights[2][key])


def without_time(value):
    if isinstance(value, dict):
        return {key: without_time(item) for key, item in value.items() if key not in ("seconds", "config")}
    return [without_time(item) for item in value] if isinstance(value, list) else value


def assert_identical(one, other, path="checkpoint"):
    """Bit by bit, wall-clock time and config aside."""
    if isinstance(one, dict):
        assert one.keys() == other.keys(), path
        for key in one:
            assert_identical(one[key], other[key], f"{path}.{key}")
    elif isinstance(one, (list, tuple)):
        assert len(one) == len(other), path
        for index, (a, b) in enumerate(zip(one, other, strict=True)):
            assert_identical(a, b, f"{path}.{index}")
    elif isinstance(one, torch.Tensor):
        assert torch.equal(one, other), path
    else:
        assert one == other or (one != one and other != other), path  # noqa: PLR0124, NaN


def assert_same_run(one: Path, other: Path):
    for name in ("last.pt", "best.pt"):
        assert_identical(*(without_time(read_checkpoint(folder / name)) for folder in (one, other)))
    assert (one / "predictions.csv").read_bytes() == (other / "predictions.csv").read_bytes()


def test_kill_at_a_random_step_then_resume_equals_uninterrupted(quick, tmp_path):
    options = [*STATEFUL, "train.epochs=4", "train.save_steps=3", "model.memory_weight=0.1"]
    train([*quick, *options], "run.name=whole")
    command = [sys.executable, "main.py", "--config", "configs/koniq10k.yaml", *quick, *options, "run.name=killed"]
    killed = tmp_path / "runs" / "killed" / "split_01"
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not (killed / "last.pt").exists() and time.monotonic() < deadline:
        time.sleep(0.005)
    time.sleep(np.random.default_rng().uniform(0, 0.3))  # anywhere: in a step, an evaluation, a write
    process.kill()
    process.wait()
    assert train([*quick, *options], "run.name=killed", "--resume", "train.workers=1") == 0
    assert_same_run(tmp_path / "runs" / "whole" / "split_01", killed)


@pytest.mark.parametrize("step", [1, 4, 7, 8])
def test_interruption_at_any_step_then_resume_equals_uninterrupted(step, quick, tmp_path, monkeypatch):
    train([*quick, *STATEFUL], "run.name=whole")
    taken = []
    update = training.TrainingState.update

    def interrupted_update(self, *arguments):
        update(self, *arguments)
        taken.append(1)
        if len(taken) == step:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(training.TrainingState, "update", interrupted_update)
    assert train([*quick, *STATEFUL], "run.name=stopped") == 130
    assert len(taken) == step
    assert train([*quick, *STATEFUL], "run.name=stopped", "--resume") == 0
    assert len(taken) == 8  # nothing was done twice
    assert_same_run(tmp_path / "runs" / "whole" / "split_01", tmp_path / "runs" / "stopped" / "split_01")


@pytest.mark.parametrize("moment", ["_write_log", "save", "finish"])
def test_crash_between_checkpoint_and_reports_is_mended(moment, quick, tmp_path, monkeypatch):
    train(quick, "run.name=whole")
    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, moment, lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            train(quick, "run.name=crashed")
    assert train(quick, "run.name=crashed", "--resume") == 0
    one, other = (tmp_path / "runs" / name / "split_01" for name in ("whole", "crashed"))
    assert_same_run(one, other)
    logs = [
        [without_time(json.loads(line)) for line in (f / "log.jsonl").read_text().splitlines()] for f in (one, other)
    ]
    assert logs[0] == logs[1]


def test_existing_run_is_not_touched_unasked(run, quick):
    before = (run / "last.pt").read_bytes()
    with pytest.raises(UserError, match=r"--resume goes on with it, --overwrite starts it anew, run\.name=NAME"):
        train(quick)
    with pytest.raises(UserError, match=r"other settings: optim\.lr: 1e-05 then, 0\.001 now"):
        train(quick, "--resume", "optim.lr=1e-3")
    assert train(quick, "--resume") == 0
    assert (run / "last.pt").read_bytes() == before
    assert train(quick, "--overwrite", "optim.lr=1e-3") == 0
    assert (run / "last.pt").read_bytes() != before


def test_overwriting_waits_until_the_new_run_is_sound(run, quick):
    before = (run / "last.pt").read_bytes()
    for mistake in ("model.backbone=cvt_2", "model.pretrained=imagenet22k", "train.batch_size=18", "transform.crop=2"):
        with pytest.raises(UserError):
            train(quick, "--overwrite", mistake)
    assert (run / "last.pt").read_bytes() == before


def test_resume_refuses_other_labels(run, quick, koniq_root, koniq_table):
    (run / "metrics.json").unlink()
    changed = koniq_table.drop(index=3)
    changed.to_csv(koniq_root / KONIQ_SCORES, index=False)
    with pytest.raises(UserError, match="images or labels are not those"):
        train(quick, "--resume")
    koniq_table.to_csv(koniq_root / KONIQ_SCORES, index=False)
    assert train(quick, "--resume") == 0


def test_resume_does_not_need_the_pretrained_weights_again(quick, tmp_path):
    train(quick, "run.name=first", "train.epochs=1")
    weights = tmp_path / "runs" / "first" / "split_01" / "best.pt"
    train(quick, f"model.pretrained={weights}")
    (folder_of(tmp_path) / "metrics.json").unlink()
    weights.unlink()
    assert train(quick, f"model.pretrained={weights}", "--resume") == 0


def test_interruption_in_the_last_evaluation_does_not_start_the_next_split(quick, tmp_path, monkeypatch):
    predict, calls = training.predict, []

    def interrupted_predict(*arguments):
        calls.append(1)
        if len(calls) == 2:
            signal.raise_signal(signal.SIGINT)
        return predict(*arguments)

    monkeypatch.setattr(training, "predict", interrupted_predict)
    assert train(quick, "protocol.splits=2") == 130
    assert (folder_of(tmp_path, 1) / "metrics.json").exists()
    assert not folder_of(tmp_path, 2).exists()


@pytest.mark.parametrize("workers", [0, 1])
def test_an_unreadable_image_is_named_in_one_line(workers, quick, koniq_root):
    (koniq_root / "1024x768" / "1005.jpg").write_text("not a picture")
    with pytest.raises(UserError, match=r"1005\.jpg is not an image") as caught:
        train(quick, f"train.workers={workers}")
    assert "\n" not in str(caught.value)


def test_a_place_that_cannot_be_written_is_named(quick, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"split\.json cannot be written"):
        train(quick, f"run.root={tmp_path / 'file'}")


def test_splits_and_their_summary(quick, tmp_path, capsys):
    assert train(quick, "protocol.splits=2", "train.epochs=1") == 0
    output = capsys.readouterr().out
    parts = [json.loads((folder_of(tmp_path, n) / "split.json").read_text())["test"] for n in (1, 2)]
    metrics = [json.loads((folder_of(tmp_path, n) / "metrics.json").read_text())["emd"] for n in (1, 2)]
    assert parts[0] != parts[1]
    assert f"EMD   {np.mean(metrics):.4f} ({np.std(metrics, ddof=1):.4f})" in output
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


def test_sos_a_is_fitted_on_the_training_part(quick, capsys):
    train(quick, "loss.sos_a=fit", "train.epochs=1")
    assert "fitted on the training part" in capsys.readouterr().out


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
        (["train.device=tpu"], UserError, "not on this machine"),
        (["model.pretrained=imagenet22k"], UserError, "not for cvt_nano"),
        (["scale.bin_centers=[1,3,5]"], UserError, "5 votes columns"),
        (["transform.crop=2"], UserError, "cannot take images of 2 pixels"),
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
def test_command_line_mistakes_end_with_status_2(arguments, tmp_path):
    done = subprocess.run(
        [sys.executable, ROOT / "main.py", *arguments], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert "error: " in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_config_makes_a_step_and_an_evaluation(path, koniq_root, tmp_path):
    small = ["transform.resize=40", "transform.crop=32", "train.epochs=1", "train.batch_size=8", "train.workers=0"]
    where = [f"run.root={tmp_path / 'runs'}", f"dataset.root={koniq_root}", "dataset.name=koniq10k"]
    rest = ["model.pretrained=none", "protocol.splits=1", "protocol.unit=image", "train.device=cpu"]
    assert main(["--config", str(path), *small, *where, *rest]) == 0
