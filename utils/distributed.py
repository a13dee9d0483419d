"""The processes of one training, as torchrun starts them; where there is one, every function here leaves all as it is.

Every process does the same at the same time, so that what one of them computes from what all share, all have. Process 0
writes and speaks for all.
"""

import functools
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

Item = TypeVar("Item")

BY_TORCHRUN = {"RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"}  # of the environment

_WRITING: ContextVar[bool] = ContextVar("writing", default=False)  # within a function of `main_process_only`


def launched() -> bool:
    """Whether torchrun, or something like it, has started this process as one of several."""
    return os.environ.keys() >= BY_TORCHRUN and os.environ["WORLD_SIZE"] != "1"


def is_distributed() -> bool:
    """Whether several processes have joined."""
    return dist.is_available() and dist.is_initialized()


def world() -> int:
    """Number of processes."""
    return dist.get_world_size() if is_distributed() else 1


def rank() -> int:
    """Number of this process, from 0."""
    return dist.get_rank() if is_distributed() else 0


def local_rank() -> int:
    """Number of this process among those of its machine."""
    return int(os.environ["LOCAL_RANK"]) if is_distributed() else 0


def is_main() -> bool:
    """Whether this is the process that writes."""
    return rank() == 0


def sum_over_processes(values: Tensor) -> Tensor:
    """The sum of a tensor over processes, in each of them; without gradient."""
    if is_distributed():
        values = values.detach().clone()
        dist.all_reduce(values)
    return values


def any_of(flag: bool) -> bool:
    """Whether the flag is set in any process."""
    return bool(sum_over_processes(torch.tensor(int(flag))).item()) if is_distributed() else flag


def barrier() -> None:
    """Waits until every process is here."""
    any_of(False)


def gathered(items: Sequence[Item]) -> list[Item]:
    """The items of all processes, one process after the other, in each of them; any number from each."""
    if not is_distributed():
        return list(items)
    of_processes: list[Any] = [None] * world()
    dist.all_gather_object(of_processes, list(items))
    return [item for of_one in of_processes for item in of_one]


def broadcast_from_main(value: Item) -> Item:
    """What process 0 has, in all: what is read from a disk that others see later, say."""
    if not is_distributed():
        return value
    box = [value]
    dist.broadcast_object_list(box, src=0)
    return box[0]


def main_process_only(write: Callable[..., None]) -> Callable[..., None]:
    """A function that writes, as one that only process 0 runs, while the others wait.

    One of them may call another: nobody waits for that in particular.
    """

    @functools.wraps(write)
    def waiting(*arguments: Any, **named: Any) -> None:
        if _WRITING.get():
            write(*arguments, **named)
            return
        if is_main():
            before = _WRITING.set(True)
            try:
                write(*arguments, **named)
            finally:
                _WRITING.reset(before)
        barrier()

    return waiting


@contextmanager
def in_turns() -> Iterator[None]:
    """Lets process 0 go first, then one of each other machine, then the rest: what the first write, the others find."""
    turn = 0 if is_main() else 1 if local_rank() == 0 else 2
    for _ in range(turn):
        barrier()
    yield
    for _ in range(2 - turn):
        barrier()


def local_shard(of_all: Tensor) -> Tensor:
    """This process's share of the rows of a batch, of which each process has as many, in order."""
    if not is_distributed():
        return of_all
    rows = len(of_all) // world()
    return of_all[rank() * rows : (rank() + 1) * rows]
