"""The Dataset, one or several joined, and loaders whose order and augmentation depend on seed and position alone."""

import math
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from threading import Thread
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler, default_collate, get_worker_info

from datasets.cache import Pictures
from datasets.labels import Record
from datasets.transforms import Transform, seeded
from utils.distributed import rank, world
from utils.errors import UserError

LARGEST_SEED = 2**63 - 1
ALIGNMENT = 64  # bytes, as torch's own memory: kernels may round otherwise elsewhere
AHEAD = 4  # batches that each worker reads before they are asked for: 14 MB each at 32 images of 384 pixels

Key = tuple[int, int]  # index of a record, seed of its augmentation
Read = Callable[[], dict[str, Any] | UserError]


class IQADataset(Dataset):
    """Items `{image (3, H, W), mos (), sos (), dos (K,), database (), name}`, labels float32 in units of the scale.

    `image` is uint8; `datasets.transforms.to_images` makes the network's input of it, on the network's device.
    `name` is the path of the image below the root.

    Args:
        pictures: From the path of an image to its picture.
        records: Which images.
        transform: From PIL to (3, H, W), uint8.
        database: Number of the database, for `database` of the items, int64.
        reversed_bins: Whether `dos` goes from the highest score to the lowest.
    """

    def __init__(
        self,
        pictures: Pictures,
        records: Sequence[Record],
        transform: Transform,
        database: int = 0,
        reversed_bins: bool = False,
    ):
        self.pictures = pictures
        self.images = [record.image for record in records]
        self.mos = torch.tensor([record.mos for record in records], dtype=torch.float32)  # (N,)
        self.sos = torch.tensor([record.sos for record in records], dtype=torch.float32)  # (N,)
        dos = torch.tensor(np.array([record.dos for record in records]), dtype=torch.float32)  # (N, K)
        self.dos = dos.flip(1) if reversed_bins else dos
        self.database = torch.tensor(database)
        self.transform = transform

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, key: Key) -> dict[str, Tensor | str] | UserError:
        index, seed = key
        try:
            image = self.pictures(self.images[index])
        except UserError as error:  # returned, since a loader's worker would turn what is raised into a traceback
            return error
        return {
            "image": seeded(self.transform, image, seed),  # (3, H, W)
            "mos": self.mos[index],
            "sos": self.sos[index],
            "dos": self.dos[index],  # (K,)
            "database": self.database,
            "name": self.images[index],
        }


class JoinedDataset(Dataset):
    """Several datasets one after the other."""

    def __init__(self, parts: Sequence[IQADataset]):
        self.parts = parts
        self.ends = np.cumsum([len(part) for part in parts])

    def __len__(self) -> int:
        return int(self.ends[-1])

    def __getitem__(self, key: Key) -> dict[str, Tensor | str] | UserError:
        index, seed = key
        part = int(np.searchsorted(self.ends, index, side="right"))
        return self.parts[part][index - int(self.ends[part]) + len(self.parts[part]), seed]


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
    dataset: IQADataset | JoinedDataset,
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
        _Unread(dataset),
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


class _Unread(Dataset):
    """A dataset whose batches are lists of functions, each of which reads one item."""

    def __init__(self, dataset: IQADataset | JoinedDataset):
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitems__(self, keys: Sequence[Key]) -> list[Read]:
        return [partial(self.dataset.__getitem__, key) for key in keys]


def collate(reads: Sequence[Read]) -> dict[str, Any] | UserError:
    """Reads the items of a batch one by one, each image into its place, so that no second copy of all is held.

    A worker's batch lies in memory that it shares with the parent, which torch's own collation gets.
    """
    images, rest = [], []
    batch = None
    for number, read in enumerate(reads):
        item = read()
        if isinstance(item, UserError):
            return item
        image = item.pop("image")
        rest.append(item)
        if get_worker_info() is not None:
            images.append(image)
            continue
        batch = new_batch(len(reads), image.shape) if batch is None else batch
        batch[number] = image
    return {"image": default_collate(images) if batch is None else batch, **default_collate(rest)}


def new_batch(count: int, shape: Sequence[int]) -> Tensor:
    """Memory of a batch (count, *shape), uint8.

    NumPy asks for huge pages where the system has them, torch does not: the first touch of a batch is then cheaper.
    """
    size = count * math.prod(shape)
    memory = np.empty(size + ALIGNMENT, np.uint8)
    begin = -memory.ctypes.data % ALIGNMENT
    return torch.from_numpy(memory[begin : begin + size]).view(count, *shape)


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
