"""Train several splits of a run at the same time, each in its own process, on its own GPU or share of the CPU cores."""

import os
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from threading import Lock, Thread
from typing import TextIO

import torch

from experiments.failures import Failures
from experiments.training.setup import SplitRun, set_up
from models.weights import load_pretrained
from utils.config import dump_config
from utils.errors import UserError
from utils.files import delete_folder, temporary_folder, write_text
from utils.runtime import Interruption, pick_device
from utils.settings import Config

KEY = "protocol.parallel_splits"
MAIN = Path(__file__).resolve().parents[2] / "main.py"
INTERRUPTED = 130  # exit status of main.py
POLL = 0.1  # seconds

Environment = dict[str, str]


def run_in_parallel(runs: list[SplitRun], device: torch.device, resume: bool, overwrite: bool) -> bool:
    """Run these splits in separate processes; return False if they were interrupted."""
    config, first = runs[0].config, runs[0].folder
    environments = process_environments(config, min(config.protocol.parallel_splits, len(runs)))
    interruption = runs[0].interruption
    with interruption.at_once():
        model, *_ = set_up(runs[0], device)  # finds mistakes before anything is deleted, and fills a disk cache once
        if not resume:
            load_pretrained(model, config.model)
    if interruption.requested:
        return False
    if overwrite:
        with first.lock():
            first.delete_other_splits()
            delete_folder(first.path)
    return run_processes(config, [run.number for run in runs], environments, resume, interruption)


def process_environments(config: Config, count: int) -> list[Environment]:
    """Return the environment variables that give each of `count` processes its GPU or number of threads.

    Raises:
        UserError: There are fewer GPUs than processes, or each process would need its own copy of a cache.
    """
    if any(member.cache == "ram" for member in config.dataset):
        raise UserError(f"{KEY}: {count} processes would each need a copy of dataset.cache=ram; use disk or none")
    device = pick_device(config.train.device)
    if device.type == "cpu":
        return [{"OMP_NUM_THREADS": str(config.train.threads or max(1, torch.get_num_threads() // count))}] * count
    if device.index is not None:
        raise UserError(f"{KEY}: {count} splits at a time cannot share {device}; set train.device to auto")
    gpus = _visible_gpus() if device.type == "cuda" else [""]
    if count > len(gpus):
        raise UserError(
            f"{KEY}: {count} splits at a time need {count} GPUs, and {len(gpus)} are visible; set {KEY}={len(gpus)}"
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
    """Run splits with `main.py --split`, as many at a time as there are environments.

    Their output is printed with the number of the split. A split that fails does not stop the others.

    Args:
        config: Config of the run.
        numbers: Numbers of the splits.
        environments: From `process_environments`.
        resume: Whether to continue splits that were started.
        interruption: On request, each process is interrupted once, so that it saves.

    Returns:
        False if the splits were interrupted.

    Raises:
        UserError: Some splits failed; the message has the reason for each.
    """
    pending, free, failures = deque(numbers), deque(environments), Failures(collecting=True)
    running: list[_Split] = []
    with temporary_folder() as folder, ExitStack() as stack:
        stack.callback(lambda: [split.process.kill() for split in running])  # those that an error leaves running
        file = folder / "config.yaml"
        write_text(file, dump_config(config))
        forwarded = False
        while running or (pending and not interruption.requested):
            while pending and free and not interruption.requested:
                running.append(_Split(pending.popleft(), file, resume, free.popleft()))
            for split in [split for split in running if split.ended()]:
                running.remove(split)
                free.append(split.environment)
                with failures.collect(f"split {split.number}"):
                    interruption.requested |= split.was_interrupted()
            if interruption.requested and not forwarded:
                forwarded = True
                for split in running:
                    split.process.send_signal(signal.SIGINT)
            time.sleep(POLL)
    if interruption.requested:
        return False
    failures.raise_any(len(numbers), "splits")
    return True


class _Split:
    """One split in its own process."""

    def __init__(self, number: int, config: Path, resume: bool, environment: Environment):
        self.number = number
        self.environment = environment
        self.last_line = ""
        command = [sys.executable, str(MAIN), "--config", str(config), "--split", str(number)]
        with _blocked_signals():
            self.process = subprocess.Popen(
                [*command, *(["--resume"] if resume else [])],
                env={**os.environ, **environment, "PYTHONUNBUFFERED": "1"},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                errors="replace",
                start_new_session=True,  # Ctrl-C in a terminal reaches only this process, which forwards it once
            )
        streams = ((self.process.stdout, "stdout"), (self.process.stderr, "stderr"))
        self.readers = [Thread(target=self._print_lines, args=stream, daemon=True) for stream in streams]
        for reader in self.readers:
            reader.start()

    def ended(self) -> bool:
        """Return whether the process has ended and all its output was printed."""
        return self.process.poll() is not None and not any(reader.is_alive() for reader in self.readers)

    def was_interrupted(self) -> bool:
        """Return whether the process saved on request; otherwise it has finished.

        Raises:
            UserError: The process failed.
        """
        status = self.process.returncode
        if status < 0:  # killed, so its last line may be about its progress
            last = f" (its last line: {self.last_line})" if self.last_line else ""
            raise UserError(f"its process was ended by signal {-status}{last}")
        if status not in (0, INTERRUPTED):
            raise UserError(self.last_line.removeprefix("error: ") or f"its process ended with status {status}")
        return status == INTERRUPTED

    def _print_lines(self, lines: TextIO, stream: str) -> None:
        for line in lines:
            text = line.rstrip()
            if stream == "stderr" and text:
                self.last_line = text
            with _PRINT_LOCK:
                print(f"split {self.number} | {text}", file=getattr(sys, stream), flush=True)


_PRINT_LOCK = Lock()  # one line at a time


@contextmanager
def _blocked_signals() -> Iterator[None]:
    """Block the signals of `Interruption` in a process started in the block until it handles them."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, Interruption.SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
