"""Data loaders whose order and augmentation depend only on the seed and the position in training."""

import errno
import os
import shutil
import signal
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Thread
from types import TracebackType
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from datasets.dataset import Key, collate, damaged_rows
from utils.distributed import rank, world
from utils.errors import MachineError, UserError, one_line

LARGEST_SEED = 2**63 - 1
PREFETCH = 4  # batches per worker: 14 MB each at 32 images of 384 pixels
SHARED_MEMORY = "/dev/shm"  # of Linux; workers pass their batches through it
IN_USE = 2  # batches that the network takes, and that are replaced
LABEL_BYTES = 4 * 4096  # of the labels of a batch, a page each
ENLARGE = "docker run --shm-size=2g or --ipc=host makes room"
SIGNAL_DELAY = 1  # seconds: a lost worker's connections are closed before its parent hears of its end
NO_MORE = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN)  # files, memory or processes


class SeededSampler(Sampler[Key]):
    """Sampler of pairs (index, augmentation seed) that depend only on seed and epoch.

    An interrupted epoch can therefore be continued exactly, and the number of loader workers does not matter. Several
    processes divide the same order among them, so that together they see what a single process would.

    Args:
        length: Number of items.
        seed: Seed of order and augmentation.
        shuffle: Whether the order is random.
        together: Number of consecutive items that the processes divide equally; an incomplete group at the end is
            dropped. None divides all items at once, as equally as possible.
        damaged: Number of items in each group, over all processes, that also come damaged: see `damaged_rows`.
    """

    def __init__(self, length: int, seed: int, shuffle: bool, together: int | None = None, damaged: int = 0):
        self.length = length
        self.seed = seed
        self.shuffle = shuffle
        self.together = together
        self.damaged = damaged
        self.epoch = 0
        self.start = 0

    def set_position(self, epoch: int, start: int = 0) -> None:
        """Set where the next pass begins.

        Args:
            epoch: Number of the epoch.
            start: Number of images to skip, over all processes.
        """
        self.epoch, self.start = epoch, start

    def __len__(self) -> int:
        return len(self._share())

    def __iter__(self) -> Iterator[Key]:
        entropy = np.random.SeedSequence([self.seed, self.epoch]).generate_state(1, np.uint64)[0]
        generator = torch.Generator().manual_seed(int(entropy) & LARGEST_SEED)
        order = torch.randperm(self.length, generator=generator) if self.shuffle else torch.arange(self.length)
        seeds = torch.randint(LARGEST_SEED, (self.length,), generator=generator)
        share = self._share()
        size = (self.together or self.length) // world()  # 0 for fewer images than processes, which are evaluated
        damaged = damaged_rows(size, self.damaged // world())
        for place, (index, drawn) in enumerate(zip(order[share].tolist(), seeds[share].tolist(), strict=True)):
            yield Key(index, drawn, bool(damaged) and place % size in damaged)

    def _share(self) -> Tensor:
        """Return the positions in the order that this process takes; a single process takes all from `start` on."""
        positions = torch.arange(self.start, self.length)
        if world() == 1:
            return positions
        if self.together is None:
            return positions.tensor_split(world())[rank()]
        complete = positions[: len(positions) // self.together * self.together]
        groups = complete.view(-1, world(), self.together // world())
        return groups[:, rank()].flatten()  # (groups, processes, share) -> (groups * share,)


def make_loader(
    dataset: Dataset,
    batch_size: int,
    workers: int,
    seed: int = 0,
    train: bool = False,
    pin_memory: bool = False,
    together: int | None = None,
    damaged: int = 0,
    image_bytes: int = 0,
) -> DataLoader:
    """Return a loader of a dataset. In training it shuffles and drops the last incomplete batch, as the release does.

    Where shared memory is small, fewer workers load fewer batches ahead, with a warning.

    Args:
        dataset: Dataset whose keys are those of `SeededSampler`.
        batch_size: Number of images; in training over all processes.
        workers: Number of loader processes; 0 loads in this process.
        seed: Seed of order and augmentation.
        train: Whether the loader is for training.
        pin_memory: Whether to use pinned memory, for copies to a GPU.
        together: In training, number of images that go through the network at once; None for the whole batch.
        damaged: In training, number of these that also come damaged.
        image_bytes: Size of one image in a batch.
    """
    own_batch = batch_size // world() if train else batch_size
    groups = {"together": together or batch_size, "damaged": damaged} if train else {}
    sampler = SeededSampler(len(dataset), seed, shuffle=train, **groups)
    images = own_batch + (2 * damaged * own_batch // (together or batch_size) if train else 0)
    workers, ahead = _fit_shared_memory(workers, images * image_bytes + LABEL_BYTES)
    return DataLoader(
        dataset,
        batch_size=own_batch,
        sampler=sampler,
        drop_last=train,
        num_workers=workers,
        persistent_workers=workers > 0,
        prefetch_factor=ahead if workers else None,
        pin_memory=pin_memory,
        generator=torch.Generator(),  # keeps passes from drawing from the default generator, which a resume restores
        collate_fn=collate,
        worker_init_fn=_start_worker,
    )


def batches(loader: DataLoader) -> Iterator[dict[str, Any]]:
    """Yield the batches of a pass, on the CPU.

    A batch has `image` (B, 3, H, W), uint8; `mos`, `sos` and `database` (B,); `dos` (B, K); `name`, a list of B paths.

    Raises:
        UserError: An image cannot be read.
    """
    for batch in loader:
        if isinstance(batch, UserError):
            raise batch
        yield batch


@contextmanager
def worker_errors() -> Iterator[None]:
    """Turn what the system does to loader workers into errors of one line.

    A worker that is killed raises an error in whatever the main process does, so that this is for more than the loop.

    Raises:
        MachineError: A worker was killed, or there is too little shared memory, or no more files or processes.
    """
    try:
        try:
            yield
        except (RuntimeError, OSError, EOFError) as error:
            if _connection_lost(error):
                time.sleep(SIGNAL_DELAY)  # ended by the error that the signal of a worker's death raises
            raise
    except UserError:
        raise
    except (RuntimeError, OSError, EOFError) as error:
        text = f"{error} {error.__cause__ or error.__context__ or ''}"
        if "shared memory" in text:  # also where a worker is killed by a bus error
            raise MachineError(
                f"the loader workers have too little shared memory ({SHARED_MEMORY} has {_megabytes()}): use "
                f"train.workers=0 or a smaller train.batch_size, or enlarge it ({ENLARGE}); --resume continues a "
                "training from what is saved"
            ) from error
        if ("DataLoader worker" in text and "Caught" not in text) or _connection_lost(error):
            raise MachineError(
                f"a loader worker has died, most often for lack of memory or open files ({one_line(error, 120)}): use "
                "fewer train.workers or a smaller train.batch_size, or raise the limit (ulimit -n); --resume continues "
                "a training from what is saved"
            ) from error
        if "Too many open files" in text or (isinstance(error, OSError) and error.errno in NO_MORE):
            raise MachineError(
                f"the system allows no more open files, processes or memory ({one_line(error, 120)}): use fewer "
                "train.workers, or raise the limit (ulimit -n, ulimit -u); --resume continues a training from "
                "what is saved"
            ) from error
        raise


def _connection_lost(error: BaseException) -> bool:
    return isinstance(error, (ConnectionError, EOFError)) or "ancdata" in str(error)


def _fit_shared_memory(workers: int, batch: int) -> tuple[int, int]:
    """Return how many workers load how many batches of so many bytes ahead each, as far as shared memory allows."""
    if workers == 0 or not os.path.isdir(SHARED_MEMORY):
        return workers, PREFETCH
    room = max(shutil.disk_usage(SHARED_MEMORY).free // world() // batch - IN_USE, 0)
    if room >= workers * PREFETCH:
        return workers, PREFETCH
    fewer, ahead = min(workers, room), max(room // workers, 1)
    warnings.warn(
        f"shared memory is small ({SHARED_MEMORY} has {_megabytes()}): {fewer} instead of {workers} workers load "
        f"{ahead} instead of {PREFETCH} batches ahead each; {ENLARGE}",
        stacklevel=3,
    )
    return fewer, ahead


def _megabytes() -> str:
    return f"{shutil.disk_usage(SHARED_MEMORY).total / 1e6:.0f} MB" if os.path.isdir(SHARED_MEMORY) else "nothing"


def _start_worker(_worker: int) -> None:
    """Leave signals to the parent, and lost connections, too: the parent reports why they were lost."""
    sys.excepthook = _hide_lost_connection
    _leave_signals_to_parent()


def _hide_lost_connection(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if not issubclass(kind, (EOFError, ConnectionError)):
        sys.__excepthook__(kind, error, trace)


def _leave_signals_to_parent() -> None:
    """Ignore interrupts in a loader worker, since terminals and clusters send them to all processes.

    The parent handles the signal, and needs its workers to finish the step.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "sigwaitinfo"):  # not available on Windows and macOS
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        Thread(target=_end_with_parent, args=(os.getppid(),), daemon=True).start()


def _end_with_parent(parent: int) -> None:
    """End this process on SIGTERM from its parent; SIGTERM from others is ignored."""
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != parent:
        pass
    os._exit(0)
