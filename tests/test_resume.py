"""Interrupting, resuming and overwriting: nothing is lost, and the end is that of an uninterrupted run."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import main as training
from experiments.evaluation import predict as prediction
from experiments.training.run_folder import RunFolder
from tests.conftest import KONIQ_SCORES
from tests.identical import assert_identical, assert_same_run, comparable
from tests.running import ROOT, folder_of, train
from utils.checkpoint import read_checkpoint
from utils.errors import UserError

# every source of randomness and of state: stochastic depth, an average of the weights, a schedule, clipping
STATEFUL = [
    *("model.drop_path=0.3", "transform.damage=0.3", "loss.rank=20", "schedule.name=cosine", "schedule.warmup=0.3"),
    *("optim.ema_decay=0.9", "optim.backbone_lr=0.5", "optim.clip_norm=1", "optim.lr=1e-3"),
]

# main.py that is killed some seconds after it has first saved, by itself: another process might come too late
KILLED = """
import os, signal, sys, threading
from main import main
from experiments.training.run_folder import RunFolder

def save_and_die_later(self, config, state):
    save(self, config, state)
    threading.Timer(float(sys.argv[1]), os.kill, (os.getpid(), signal.SIGKILL)).start()

save, RunFolder.save = RunFolder.save, save_and_die_later
main(sys.argv[2:])
"""


@pytest.fixture(scope="module")
def beside(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("uninterrupted")


@pytest.fixture
def whole(quick, beside) -> Path:
    """An uninterrupted run, made by the first test that asks for it."""
    folder = beside / "quick" / "split_01"
    if not (folder / "metrics.json").exists():
        train([*quick, *STATEFUL], f"run.root={beside}", "--overwrite")
    return folder


@pytest.mark.slow
def test_kill_at_a_random_step_then_resume_equals_uninterrupted(quick, tmp_path):
    options = [*STATEFUL, "train.epochs=4", "train.save_steps=3", "model.memory_weight=0.1"]
    train([*quick, *options], "run.name=whole")
    delay = np.random.default_rng().uniform(0, 0.3)  # anywhere: in a step, an evaluation, a write
    print(f"killed {delay:.4f} s after the first last.pt")  # shown where the test fails
    command = [sys.executable, "-c", KILLED, str(delay), "--config", "configs/koniq10k.yaml", *quick, *options]
    killed = tmp_path / "runs" / "killed" / "split_01"
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    status = subprocess.call([*command, "run.name=killed"], cwd=ROOT, env=environment, stdout=subprocess.DEVNULL)
    assert status == -signal.SIGKILL
    assert not (killed / "metrics.json").exists(), "the run ended before it was killed"
    assert train([*quick, *options], "run.name=killed", "--resume", "train.workers=1") == 0
    assert_same_run(tmp_path / "runs" / "whole" / "split_01", killed)


@pytest.mark.parametrize(
    "step", [pytest.param(1, marks=pytest.mark.slow), 4, pytest.param(7, marks=pytest.mark.slow), 8]
)
def test_interruption_at_any_step_then_resume_equals_uninterrupted(step, quick, whole, tmp_path, monkeypatch):
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
    assert_same_run(whole, tmp_path / "runs" / "stopped" / "split_01")


@pytest.mark.parametrize(
    "moment", [*(pytest.param(moment, marks=pytest.mark.slow) for moment in ("_write_log", "save")), "finish"]
)
def test_crash_between_checkpoint_and_reports_is_mended(moment, quick, whole, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, moment, lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            train([*quick, *STATEFUL], "run.name=crashed")
    assert train([*quick, *STATEFUL], "run.name=crashed", "--resume") == 0
    one, other = whole, tmp_path / "runs" / "crashed" / "split_01"
    assert_same_run(one, other)
    logs = [[comparable(json.loads(line)) for line in (f / "log.jsonl").read_text().splitlines()] for f in (one, other)]
    assert logs[0] == logs[1]


@pytest.mark.parametrize("save_steps", [0, 3, pytest.param(4, marks=pytest.mark.slow)])
@pytest.mark.parametrize("epoch", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_a_run_killed_in_an_evaluation_resumes_at_it(epoch, save_steps, quick, whole, tmp_path, monkeypatch, capsys):
    """A cluster's TERM is followed by a KILL, which an evaluation may not outlast."""
    predict, update, calls, taken = prediction.predict, training.TrainingState.update, [], []

    def killed_predict(*arguments):
        calls.append(1)
        if len(calls) == epoch:
            signal.raise_signal(signal.SIGTERM)
            raise SystemExit("killed")
        return predict(*arguments)

    def counted_update(self):
        taken.append(1)
        update(self)

    monkeypatch.setattr(prediction, "predict", killed_predict)
    monkeypatch.setattr(training.TrainingState, "update", counted_update)
    options = [*quick, *STATEFUL, "run.name=stopped", f"train.save_steps={save_steps}"]
    with pytest.raises(SystemExit, match="killed"):
        train(options)
    assert len(taken) == 4 * epoch
    assert train(options, "--resume") == 0
    assert f"resuming at the evaluation of epoch {epoch}" in capsys.readouterr().out
    assert len(taken) == 8  # nothing was done twice
    stopped = tmp_path / "runs" / "stopped" / "split_01"
    assert_same_run(whole, stopped)
    logs = [(folder / "log.jsonl").read_text().splitlines() for folder in (whole, stopped)]
    assert comparable([json.loads(line) for line in logs[0]]) == comparable([json.loads(line) for line in logs[1]])
    assert_identical(*(comparable(json.loads((f / "metrics.json").read_text())) for f in (whole, stopped)))


def test_existing_run_is_not_touched_unasked(run, quick):
    before = (run / "last.pt").read_bytes()
    with pytest.raises(UserError, match=r"--resume continues it, --overwrite restarts it, run\.name=NAME"):
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
    with pytest.raises(UserError, match="images or labels have changed since"):
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
    predict, calls = prediction.predict, []

    def interrupted_predict(*arguments):
        calls.append(1)
        if len(calls) == 2:
            signal.raise_signal(signal.SIGINT)
        return predict(*arguments)

    monkeypatch.setattr(prediction, "predict", interrupted_predict)
    assert train(quick, "protocol.splits=2") == 130
    assert (folder_of(tmp_path, 1) / "metrics.json").exists()
    assert not folder_of(tmp_path, 2).exists()


def test_two_processes_do_not_write_the_same_split(run, quick):
    before = (run / "last.pt").read_bytes()
    with RunFolder(run).lock(), pytest.raises(UserError, match="is being written by another process"):
        train(quick, "--overwrite")
    assert (run / "last.pt").read_bytes() == before
    assert train(quick, "--overwrite") == 0


def test_results_without_a_saved_state_are_not_touched_unasked(run, quick):
    (run / "last.pt").unlink()
    with pytest.raises(UserError, match="already contains a run"):
        train(quick)
    assert train(quick, "--resume") == 0  # finished, nothing to do
    assert (run / "best.pt").exists()


@pytest.mark.usefixtures("run")
def test_a_finished_run_is_held_against_its_data_too(quick, koniq_root, koniq_table):
    koniq_table.drop(index=3).to_csv(koniq_root / KONIQ_SCORES, index=False)
    with pytest.raises(UserError, match=r"have changed since .*split\.json was written"):
        train(quick, "--resume")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("split.json", None, r"split\.json is missing or damaged"),
        ("split.json", b"{", r"split\.json is missing or damaged"),
        ("metrics.json", b"{", r"metrics\.json is missing or damaged"),
        ("last.pt", b"text", r"last\.pt is not a checkpoint"),
    ],
)
def test_damaged_files_of_a_run_are_named(name, content, message, run, quick):
    if name != "metrics.json":
        (run / "metrics.json").unlink()
    (run / name).unlink()
    if content is not None:
        (run / name).write_bytes(content)
    with pytest.raises(UserError, match=message):
        train(quick, "--resume")


def test_weights_alone_cannot_be_resumed(run, quick):
    (run / "metrics.json").unlink()
    (run / "last.pt").write_bytes((run / "best.pt").read_bytes())
    with pytest.raises(UserError, match="contains only weights"):
        train(quick, "--resume")


def test_overwriting_leaves_no_splits_of_the_old_run(quick, tmp_path):
    for number in (1, 2, 3):
        folder_of(tmp_path, number).mkdir(parents=True)
        (folder_of(tmp_path, number) / "last.pt").write_bytes(b"old")
    train(quick, "protocol.splits=2", "train.epochs=1", "--overwrite", "--split", "1")
    assert folder_of(tmp_path, 3).exists()
    train(quick, "protocol.splits=2", "train.epochs=1", "--overwrite")
    assert not folder_of(tmp_path, 3).exists()


@pytest.mark.slow
def test_overwriting_that_is_interrupted_leaves_no_old_split(quick, tmp_path, monkeypatch):
    """Whatever the new run is interrupted in, it resumes; a mistake in its set-up leaves the old splits."""
    train(quick, "protocol.splits=3", "train.epochs=1")
    with pytest.raises(UserError):
        train(quick, "protocol.splits=3", "--overwrite", "train.batch_size=18")
    assert [folder_of(tmp_path, number).exists() for number in (1, 2, 3)] == [True] * 3
    new = [*quick, "protocol.splits=3", "train.epochs=1", "optim.lr=1e-3"]
    with RunFolder(folder_of(tmp_path, 3)).lock(), pytest.raises(UserError, match="by another process"):
        train(new, "--overwrite")
    assert [folder_of(tmp_path, number).exists() for number in (1, 2, 3)] == [True] * 3
    (tmp_path / "runs" / "quick" / "split_of_mine").mkdir()
    update = training.TrainingState.update

    def interrupted_update(self, *arguments):
        update(self, *arguments)
        signal.raise_signal(signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(training.TrainingState, "update", interrupted_update)
        assert train(new, "--overwrite") == 130
    assert [folder_of(tmp_path, number).exists() for number in (1, 2, 3)] == [True, False, False]
    assert (tmp_path / "runs" / "quick" / "split_of_mine").exists()
    assert train(new, "--resume") == 0


@pytest.mark.with_report
def test_a_report_that_is_missing_or_old_is_written_on_resume(run, quick, capsys):
    report = run.parent / "report.html"
    report.unlink()
    capsys.readouterr()
    train(quick, "--resume")
    assert report.exists()
    written = report.stat().st_mtime_ns
    train(quick, "--resume")
    assert report.stat().st_mtime_ns == written
    os.utime(report, (0, 0))
    train(quick, "--resume")
    assert report.stat().st_mtime_ns >= written
    assert capsys.readouterr().out.count("report: ") == 2


def test_too_little_memory_is_one_line(quick, monkeypatch):
    def no_memory(*_):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB. See the documentation")

    monkeypatch.setattr(training.TrainingState, "update", no_memory)
    with pytest.raises(UserError, match=r"out of memory \(CUDA.*smaller train\.batch_size or transform\.crop"):
        train(quick)


def test_weights_that_are_not_finite_are_not_saved(quick, tmp_path, monkeypatch):
    update = training.TrainingState.update

    def poisoned_update(self, *arguments):
        update(self, *arguments)
        with torch.no_grad():
            next(self.model.parameters()).fill_(float("nan"))

    monkeypatch.setattr(training.TrainingState, "update", poisoned_update)
    with pytest.raises(UserError, match="weights are no longer finite after epoch 0, step 1"):
        train(quick, "train.save_steps=1")
    assert not (folder_of(tmp_path) / "last.pt").exists()
    with pytest.raises(UserError, match="no longer finite after epoch 0, step 1"):
        train(quick, "train.batch_size=16", "--overwrite")  # saved before it is evaluated


CONSTANT = ["model.drop_path=0.3", "optim.ema_decay=0.9", "optim.lr=1e-3", "protocol.splits=2"]


@pytest.mark.slow
def test_more_epochs_continue_finished_splits(quick, tmp_path):
    """With a constant schedule, the end is that of a training that had them from the beginning."""
    assert train(quick, *CONSTANT, "train.epochs=3", "run.name=whole") == 0
    assert train(quick, *CONSTANT, "train.epochs=1") == 0
    assert train(quick, *CONSTANT, "train.epochs=3", "--resume") == 0
    for number in (1, 2):
        longer, whole = folder_of(tmp_path, number), tmp_path / "runs" / "whole" / f"split_{number:02d}"
        for name in ("last.pt", "best.pt"):
            one, other = (read_checkpoint(folder / name) for folder in (longer, whole))
            assert_identical(comparable(one), comparable(other))
        metrics = [comparable(json.loads((folder / "metrics.json").read_text())) for folder in (longer, whole)]
        assert metrics[0] == metrics[1]
        assert "epochs: 3" in (longer / "config.yaml").read_text()
        assert (longer / "predictions.csv").read_text() == (whole / "predictions.csv").read_text()


def test_a_kill_while_more_epochs_begin_loses_nothing(quick, tmp_path, monkeypatch):
    assert train(quick, "train.epochs=1") == 0
    with monkeypatch.context() as patch:
        patch.setattr("experiments.training.run_folder.dump_config", lambda _: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            train(quick, "train.epochs=2", "--resume")
    assert train(quick, "train.epochs=1", "--resume") == 0  # finishes it again
    assert train(quick, "train.epochs=2", "--resume") == 0
    assert read_checkpoint(folder_of(tmp_path) / "last.pt")["epoch"] == 2


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        (["train.epochs=2"], ["train.epochs=1"], r"train\.epochs: 2 then, 1 now$"),
        (
            ["train.epochs=1", "schedule.name=cosine"],
            ["train.epochs=2", "schedule.name=cosine"],
            r"train\.epochs: 1 then, 2 now; with schedule\.name=cosine, .*model\.pretrained=.*last\.pt run\.name=NAME$",
        ),
        (
            ["train.epochs=1"],
            ["train.epochs=2", "optim.weight_decay=0"],
            r"other settings: optim\.weight_decay: [^;]*$",
        ),
    ],
)
def test_other_changes_of_the_number_of_epochs_are_refused(before, after, message, quick):
    assert train(quick, *before) == 0
    with pytest.raises(UserError, match=message):
        train(quick, *after, "--resume")
