"""Scoring and training beside another process that keeps half of the cores busy, and on the machine as it is.

The peer is the same command with threads that spin while they wait (OMP_WAIT_POLICY=active), as they do by default.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from benchmarks.data import write_photos
from benchmarks.rows import Measured, in_turn
from benchmarks.timing import run_command, seconds
from models import build_model
from utils.checkpoint import save_checkpoint
from utils.settings import Config
from utils.threads import usable_cores

RUNS = 3
PHOTOS = 8
POLICY = "OMP_WAIT_POLICY"


def measure() -> list[Measured]:
    """Measure `beside_others`: CvT-21 on photographs, and an epoch of the demo with its evaluation."""
    with tempfile.TemporaryDirectory() as folder:
        checkpoint, photos, data = (Path(folder) / name for name in ("best.pt", "photos", "demo"))
        photos.mkdir()
        write_photos(photos, PHOTOS)
        config = Config().model_dump(mode="json")
        save_checkpoint(checkpoint, {"model": build_model().state_dict(), "config": config, "scale": config["scale"]})
        score = [sys.executable, "inference.py", str(photos), "--checkpoint", str(checkpoint), "--device", "cpu"]
        settings = ["train.epochs=1", "train.device=cpu", f"dataset.root={data}", f"run.root={folder}/runs"]
        train = [sys.executable, "main.py", *settings, "--overwrite"]
        commands = {"scoring": (f"CvT-21 on {PHOTOS} photographs", score), "training": ("an epoch of the demo", train)}
        rows = []
        for name, (what, command) in commands.items():
            run_command(command)  # warm-up; writes the demo's images
            run = partial(policy_seconds, command)
            alone = [run(None) for _ in range(RUNS)]
            with busy_cores(max(1, usable_cores() // 2)):
                ours, peers = in_turn(partial(run, None), partial(run, "active"), RUNS)
            peer_is = "threads that spin"
            rows += [
                Measured(f"beside_others_{name}", f"{what}, half of the cores busy", peer_is, "s", ours, peers),
                Measured(
                    f"beside_others_{name}_slowdown", f"{what}, nothing else running", "half busy", "s", alone, ours
                ),
            ]
    return rows


def policy_seconds(command: list[str], policy: str | None) -> float:
    """Return the duration of a command with a value of OMP_WAIT_POLICY, or with none."""
    before = os.environ.pop(POLICY, None)
    if policy is not None:
        os.environ[POLICY] = policy
    try:
        return seconds(lambda: run_command(command))
    finally:
        os.environ.pop(POLICY, None)
        if before is not None:
            os.environ[POLICY] = before


@contextmanager
def busy_cores(count: int) -> Iterator[None]:
    """Keep cores busy, each by a process."""
    processes = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
