"""One training over two processes: the numbers of one process with the same batches."""

import json
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from experiments.training.setup import set_up
from experiments.training.state import TrainingState
from experiments.training.step import Stepper
from tests.processes import COMPILING_SECONDS, results, run_processes
from tests.running import ROOT, folder_of, train, train_losses
from utils.checkpoint import read_checkpoint
from utils.config import load_config

# every draw and every state; BatchNorm in backbone and memory, whose weight lets it count
STATEFUL = [
    *("model.drop_path=0.3", "model.memory_weight=0.5", "optim.ema_decay=0.9", "schedule.name=onecycle"),
    *("optim.clip_norm=1", "optim.lr=1e-3"),
]


@pytest.fixture
def options(quick) -> list[str]:
    """Four steps of four images an epoch."""
    return [*quick, *STATEFUL, "train.epochs=3"]


def log_of(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def assert_alike(one: Path, other: Path) -> None:
    """Losses and metrics of every epoch, weights, predictions: up to the order of sums."""
    for ours, theirs in zip(log_of(one), log_of(other), strict=True):
        assert ours["train"] == pytest.approx(theirs["train"], rel=1e-5)
        for name, value in theirs["test"]["databases"]["koniq10k"].items():
            assert ours["test"]["databases"]["koniq10k"][name] == pytest.approx(value, abs=2e-4, nan_ok=True), name
    ours, theirs = (pd.read_csv(folder / "predictions.csv") for folder in (one, other))
    assert ours["image"].tolist() == theirs["image"].tolist()
    np.testing.assert_allclose(ours.iloc[:, 1:], theirs.iloc[:, 1:], atol=1e-4)
    ours, theirs = (read_checkpoint(folder / "last.pt") for folder in (one, other))
    assert ours["model"].keys() == theirs["model"].keys()
    assert torch.equal(ours["random"]["torch"], theirs["random"]["torch"])


def losses_of_steps(options: list[str]) -> list[list[float]]:
    """The loss and its terms in each step."""
    found, count = [], TrainingState.count
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            TrainingState, "count", lambda self, values: (found.append([*values.values()]), count(self, values))
        )
        train_losses(load_config(None, options))
    return found


@pytest.mark.slow
@pytest.mark.parametrize("accumulate", [1, 2])
def test_20_steps_have_the_losses_of_one_process(accumulate, options, tmp_path):
    damage = accumulate / 2  # at least one image of a part in each process, so that none is added by rounding up
    options = [*options, f"transform.damage={damage}", "loss.rank=20"]
    options = [*options, "train.epochs=5", f"train.accumulate={accumulate}"]
    whole = losses_of_steps(options)
    assert len(whole) == 20
    parts = results(partial(losses_of_steps, options), tmp_path)
    assert parts[0] == parts[1]
    np.testing.assert_allclose(parts[0], whole, rtol=1e-5, atol=1e-5)
    assert np.std([total for total, *_ in whole]) > 0.1


@pytest.mark.slow
def test_compiled_steps_have_the_losses_of_one_process_but_for_rounding(options, tmp_path, monkeypatch):
    """BatchNorm over the processes is compiled with the rest of the network."""
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "compiled"))
    options = [*options, "model.drop_path=0", "optim.lr=1e-4"]
    whole = losses_of_steps(options)
    parts = results(partial(losses_of_steps, [*options, "train.compile=true"]), tmp_path, seconds=COMPILING_SECONDS)
    assert parts[0] == parts[1] != whole
    np.testing.assert_allclose(parts[0], whole, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_two_processes_train_as_one_and_each_continues_the_other(options, tmp_path, monkeypatch):
    """The whole run, and runs that change from two processes to one and from one to two within an epoch."""
    assert train(options) == 0
    whole = folder_of(tmp_path)
    first, second = run_processes(partial(train, options, "run.name=two"), tmp_path)
    assert (first.status, second.status) == (0, 0)
    assert (second.out, second.err) == ("", "")
    assert first.out.count("epoch 3/3") == 1
    assert {path.name for path in (tmp_path / "runs" / "two").rglob("*")} == {
        *(path.name for path in whole.iterdir()),
        *("split_01", ".split_01.lock"),
    } - {"report.html"}
    assert_alike(tmp_path / "runs" / "two" / "split_01", whole)

    step = Stepper.step

    def interrupted_step(self: Stepper, *arguments) -> None:
        """Asked to stop before the sixth step, in one process alone."""
        if (self.state.epoch, self.state.step) == (1, 1) and os.environ.get("RANK", "1") == "1":
            signal.raise_signal(signal.SIGTERM)
        step(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(Stepper, "step", interrupted_step)
        assert train(options, "run.name=one_two") == 130
        first, second = run_processes(partial(train, options, "run.name=two_one"), tmp_path)
    assert (first.status, second.status) == (130, 130)
    assert "interrupted; everything is saved, and --resume continues it" in first.out
    assert (first.err, second.err) == ("", "")
    saved = read_checkpoint(tmp_path / "runs" / "two_one" / "split_01" / "last.pt")
    assert (saved["epoch"], saved["step"]) in ((1, 2), (1, 3))
    assert train(options, "run.name=two_one", "--resume") == 0
    first, second = run_processes(partial(train, options, "run.name=one_two", "--resume"), tmp_path)
    assert (first.status, second.status) == (0, 0)
    for name in ("one_two", "two_one"):
        assert_alike(tmp_path / "runs" / name / "split_01", whole)


def test_a_signal_to_one_process_ends_all_before_anything_is_written(options, tmp_path, monkeypatch):
    """While a cache fills, say; which one of them was told, and when, is a matter of chance."""

    def told(*arguments) -> tuple:
        if os.environ["RANK"] == "1":
            signal.raise_signal(signal.SIGTERM)
        return set_up(*arguments)

    monkeypatch.setattr("main.set_up", told)
    for ended in run_processes(partial(train, options), tmp_path):
        assert (ended.status, ended.err) == (130, "")
    assert not folder_of(tmp_path).exists()


def test_a_damaged_image_is_one_line(options, koniq_root, tmp_path):
    (koniq_root / "1024x768" / "1005.jpg").write_text("not a picture")
    first, second = run_processes(partial(train, options), tmp_path)
    assert (first.status, second.status) == (2, 2)
    assert first.err.count("\n") == 1
    assert first.err.startswith("error: ")
    assert "1005.jpg is not an image" in first.err
    assert second.err == ""


def test_a_loss_that_is_not_finite_names_the_images_of_its_process(options, tmp_path, monkeypatch):
    gradients = Stepper._gradients

    def poisoned(self: Stepper, batch: dict) -> dict:
        terms = gradients(self, batch)
        if os.environ["RANK"] == "1" and self.state.step == 2:
            (tmp_path / "names").write_text(", ".join(batch["name"]))
            terms["total"] = terms["total"] * float("nan")
        return terms

    monkeypatch.setattr(Stepper, "_gradients", poisoned)
    first, second = run_processes(partial(train, options), tmp_path)
    assert (first.status, second.status) == (2, 2)
    assert "not finite in epoch 1, step 3: total nan" in first.err
    assert f"images: {(tmp_path / 'names').read_text()}. Start" in first.err
    assert first.err.count("\n") == 1
    assert second.err == ""
    assert not (folder_of(tmp_path) / "last.pt").exists()


@pytest.mark.parametrize(
    ("mistake", "message"),
    [
        (["train.batch_size=5"], "shared equally by 2 processes; set it to a multiple of 2, such as 4"),
        (
            ["train.batch_size=12", "train.accumulate=4"],
            "by 2 processes, in 4 parts each (train.accumulate); set it to a",
        ),
        (["protocol.parallel_splits=2"], "torchrun has started 2 for one training; set protocol.parallel_splits=1"),
        (["dataset.cache=ram"], "each of 2 processes would need a copy"),
        (["train.device=mps"], "mps cannot be shared by 2 processes; allowed: auto, cuda, cpu"),
        (["--evaluate", "best.pt"], "--evaluate runs in one process, and torchrun has started 2"),
        (["optim.lrr=1"], "did you mean 'lr'?"),
        (["--resum"], "unrecognized arguments: --resum"),
    ],
)
def test_one_process_reports_a_mistake_in_one_line_and_nothing_is_left(mistake, message, quick, tmp_path):
    first, second = run_processes(partial(train, quick, *mistake), tmp_path)
    assert (first.status, second.status) == (2, 2)
    assert message in first.err
    assert first.err.count("error: ") == 1
    assert second.err == ""
    assert not (tmp_path / "runs").exists()


@pytest.mark.slow
def test_torchrun_starts_it_and_sigterm_saves(options, tmp_path):
    """As a cluster ends it: torchrun is told, and tells its processes and their loader workers."""
    options = [*options, "train.epochs=30", "train.workers=1", "train.save_steps=1"]
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "main.py"]
    process = subprocess.Popen(
        [*command, "--config", "configs/koniq10k.yaml", *options],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    deadline = time.monotonic() + 120
    while not (folder_of(tmp_path) / "last.pt").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=300)
    assert output.count("interrupted; everything is saved, and --resume continues it") == 1
    assert "DataLoader worker" not in output
    saved = read_checkpoint(folder_of(tmp_path) / "last.pt")
    assert (saved["epoch"], saved["step"]) < (30, 0)
    first, _ = run_processes(partial(train, options, "--resume"), tmp_path)
    assert first.status == 0
    assert len(log_of(folder_of(tmp_path))) == 30
