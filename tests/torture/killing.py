"""Processes that are sent a signal at a moment that a number decides, and what they were doing then.

A moment is either a time, so that signals fall everywhere, or a change of a file, so that they fall into every write.
"""

import functools
import mmap
import os
import pkgutil
import re
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import numpy as np

from tests.processes import Ended, run_processes
from utils.script import INTERRUPTED

SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
CHANGES = ("os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.truncate", "shutil.rmtree")  # Python's audit events
LATER = 0.004  # seconds after a change of a file in which the signal is sent at most: about as long as a write takes
SECONDS = 240  # after which a process counts as hanging
ALONE = 15  # seconds in which loader workers notice that their parent has died; torch looks every 5
GO, READY, PHASE, SENT, COUNT, FIELDS = range(6)  # what a process shares with this one
AFTER_END = "after the end"


@dataclass(frozen=True)
class Moment:
    """When a signal is sent.

    Attributes:
        number: The signal.
        seconds: Time after the start, or after the change of a file.
        change: Number of the change of a file, from 1, at which process 0 sends the signal; None: at a time.
        victim: Index of the process that is sent it; None: all, and their children, as by a terminal or cluster.
    """

    number: signal.Signals
    seconds: float
    change: int | None = None
    victim: int | None = 0


@dataclass(frozen=True)
class Run:
    """What became of processes: how each ended, and of the first the phase at the signal, time and changes of files."""

    ended: list[Ended]
    phase: str
    seconds: float
    changes: int

    @property
    def statuses(self) -> set[int]:
        return {process.status for process in self.ended}

    @property
    def text(self) -> str:
        return "".join(process.out + process.err for process in self.ended)


def draw_moments(number: int, seconds: float, changes: int, count: int = 1) -> list[Moment]:
    """Return the signals of an attempt: one to the first run, and in a third of the attempts more to those that resume.

    Args:
        number: Number of the attempt.
        seconds: Duration of the run.
        changes: Number of changes of files in it; 0: they are not known.
        count: Number of processes.
    """
    rng = np.random.default_rng(number)
    moments = []
    for index in range(1 + rng.choice(3, p=(0.7, 0.2, 0.1))):
        kind = SIGNALS[(number + index) % len(SIGNALS)]
        victim = None if rng.integers(2) else int(rng.integers(count))
        if changes and (number // len(SIGNALS) + index) % 2:
            later = rng.choice((0, rng.uniform(0, LATER)))
            moments.append(Moment(kind, float(later), int(rng.integers(1, changes + 1)), victim and 0))
        else:
            moments.append(Moment(kind, float(rng.uniform(0, 0.95 * seconds)), None, victim))
    return moments


def killed(
    function: Callable[[], int],
    folder: Path,
    phases: Mapping[str, str],
    moment: Moment | None = None,
    count: int = 1,
) -> Run:
    """Run a script's `main` in processes that are forked from this one, and send a signal.

    Args:
        function: Returns an exit status.
        folder: Folder of which changes are counted.
        phases: Names of phases by the function that they are in, such as `main.set_up`.
        moment: When the signal is sent; None: not at all.
        count: Number of processes, as torchrun starts them.
    """
    shared = np.frombuffer(mmap.mmap(-1, 8 * FIELDS * count), np.int64).reshape(count, FIELDS)
    begun = 0.0
    for place in phases:
        pkgutil.resolve_name(place)  # imported here, once

    def child() -> int:
        _prepare(shared[int(os.environ["RANK"])], folder, phases, moment)
        return function()

    def attack(processes: Sequence[BaseProcess]) -> None:
        nonlocal begun
        for process in processes:
            os.setpgid(process.pid, processes[0].pid)
        wait(lambda: shared[:, READY].all() or not all(process.is_alive() for process in processes))
        shared[:, GO] = 1
        begun = time.monotonic()
        if moment is not None and moment.change is None:
            processes[0].join(moment.seconds)
            if processes[0].is_alive():
                shared[0, SENT] = 1 + shared[0, PHASE]
                send(moment, processes[0].pid, processes[moment.victim or 0].pid)
        _end_as_launcher(processes)
        wait(lambda: not members(processes[0].pid), ALONE, "a process is left")

    with tempfile.TemporaryDirectory() as logs:
        ended = run_processes(child, Path(logs), count, SECONDS, attack)
        seconds = time.monotonic() - begun
    phase = ["between", *dict.fromkeys(phases.values())][shared[0, SENT] - 1] if shared[0, SENT] else AFTER_END
    return Run(ended, phase, seconds, int(shared[0, COUNT]))


def wait(condition: Callable[[], Any], seconds: float = SECONDS, what: str = "a process does not start") -> None:
    """Wait until a condition holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.01)


def send(moment: Moment, group: int, process: int) -> None:
    """Send the signal of a moment to a process or to its group."""
    if moment.victim is None:
        os.killpg(group, moment.number)
    else:
        os.kill(process, moment.number)


def check(run: Run, moment: Moment | None, finished: int) -> None:
    """Check how processes ended.

    Args:
        run: The processes.
        moment: When they were sent a signal.
        finished: Exit status of a run that is not interrupted.
    """
    said = len(re.findall("^interrupted", run.text, re.MULTILINE))  # parallel splits say it after their number
    if moment is not None and moment.number == signal.SIGKILL:
        others = {1, INTERRUPTED} if len(run.ended) > 1 else set()  # they notice it, or the launcher tells them first
        allowed = {-signal.SIGKILL, *others}
        assert run.statuses <= allowed or run.statuses == {finished}, f"status {run.statuses} after {moment}"
    elif moment is not None:
        statuses = f"status {run.statuses} after {moment}: {run.text[-300:]}"
        assert run.statuses <= {INTERRUPTED, finished}, statuses  # of several processes some may have finished
        assert said == (INTERRUPTED in run.statuses), f"interrupted is said {said} times after {moment}"
    else:
        assert run.statuses == {finished}, f"status {run.statuses} at the end: {run.text[-300:]}"
        assert said == 0, run.text
    for word in ("Traceback", "Exception ignored"):
        assert word not in run.text, f"{word} in {run.phase} after {moment}: {run.text[-2000:]}"


def survived(run: Callable[[bool, Moment | None], Run], moments: Sequence[Moment], finished: int) -> str:
    """Start something, send the signals of the moments, resume it to the end; return the phase that the first one hit.

    Args:
        run: Starts it, or resumes it if the first argument is true, and sends a signal.
        moments: When signals are sent, each to the next process.
        finished: Exit status at the end.
    """
    phases = []
    for index, moment in enumerate(moments):
        result = run(index > 0, moment)
        check(result, moment, finished)
        phases.append(result.phase)
    check(run(True, None), None, finished)
    return phases[0]


def members(group: int) -> list[int]:
    """Return the living processes of a process group."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it has ended since
            state, _, own = path.read_text().rpartition(")")[2].split()[:3]
            found += [int(path.parent.name)] if int(own) == group and state != "Z" else []
    return found


def _prepare(own: np.ndarray, folder: Path, phases: Mapping[str, str], moment: Moment | None) -> None:
    """Prepare a process: it counts changes of files, tells its phase, and waits until all are ready."""
    signal.signal(signal.SIGINT, signal.getsignal(signal.SIGTERM))  # a shell's background ignores it
    os.fsync = lambda _: None  # is for a loss of power
    for place, name in phases.items():
        _mark(place, 1 + [*dict.fromkeys(phases.values())].index(name), own)
    sys.addaudithook(functools.partial(_count, own, str(folder), moment if os.environ["RANK"] == "0" else None))
    own[READY] = 1
    wait(lambda: own[GO])


def _mark(place: str, phase: int, own: np.ndarray) -> None:
    owner, _, name = place.rpartition(".")
    owner = pkgutil.resolve_name(owner)
    function = getattr(owner, name)

    @functools.wraps(function)
    def marked(*arguments, **options):
        before, own[PHASE] = own[PHASE], phase
        result = function(*arguments, **options)
        own[PHASE] = before
        return result

    setattr(owner, name, marked)


def _count(own: np.ndarray, folder: str, moment: Moment | None, event: str, arguments: tuple) -> None:
    """Count a change of a file, and send the signal if it is the one."""
    changes = event in CHANGES or (event == "open" and isinstance(arguments[2], int) and arguments[2] & WRITING)
    if not changes or not str(arguments[0]).startswith(folder):
        return
    own[COUNT] += 1
    if moment is None or own[COUNT] != moment.change:
        return

    def now() -> None:
        own[SENT] = 1 + own[PHASE]
        send(moment, os.getpgrp(), os.getpid())

    if moment.seconds == 0:
        now()
    else:
        threading.Timer(moment.seconds, now).start()


def _end_as_launcher(processes: Sequence[BaseProcess]) -> None:
    """Wait for the end; once a process has failed, end the others as torchrun does."""
    told = False

    def ended() -> bool:
        nonlocal told
        alive = [process for process in processes if process.is_alive()]
        if not told and any(process.exitcode for process in processes):
            told = True
            for process in alive:
                process.terminate()
        return not alive

    wait(ended, SECONDS, "a process does not end")
