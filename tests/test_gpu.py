"""Training on a CUDA GPU: killed and resumed, and with the exchange of processes over nccl."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.running import ROOT, train
from utils.checkpoint import read_checkpoint

pytestmark = pytest.mark.gpu

STATEFUL = ["model.drop_path=0.3", "optim.ema_decay=0.9", "schedule.name=onecycle", "optim.lr=1e-3"]


def log_of(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_killed_training_resumes(precision, quick, tmp_path):
    """Atomic sums on a GPU have no order, so that the numbers agree up to rounding."""
    options = [*quick, *STATEFUL, "train.epochs=4", "train.save_steps=3", "train.device=cuda"]
    options += [f"train.precision={precision}"]
    train(options, "run.name=whole")
    command = [sys.executable, "main.py", "--config", "configs/koniq10k.yaml", *options, "run.name=killed"]
    killed = tmp_path / "runs" / "killed" / "split_01"
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not (killed / "last.pt").exists() and time.monotonic() < deadline:
        time.sleep(0.005)
    process.kill()
    process.wait()
    assert not (killed / "metrics.json").exists(), "the run ended before it was killed"
    assert train(options, "run.name=killed", "--resume", "train.workers=1") == 0
    whole = tmp_path / "runs" / "whole" / "split_01"
    for one, other in zip(log_of(whole), log_of(killed), strict=True):
        assert other["train"]["total"] == pytest.approx(one["train"]["total"], rel=1e-2)
    states = [read_checkpoint(folder / "last.pt") for folder in (whole, killed)]
    assert states[0]["model"].keys() == states[1]["model"].keys()
    assert states[0]["random"]["torch"].equal(states[1]["random"]["torch"])


def test_gradients_and_statistics_go_through_nccl():
    """In a group of one process, which exchanges with itself."""
    script = """
import torch.distributed as dist
from experiments.training.step import Stepper
from models.sync_batchnorm import synchronise
from tests.experiments.training.steps import CUDA, batch_of, stepper_of
from utils.settings import TrainSettings

def mean_loss(joined):
    stepper = stepper_of(CUDA, {"drop_path": 0.0})
    if joined:
        synchronise(stepper.state.model)
        stepper = Stepper(stepper.state, stepper.loss, TrainSettings(batch_size=8))
    for seed in range(3):
        stepper.step(batch_of(8, seed))
    stepper.read()
    return stepper.state.mean_losses()["total"]

alone = mean_loss(False)
dist.init_process_group("cpu:gloo,cuda:nccl", rank=0, world_size=1, store=dist.HashStore())
joined = mean_loss(True)
dist.destroy_process_group()
assert abs(joined - alone) < 1e-3 * alone, (joined, alone)
"""
    environment = {**os.environ, "LOCAL_RANK": "0"}
    command = [sys.executable, "-c", script]
    ended = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
