"""The most memory that scoring and training hold, ours and the peer's each in a process of its own."""

import json
import subprocess
import sys
from pathlib import Path

import torch
from torch import nn

from benchmarks.inference import SIDE, networks
from benchmarks.rows import Measured
from datasets.scale import RatingScale
from losses import JointLoss
from utils.runtime import peak_memory

ROOT = Path(__file__).resolve().parents[1]
RUNS = 3
BATCH = 8
TRAIN_SIDE = 224  # pixels
MEGABYTE = 2**20
CALL = "import sys; sys.path.insert(0, '.'); from benchmarks.memory import used; print(used(*sys.argv[1:]))"


def measure() -> list[Measured]:
    """`peak_memory_inference` and `peak_memory_train`: beyond what the process holds with the network and no image."""
    rows = [
        ("inference", f"one image of {SIDE} pixels in fp32"),
        ("train", f"a step of {BATCH} images of {TRAIN_SIDE} pixels in fp32"),
        ("checkpointing", f"the same with train.checkpointing, {BATCH} images of {TRAIN_SIDE} pixels"),
    ]
    measured = []
    for name, what in rows:
        pairs = [(_megabytes(name, "ours"), _megabytes(name, "peer")) for _ in range(RUNS)]
        ours, peers = zip(*pairs, strict=True)
        peer_is = "transformers.CvtModel, same head" + ("" if name == "inference" else " and losses")
        measured.append(Measured(f"peak_memory_{name}", f"{what}, beside the network", peer_is, "MB", ours, peers))
    return measured


def _megabytes(task: str, whose: str) -> float:
    command = [sys.executable, "-c", CALL, task, whose]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1]) / MEGABYTE


def used(task: str, whose: str) -> int:
    """Bytes that a task adds to the peak of this process, which holds the networks already."""
    network, fast, peer = networks("fp32", torch.device("cpu"))
    ours = whose == "ours"
    before = peak_memory()
    if task == "inference":
        with torch.inference_mode():
            (fast if ours else peer)(torch.zeros(1, 3, SIDE, SIDE))
    else:
        if ours and task == "checkpointing":
            network.backbone.checkpoint_blocks()
        _step(network if ours else peer)
    return peak_memory() - before


def _step(network: nn.Module) -> None:
    """Forward, loss and backward; what the optimizer keeps is the same for both."""
    network.train().requires_grad_(True)
    scale = RatingScale(1, 5, (1, 2, 3, 4, 5))
    target = {"mos": torch.full((BATCH,), 3.0), "sos": torch.ones(BATCH), "dos": torch.full((BATCH, 5), 0.2)}
    JointLoss(scale)(network(torch.rand(BATCH, 3, TRAIN_SIDE, TRAIN_SIDE)), target)["total"].backward()
