"""Loaders whose order and augmentation depend on seed and position alone, and the life of their workers."""

import os
import signal
from collections.abc import Iterator
from threading import Thread
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from datasets.dataset import Key, collate
from utils.distributed import rank, world
from utils.errors import UserError

LARGEST_SEED = 2**63 - 1
AHEAD = 4  # batches that each worker reads before they are asked for: 14 MB each at 32 images of 384 pixels


class SeededSampler(Sampler[Key]):
    """Yields (index, seed of its augmentation); a pure function of (seed, epoch), from any position on.

    So an interrupted epoch goes on exactly where it was, and the number of loader workers changes nothing. Of several
    processes each takes its share of that one order, so that together they see what one would.

    Args:
        length: Number of items.
        seed: Of order and augmentation.
        shuffle: Whether the order is random.
        together: Of so many items, one after the other, each process takes an equal part in order, and an incomplete
            group at the end is left out; None: of all items, as equal a part as can be.
    """

    def __init__(self, length: int, seed: int, shuffle: bool, together: int | None = None):
        self.length = length
        self.seed = seed
        self.shuffle = shuffle
        self.together = together
        self.epoch = 0
        self.start = 0

    def set_position(self, epoch: int, start: int = 0) -> None:
        """Where the next pass begins: `start` is counted in images, of all processes."""
        self.epoch, self.start = epoch, start

    def __len__(self) -> int:
        return len(self._share())

    def __iter__(self) -> Iterator[Key]:
        entropy = np.random.SeedSequence([self.seed, self.epoch]).generate_state(1, np.uint64)[0]
        generator = torch.Generator().manual_seed(int(entropy) & LARGEST_SEED)
        order = torch.randperm(self.length, generator=generator) if self.shuffle else torch.arange(self.length)
        seeds = torch.randint(LARGEST_SEED, (self.length,), generator=generator)
        share = self._share()
        yield from zip(order[share].tolist(), seeds[share].tolist(), strict=True)

    def _share(self) -> Tensor:
        """Positions in the order that this process takes: all from `start` on, where it is alone."""
        positions = torch.arange(self.start, self.length)
        if world() == 1:
            return positions
        if self.together is None:
            return positions.tensor_split(world())[rank()]
        groups = positions[: len(positions) // self.together * self.together].view(
            -1, world(), self.together // world()
        )
        return groups[:, rank()].flatten()  # (groups, processes, share) -> (groups * share,)


def make_loader(
    dataset: Dataset,
    batch_size: int,
    workers: int,
    seed: int = 0,
    train: bool = False,
    pin_memory: bool = False,
    together: int | None = None,
) -> DataLoader:
    """Batches of `dataset`. In training shuffled, the last incomplete batch dropped, as the release does.

    Args:
        dataset: Items by key.
        batch_size: Images; in training over all processes.
        workers: Processes that read, 0 for none.
        seed: Of order and augmentation.
        train: Whether for training.
        pin_memory: Whether batches are to be copied to a GPU.
        together: In training, how many images of a batch go through the network at once; None: all.
    """
    sampler = SeededSampler(len(dataset), seed, shuffle=train, together=(together or batch_size) if train else None)
    return DataLoader(
        dataset,
        batch_size=batch_size // world() if train else batch_size,
        sampler=sampler,
        drop_last=train,
        num_workers=workers,
        persistent_workers=workers > 0,
        prefetch_factor=AHEAD if workers else None,
        pin_memory=pin_memory,
        generator=torch.Generator(),  # else every pass would draw from the default generator, which a resume restores
        collate_fn=collate,
        worker_init_fn=_leave_signals_to_parent,
    )


def batches(loader: DataLoader) -> Iterator[dict[str, Any]]:
    """The batches of a pass, on the CPU.

    `image` (B, 3, H, W), uint8, `mos`, `sos`, `database` (B,), `dos` (B, K), `name` list of B paths.

    Raises:
        UserError: An image that cannot be read.
    """
    for batch in loader:
        if isinstance(batch, UserError):
            raise batch
        yield batch


def _leave_signals_to_parent(_worker: int) -> None:
    """Terminals, torchrun and clusters interrupt workers, too, whose parent wants to finish its step."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "sigwaitinfo"):  # not on Windows, nor on macOS
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        Thread(target=_end_with_parent, args=(os.getppid(),), daemon=True).start()


def _end_with_parent(parent: int) -> None:
    """Ends this process once its parent asks for it; what others ask is left to the parent."""
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != parent:
        pass
    os._exit(0)
