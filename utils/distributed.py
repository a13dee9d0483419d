"""Functions for training in several processes started by torchrun; with one process they change nothing.

All processes run the same code in step, so results computed from shared data agree. Only process 0 writes and prints.
"""

import functools
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

Item = TypeVar("Item")

TORCHRUN_VARIABLES = {"RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"}


def started_by_launcher() -> bool:
    """Return whether torchrun or a similar launcher started this process as one of several."""
    return os.environ.keys() >= TORCHRUN_VARIABLES and os.environ["WORLD_SIZE"] != "1"


def is_distributed() -> bool:
    """Return whether several processes have joined."""
    return dist.is_available() and dist.is_initialized()


def world() -> int:
    """Return the number of processes."""
    return dist.get_world_size() if is_distributed() else 1


def rank() -> int:
    """Return the index of this process."""
    return dist.get_rank() if is_distributed() else 0


def local_rank() -> int:
    """Return the index of this process on its machine."""
    return int(os.environ["LOCAL_RANK"]) if is_distributed() else 0


def is_main() -> bool:
    """Return whether this is process 0, which writes."""
    return rank() == 0


def sum_over_processes(values: Tensor) -> Tensor:
    """Return the sum of a tensor over all processes, without gradient."""
    if is_distributed():
        values = values.detach().clone()
        dist.all_reduce(values)
    return values


def any_process(flag: bool) -> bool:
    """Return whether the flag is set in any process."""
    return bool(sum_over_processes(torch.tensor(int(flag))).item()) if is_distributed() else flag


def barrier() -> None:
    """Wait until every process reaches this point."""
    any_process(False)


def gathered(items: Sequence[Item]) -> list[Item]:
    """Return the items of all processes, ordered by process; their numbers may differ."""
    if not is_distributed():
        return list(items)
    lists: list[Any] = [None] * world()
    dist.all_gather_object(lists, list(items))
    return [item for process_items in lists for item in process_items]


def broadcast_from_main(value: Item) -> Item:
    """Return the value of process 0 in every process, such as data from a disk that others see later."""
    if not is_distributed():
        return value
    box = [value]
    dist.broadcast_object_list(box, src=0)
    return box[0]


def main_process_only(write: Callable[..., None]) -> Callable[..., None]:
    """Decorate a function that writes, so that only process 0 runs it while the others wait.

    A decorated function must not call another one, for which the others do not wait.
    """

    @functools.wraps(write)
    def wrapper(*arguments: Any, **named: Any) -> None:
        if is_main():
            write(*arguments, **named)
        barrier()

    return wrapper


@contextmanager
def in_turns() -> Iterator[None]:
    """Run process 0 first, then one process per other machine, then the rest, which find the files already written."""
    turn = 0 if is_main() else 1 if local_rank() == 0 else 2
    for _ in range(turn):
        barrier()
    yield
    for _ in range(2 - turn):
        barrier()


def local_shard(batch: Tensor) -> Tensor:
    """Return this process's rows of a batch; all processes have equally many, in order."""
    if not is_distributed():
        return batch
    rows = len(batch) // world()
    return batch[rank() * rows : (rank() + 1) * rows]
