"""Resources of the Ray engine's workers, and the tasks that they receive."""

from collections.abc import Sequence
from dataclasses import dataclass

from scoring.defaults import is_shard
from utils.errors import UserError

BATCHES_PER_TASK = 8  # at most: little to repeat after a crash, little to wait for at the end
TASKS_PER_WORKER = 4  # at least, so that all workers finish together


@dataclass(frozen=True)
class WorkerPlan:
    """Resources of each worker.

    Args:
        workers: Maximum number of workers.
        gpus: GPUs per worker, 1 or 0.
        cpus: Cores that Ray reserves per worker.
        threads: Number of torch threads, and of decoding threads.
    """

    workers: int
    gpus: int
    cpus: int
    threads: int


def plan_workers(machines: Sequence[tuple[int, int]], device: str, workers: int | None) -> WorkerPlan:
    """Divide the cores and GPUs of a cluster among workers.

    Args:
        machines: Cores and GPUs of each machine.
        device: `cpu`, `cuda`, or `auto`, which uses GPUs if there are any.
        workers: Requested number; None: one per GPU, else one per core.

    Raises:
        UserError: The cluster does not have enough cores or GPUs.
    """
    cores, gpus = (sum(numbers) for numbers in zip(*machines, strict=True))
    if device == "cuda" and not gpus:
        raise UserError("--device: cuda, but the Ray cluster has no GPU; omit it")
    use_gpus = device != "cpu" and gpus > 0
    available, resource = (gpus, "GPUs") if use_gpus else (cores, "cores")
    if workers is not None and workers > available:
        raise UserError(
            f"--workers: {workers} workers, but the Ray cluster has {available} {resource}; each worker needs one"
        )
    number = workers or max(available, 1)
    if use_gpus:  # Ray reserves one core, so that no GPU is idle because its machine has too few cores
        return WorkerPlan(
            number, 1, 1, max(1, min(machine_cores // count for machine_cores, count in machines if count))
        )
    threads = max(1, min(cores // number, max(machine_cores for machine_cores, _ in machines)))
    return WorkerPlan(number, 0, threads, threads)


def split_tasks(sources: Sequence[str], batch_size: int, workers: int) -> list[list[str]]:
    """Split the work into tasks of several batches of images, or of one shard."""
    images = [source for source in sources if not is_shard(source)]
    size = max(1, min(BATCHES_PER_TASK * batch_size, -(-len(images) // (workers * TASKS_PER_WORKER))))
    tasks = [images[start : start + size] for start in range(0, len(images), size)]
    return tasks + [[source] for source in sources if is_shard(source)]
