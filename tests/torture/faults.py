"""A disk that fails at a chosen operation, for a script that runs in a forked process."""

import builtins
import errno
import io
import multiprocessing
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from utils.script import run_script

SECONDS = 300  # that a script may take, on a busy machine
GROWING = ("open", "write", "mkdir", "link")  # what a full disk refuses; it still renames and deletes


@dataclass(frozen=True)
class Fault:
    """An error of the operations that change the disk.

    Attributes:
        number: The operation that fails, from 1; 0: none.
        error: Number of the error.
        lasting: Whether those after it fail as well: all on a disk that is read-only, those that take space on one
            that is full.
    """

    number: int
    error: int = errno.EIO
    lasting: bool = False

    def hits(self, number: int, operation: str) -> bool:
        """Return whether an operation fails; a full disk fails at the first that takes space."""
        if not self.number or number < self.number:
            return False
        full = self.error in (errno.ENOSPC, errno.EDQUOT)
        return (self.lasting or number == self.number) and (not full or operation in GROWING)


@dataclass(frozen=True)
class Ended:
    """How a script ended, and what it wrote."""

    status: int
    out: str
    err: str


def run_forked(main: Callable[[], int], folder: Path, before: Callable[[], None] = lambda: None) -> Ended:
    """Run a script's `main` in a process of its own, whose output goes to files in `folder`.

    Args:
        main: Returns the exit status.
        folder: An existing folder.
        before: Called in the process first.
    """
    process = multiprocessing.get_context("fork").Process(target=_run, args=(main, folder, before))
    process.start()
    process.join(SECONDS)
    process.kill()
    process.join()
    out, err = ((folder / name).read_text(errors="replace") for name in ("out", "err"))
    return Ended(process.exitcode, out, err)


def _run(main: Callable[[], int], folder: Path, before: Callable[[], None]) -> None:
    for number, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
        setattr(sys, f"std{name}", open(number, "w", encoding="utf-8", closefd=False))  # noqa: SIM115
    torch.set_num_threads(1)
    before()
    run_script(main)


def install(disk: Path, fault: Fault, count: Path | None = None) -> None:
    """Let operations on files below `disk` fail for the rest of this process.

    Args:
        disk: The folder.
        fault: What fails.
        count: File for the number of operations, kept up to date.
    """
    done = 0

    def tick(operation: str, path: object) -> None:
        nonlocal done
        if not isinstance(path, (str, os.PathLike)) or not Path(os.path.abspath(path)).is_relative_to(disk):
            return
        done += 1
        if count is not None:
            with real_open(count, "w") as file:
                file.write(f"{done} {operation} {path}")
        if fault.hits(done, operation):
            raise OSError(fault.error, os.strerror(fault.error), str(path))

    class Raw(io.FileIO):
        def write(self, data) -> int:
            tick("write", self.name)
            return super().write(data)

        def truncate(self, size=None) -> int:
            tick("write", self.name)
            return super().truncate(size)

    real_open = builtins.open

    def opened(file, mode="r", buffering=-1, encoding=None, errors=None, newline=None, closefd=True, opener=None):
        if isinstance(file, int) or not set(mode) & set("wax+"):
            return real_open(file, mode, buffering, encoding, errors, newline, closefd, opener)
        tick("open", file)
        raw = Raw(file, mode.replace("b", "").replace("t", ""), closefd, opener)
        buffered = io.BufferedRandom(raw) if "+" in mode else io.BufferedWriter(raw)
        return buffered if "b" in mode else io.TextIOWrapper(buffered, encoding, errors, newline)

    builtins.open = io.open = opened
    for name, operation in (
        *(("mkdir", "mkdir"), ("link", "link"), ("replace", "rename"), ("rename", "rename"), ("unlink", "unlink")),
        *(("remove", "unlink"), ("rmdir", "unlink"), ("truncate", "truncate")),
    ):
        setattr(os, name, _ticking(getattr(os, name), operation, tick))
    real_low_open = os.open

    def low_opened(path, flags, *rest, **options):
        if flags & os.O_CREAT:
            tick("open", path)
        return real_low_open(path, flags, *rest, **options)

    os.open = low_opened
    real_fsync = os.fsync

    def synced(descriptor: int) -> None:
        tick("fsync", os.readlink(f"/proc/self/fd/{descriptor}"))
        real_fsync(descriptor)

    os.fsync = synced
    tempfile.tempdir = str(disk)


def _ticking(function: Callable, operation: str, tick: Callable[[str, object], None]) -> Callable:
    def call(path, *rest, **options):
        tick(operation, path)
        return function(path, *rest, **options)

    return call


@contextmanager
def mounted(place: Path, options: str) -> Iterator[None]:
    """Mount a disk in memory at an existing folder.

    Raises:
        PermissionError: This process may not; only root may, and not in every container.
    """
    if os.system(f"mount -t tmpfs -o {options} tmpfs {place} 2>/dev/null"):
        raise PermissionError("this process may not mount a disk")
    try:
        yield
    finally:
        os.system(f"umount -l {place} 2>/dev/null")


def may_mount(place: Path) -> bool:
    """Return whether this process may mount a disk at an existing folder."""
    try:
        with mounted(place, "size=4096"):
            return True
    except PermissionError:
        return False
