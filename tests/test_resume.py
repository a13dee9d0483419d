"""Interrupting, resuming and overwriting: nothing is lost, and the end is that of an uninterrupted run."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

import main as training
from tests.conftest import KONIQ_SCORES
from tests.running import ROOT, folder_of, train
from utils.checkpoint import read_checkpoint
from utils.errors import UserError
from utils.run_folder import RunFolder

# every source of randomness and of state: stochastic depth, an average of the weights, a schedule, clipping
STATEFUL = [
    "model.drop_path=0.3",
    "optim.ema_decay=0.9",
    "schedule.name=onecycle",
    "optim.clip_norm=1",
    "optim.lr=1e-3",
]


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
