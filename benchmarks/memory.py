"""Peak memory of scoring and training, measured for ours and the peer in separate processes."""

import sys

import torch

from benchmarks.data import learnable_batch
from benchmarks.inference import CPU, SIDE
from benchmarks.peer import PEER, networks, trained_networks
from benchmarks.rows import Measured
from benchmarks.timing import run_command
from benchmarks.training import BATCH, build_backward
from benchmarks.training import SIDE as TRAIN_SIDE
from utils.memory import peak_memory

RUNS = 2
KINDS = (("inference", "ours"), ("inference", "peer"), ("train", "ours"), ("train", "peer"), ("checkpointing", "ours"))
MEGABYTE = 2**20
CALL = "import sys; sys.path.insert(0, '.'); from benchmarks.memory import task_peak; print(task_peak(*sys.argv[1:]))"


def measure() -> list[Measured]:
    """Measure `peak_memory_inference`, `_train` and `_checkpointing` of whole processes, with torch and weights."""
    rows = [
        ("inference", f"one image of {SIDE} pixels in fp32", "inference"),
        ("train", f"gradients of {BATCH} images of {TRAIN_SIDE} pixels in fp32", "train"),
        ("checkpointing", "the same with train.checkpointing", "train"),
    ]
    peaks: dict[tuple[str, str], list[float]] = {kind: [] for kind in KINDS}
    for kind in KINDS * RUNS:
        peaks[kind].append(_megabytes(*kind))
    return [
        Measured(f"peak_memory_{task}", what, PEER, "MB", peaks[task, "ours"], peaks[peer_task, "peer"])
        for task, what, peer_task in rows
    ]


def _megabytes(task: str, whose: str) -> float:
    command = [sys.executable, "-c", CALL, task, whose]
    return int(run_command(command).splitlines()[-1]) / MEGABYTE


def task_peak(task: str, whose: str) -> int:
    """Run a task with one of the networks and return the peak memory of this process in bytes."""
    ours = whose == "ours"
    if task == "inference":
        _, fast, peer = networks("fp32", CPU)
        with torch.inference_mode():
            (fast if ours else peer)(torch.zeros(1, 3, SIDE, SIDE))
        return peak_memory()
    network, peer = trained_networks(CPU)
    if ours and task == "checkpointing":
        network.backbone.checkpoint_blocks()
    build_backward(network if ours else peer, learnable_batch(BATCH, TRAIN_SIDE, seed=0))()
    return peak_memory()
