"""Loader workers on machines with little shared memory, and workers that the system ends."""

import errno
import os
import signal
import sys
from collections import namedtuple

import pytest
import torch
from torch.utils.data import Dataset

from datasets import loader
from datasets.loader import batches, make_loader, worker_errors
from utils.errors import MachineError, MissingFileError, UserError

needs_signals = pytest.mark.skipif(sys.platform == "win32", reason="workers are ended by signals")
MB = 10**6
Usage = namedtuple("Usage", "total used free")


class Small(Dataset):
    """Four items; a worker that is asked for the last one ends by the signal."""

    def __init__(self, number: int | None = None):
        self.number = number

    def __len__(self) -> int:
        return 4

    def __getitem__(self, key):
        if key[0] == 3 and self.number is not None:
            os.kill(os.getpid(), self.number)
        return {"image": torch.zeros(3, 8, 8, dtype=torch.uint8)}


@pytest.mark.parametrize(
    ("free", "workers", "expected"),
    [
        (1000, 4, (4, 4)),
        (64, 4, (2, 1)),  # what docker gives: four batches of 14 MB, two of which are in use
        (170, 4, (4, 2)),
        (20, 4, (0, 4)),
    ],
)
def test_batches_fit_into_shared_memory(free, workers, expected, tmp_path, monkeypatch, recwarn):
    monkeypatch.setattr(loader, "SHARED_MEMORY", str(tmp_path))
    monkeypatch.setattr(loader.shutil, "disk_usage", lambda _: Usage(64 * MB, 0, free * MB))
    made = make_loader(Small(), 32, workers=workers, image_bytes=3 * 384**2)
    assert (made.num_workers, made.prefetch_factor or 4) == expected
    warned = any(str(warning.message).startswith("shared memory is small") for warning in recwarn)
    assert warned == (expected != (workers, 4))


def test_damaged_images_need_room_in_shared_memory_too(tmp_path, monkeypatch):
    """With two versions of every image, a batch is three times as large: fewer fit."""
    monkeypatch.setattr(loader, "SHARED_MEMORY", str(tmp_path))
    monkeypatch.setattr(loader.shutil, "disk_usage", lambda _: Usage(64 * MB, 0, 170 * MB))
    with pytest.warns(UserWarning, match="shared memory is small"):
        made = make_loader(Small(), 32, workers=4, train=True, damaged=32, image_bytes=3 * 384**2)
    assert made.num_workers == 2  # of four batches of 42 MB, two are in use


def test_a_system_without_the_folder_of_shared_memory_has_enough(tmp_path, monkeypatch):
    monkeypatch.setattr(loader, "SHARED_MEMORY", str(tmp_path / "none"))
    assert make_loader(Small(), 32, workers=3, image_bytes=10**9).num_workers == 3


@needs_signals
@pytest.mark.parametrize(
    ("number", "message"),
    [  # the lost connection to the worker may be noticed before the signal that ended it
        (signal.SIGKILL, "a loader worker has died.*--resume continues"),
        (signal.SIGBUS, "too little shared memory|a loader worker has died"),
    ],
)
def test_a_worker_that_the_system_ends_is_one_line(number, message):
    loaded = make_loader(Small(number), 1, workers=1)
    with pytest.raises(MachineError, match=message) as caught, worker_errors():
        list(batches(loaded))
    assert "\n" not in str(caught.value)


@needs_signals
@pytest.mark.parametrize("lost", [EOFError(), BrokenPipeError(), RuntimeError("received 0 items of ancdata")])
def test_the_signal_of_a_lost_worker_is_awaited(lost):
    """It would otherwise raise an error in whatever runs next, after the line that says what was wrong."""

    def end(_number, _frame):
        raise RuntimeError("DataLoader worker (pid 1) is killed by signal: Killed.")

    before = signal.signal(signal.SIGALRM, end)
    signal.setitimer(signal.ITIMER_REAL, 0.2)
    try:
        with pytest.raises(MachineError, match="is killed by signal"), worker_errors():
            raise lost
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (RuntimeError("unable to allocate shared memory(shm) for file </torch_1>: No space left"), "train.workers=0"),
        (RuntimeError("received 0 items of ancdata"), "a loader worker has died.*ulimit -n"),
        (EOFError(), "a loader worker has died.*ulimit -n"),
        (ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"), "a loader worker has died"),
        (ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused"), "a loader worker has died"),
        (RuntimeError("Too many open files. Communication with the workers is no longer possible"), "no more open"),
        (OSError(errno.EAGAIN, "Resource temporarily unavailable"), "ulimit -u"),
    ],
)
def test_what_the_system_lacks_is_said(error, message, monkeypatch):
    monkeypatch.setattr(loader, "SIGNAL_DELAY", 0)
    with pytest.raises(MachineError, match=message), worker_errors():
        raise error


@pytest.mark.parametrize(
    "error",
    [
        MissingFileError("image a.png does not exist"),
        UserError("no"),
        RuntimeError("Caught IndexError in DataLoader worker process 0."),
        OSError(errno.EACCES, "Permission denied"),
    ],
)
def test_other_errors_stay_what_they_are(error):
    with pytest.raises(type(error)) as caught, worker_errors():
        raise error
    assert caught.value is error
