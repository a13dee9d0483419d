"""Splits of a run side by side: each in a process of its own, on a GPU of its own or with its share of the cores."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Lock, Thread
from typing import TextIO

import torch

from experiments.failures import Failures
from experiments.training.setup import SplitRun, try_set_up
from utils.config import dump_config
from utils.errors import UserError
from utils.files import write_text
from utils.runtime import Interruption, pick_device
from utils.settings import Config

KEY = "protocol.parallel_splits"
MAIN = Path(__file__).resolve().parents[2] / "main.py"
INTERRUPTED = 130  # how main.py ends then
POLL = 0.1  # seconds

Environment = dict[str, str]


def run_side_by_side(runs: list[SplitRun], device: torch.device, resume: bool, overwrite: bool) -> bool:
    """Runs these splits in processes of their own; False where they were interrupted."""
    config, first = runs[0].config, runs[0].folder
    environments = environments_of(config, min(config.protocol.parallel_splits, len(runs)))
    interruption = runs[0].interruption
    with interruption.at_once():
        try_set_up(runs[0], device, resume)
    if interruption.requested:
        return False
    if overwrite:
        with first.lock():
            first.delete_other_splits()
            first.delete()
    return run_processes(config, [run.number for run in runs], environments, resume, interruption)


def environments_of(config: Config, count: int) -> list[Environment]:
    """What tells each of `count` processes at a time which GPU is its own, or how many threads it may use.

    Raises:
        UserError: Not a GPU for each, or memory that would be needed for each.
    """
    if any(member.cache == "ram" for member in config.dataset):
        raise UserError(f"{KEY}: {count} processes would each hold a copy of dataset.cache=ram; use disk, or none")
    device = pick_device(config.train.device)
    if device.type == "cpu":
        return [{"OMP_NUM_THREADS": str(max(1, torch.get_num_threads() // count))}] * count
    if device.index is not None:
        raise UserError(f"{KEY}: {count} splits at a time cannot share {device}; set train.device to auto")
    gpus = _visible_gpus() if device.type == "cuda" else [""]
    if count > len(gpus):
        raise UserError(
            f"{KEY}: {count} splits at a time need a GPU each, and {len(gpus)} can be seen; set {KEY}={len(gpus)}"
        )
    return [{"CUDA_VISIBLE_DEVICES": gpu} for gpu in gpus[:count]]


def _visible_gpus() -> list[str]:
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    numbers = [str(number) for number in range(torch.cuda.device_count())]
    return [name.strip() for name in named.split(",")][: len(numbers)] if named else numbers


def run_processes(
    config: Config,
    numbers: Sequence[int],
    environments: Sequence[Environment],
    resume: bool,
    interruption: Interruption,
) -> bool:
    """Runs these splits by `main.py --split`, as many at a time as there are environments.

    What they print goes on under the number of the split. One that fails does not stop the others.

    Args:
        config: Of the run.
        numbers: Of splits.
        environments: From `environments_of`.
        resume: Whether to go on with what is there.
        interruption: Interrupts all of them, once each, so that they save.

    Returns:
        False where they were interrupted.

    Raises:
        UserError: Some have failed, each with its reason.
    """
    waiting, free, failures = deque(numbers), deque(environments), Failures(collecting=True)
    with _running() as running, tempfile.TemporaryDirectory(prefix="richiqa_") as folder:
        file = Path(folder) / "config.yaml"
        write_text(file, dump_config(config))
        told = False
        while running or (waiting and not interruption.requested):
            while waiting and free and not interruption.requested:
                running.append(_Split(waiting.popleft(), file, resume, free.popleft()))
            for split in [split for split in running if split.ended()]:
                running.remove(split)
                free.append(split.environment)
                with failures.collected(f"split {split.number}"):
                    interruption.requested |= split.was_interrupted()
            if interruption.requested and not told:
                told = True
                for split in running:
                    split.process.send_signal(signal.SIGINT)
            time.sleep(POLL)
    if interruption.requested:
        return False
    failures.require_none(len(numbers), "splits")
    return True


@contextmanager
def _running() -> Iterator[list["_Split"]]:
    """The processes under way; what ends this one in between ends them."""
    running: list[_Split] = []
    try:
        yield running
    finally:
        for split in running:
            split.process.kill()


class _Split:
    """One split in a process of its own."""

    def __init__(self, number: int, config: Path, resume: bool, environment: Environment):
        self.number = number
        self.environment = environment
        self.last_line = ""
        command = [sys.executable, str(MAIN), "--config", str(config), "--split", str(number)]
        with _signals_that_wait():
            self.process = subprocess.Popen(
                [*command, *(["--resume"] if resume else [])],
                env={**os.environ, **environment, "PYTHONUNBUFFERED": "1"},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                errors="replace",
                start_new_session=True,  # Ctrl-C of a terminal reaches this process alone, which passes it on once
            )
        streams = ((self.process.stdout, "stdout"), (self.process.stderr, "stderr"))
        self.readers = [Thread(target=self._pass_on, args=of_one, daemon=True) for of_one in streams]
        for reader in self.readers:
            reader.start()

    def ended(self) -> bool:
        """Whether it has ended and all it said is passed on."""
        return self.process.poll() is not None and not any(reader.is_alive() for reader in self.readers)

    def was_interrupted(self) -> bool:
        """Whether it saved because it was asked to; otherwise it has finished.

        Raises:
            UserError: It has failed.
        """
        status = self.process.returncode
        if status < 0:  # it could not say why; its last line may be about its progress
            said = f" (its last line: {self.last_line})" if self.last_line else ""
            raise UserError(f"its process was ended by signal {-status}{said}")
        if status not in (0, INTERRUPTED):
            raise UserError(self.last_line.removeprefix("error: ") or f"its process ended with status {status}")
        return status == INTERRUPTED

    def _pass_on(self, lines: TextIO, stream: str) -> None:
        for line in lines:
            text = line.rstrip()
            if stream == "stderr" and text:
                self.last_line = text
            with _SPEAKING:
                print(f"split {self.number} | {text}", file=getattr(sys, stream), flush=True)


_SPEAKING = Lock()  # one line at a time


@contextmanager
def _signals_that_wait() -> Iterator[None]:
    """A process started within it gets none of the signals of `Interruption` until it has set up its own."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, Interruption.SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
