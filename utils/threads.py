"""Threads: how many cores this process may use, and how its threads wait. Imports nothing heavy.

Threads of OpenMP spin while they wait for each other. If another process keeps a core busy, they wait for a thread that
does not run, and everything is ten times slower or worse. `utils` therefore sets OMP_WAIT_POLICY to `passive` before
torch is imported, unless the user has set it; on an idle machine this costs nothing, see docs/PERFORMANCE.md.
"""

import math
import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from threading import Event

from utils.cgroups import GROUP_FILE, ROOT, control_groups

_forked = Event()  # set in processes for which `use_one_thread_after_fork` was called


def wait_passively() -> None:
    """Let threads of OpenMP sleep while they wait; has an effect only before torch is imported."""
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")


def usable_cores(group_file: Path = GROUP_FILE, root: Path = ROOT) -> int:
    """Return the number of cores that this process may use, by its affinity and the CPU quota of its control groups.

    Args:
        group_file: File that lists the control groups, see `utils.cgroups`.
        root: Folder of the control groups.
    """
    affinity = getattr(os, "sched_getaffinity", None)  # not on macOS and Windows
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    return min([cores, *map(math.ceil, _quotas(group_file, root))])


def _quotas(group_file: Path, root: Path) -> Iterator[float]:
    """Yield the CPU quota of each control group, in cores."""
    for group in control_groups("cpu", group_file, root):
        with suppress(OSError, ValueError):  # not visible here, or without a limit: `max`, or -1 in version 1
            if (group / "cpu.max").exists():
                quota, period = map(int, (group / "cpu.max").read_text().split())
            else:
                quota, period = (int((group / f"cpu.cfs_{name}_us").read_text()) for name in ("quota", "period"))
            if quota > 0:
                yield quota / period


def set_threads(count: int | None) -> None:
    """Set the number of threads that torch computes with on the CPU.

    Args:
        count: Number of threads; None for torch's own number, which respects OMP_NUM_THREADS, but no more than
            `usable_cores`.
    """
    import torch  # noqa: PLC0415, a slow import

    torch.set_num_threads(count or min(torch.get_num_threads(), usable_cores()))


@cache  # registers once
def use_one_thread_after_fork() -> None:
    """Let processes forked from this one compute on one thread.

    Fork copies only the calling thread: OpenMP would wait forever for the others.
    """
    if hasattr(os, "register_at_fork"):  # not on Windows
        os.register_at_fork(after_in_child=_use_one_thread)


def is_limited_to_one_thread() -> bool:
    """Return whether this process was forked and would wait forever on more than one thread."""
    return _forked.is_set()


def _use_one_thread() -> None:
    _forked.set()
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)
