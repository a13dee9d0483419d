"""Who does how much: the cores and GPUs of each worker of the Ray engine, and what it is handed at once."""

from collections.abc import Sequence
from dataclasses import dataclass

from scoring.defaults import is_shard
from utils.errors import UserError

BATCHES_A_TASK = 8  # of images: little to repeat after a death, little to wait for at the end
TASKS_A_WORKER = 4  # at least, so that they end together


@dataclass(frozen=True)
class WorkerPlan:
    """What each worker has.

    Args:
        workers: How many there are at most.
        gpus: 1 or 0.
        cpus: Cores that Ray sets aside.
        threads: Of torch, and as many that decode.
    """

    workers: int
    gpus: int
    cpus: int
    threads: int


def plan_workers(machines: Sequence[tuple[int, int]], device: str, workers: int | None) -> WorkerPlan:
    """How cores and GPUs are shared.

    Args:
        machines: Cores and GPUs of each.
        device: `cpu`, `cuda`, or `auto`: GPUs if there are any.
        workers: How many are asked for; None: one a GPU, else one a core.

    Raises:
        UserError: More are asked for than there is room for, or GPUs where there are none.
    """
    cores, gpus = (sum(numbers) for numbers in zip(*machines, strict=True))
    if device == "cuda" and not gpus:
        raise UserError("--device: cuda, but Ray knows of no GPU here; leave it away")
    use_gpus = device != "cpu" and gpus > 0
    room, of_what = (gpus, "GPUs") if use_gpus else (cores, "cores")
    if workers is not None and workers > room:
        raise UserError(f"--workers: {workers} workers, but Ray knows of {room} {of_what}; each needs one")
    number = workers or max(room, 1)
    if use_gpus:  # Ray sets one core aside, so that a GPU is never idle for want of cores on its machine
        return WorkerPlan(number, 1, 1, max(1, min(own_cores // own for own_cores, own in machines if own)))
    threads = max(1, min(cores // number, max(own_cores for own_cores, _ in machines)))
    return WorkerPlan(number, 0, threads, threads)


def tasks_of(sources: Sequence[str], batch_size: int, workers: int) -> list[list[str]]:
    """What is handed out at once: some batches of images, fewer where there are few; or one shard."""
    images = [source for source in sources if not is_shard(source)]
    size = max(1, min(BATCHES_A_TASK * batch_size, -(-len(images) // (workers * TASKS_A_WORKER))))
    tasks = [images[start : start + size] for start in range(0, len(images), size)]
    return tasks + [[source] for source in sources if is_shard(source)]
