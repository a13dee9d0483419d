"""Available and peak memory, and errors when memory runs out."""

import ctypes
import gc
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import torch

from utils.cgroups import GROUP_FILE, ROOT, control_groups
from utils.errors import MachineError, one_line

NO_MEMORY = ("out of memory", "not enough memory", "can't allocate memory")  # messages on MPS and CPU
MALLOC = {  # numbers of the parameters in malloc.h, and bytes, of which the first that is accepted is used
    "MALLOC_TRIM_THRESHOLD_": (-1, (2**31 - 1,)),
    "MALLOC_TOP_PAD_": (-2, (2**26,)),
    "MALLOC_MMAP_THRESHOLD_": (-3, (2**31 - 1, 2**25)),  # the second for versions before 2.35, which refuse more
}
SHOWN = 120  # characters of torch's message, which continues with advice on its allocator


GROUP_FILES = (  # of a control group: its limit, its usage, and the key of reclaimable memory in memory.stat
    ("memory.max", "memory.current", "inactive_file"),  # version 2
    ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),  # version 1
)


@contextmanager
def enough_memory(advice: str) -> Iterator[None]:
    """Turn torch's out-of-memory errors into a MachineError with advice."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        full = isinstance(error, (torch.OutOfMemoryError, MemoryError)) or any(text in str(error) for text in NO_MEMORY)
        if not full:
            raise
        raise MachineError(f"out of memory ({one_line(error, SHOWN)}); {advice}") from error


def available_memory() -> int | None:
    """Return the bytes available without swapping and within the limits of a container or cluster job.

    None if the system does not report them.
    """
    free = [_read_bytes("/proc/meminfo", "MemAvailable"), *left_in_groups()]
    return min((count for count in free if count is not None), default=None)


def left_in_groups(group_file: Path = GROUP_FILE, root: Path = ROOT) -> Iterator[int]:
    """Yield the bytes left until the memory limit of each control group of this process, see `utils.cgroups`."""
    for group in control_groups("memory", group_file, root):
        for names in GROUP_FILES:
            yield from _left_in(group, *names)


def _left_in(group: Path, limit_file: str, usage_file: str, cached_key: str) -> Iterator[int]:
    with suppress(OSError, ValueError):  # not visible here, or without a limit
        limit, used = (int((group / name).read_text()) for name in (limit_file, usage_file))
        cached = re.search(rf"^{cached_key} (\d+)$", (group / "memory.stat").read_text(), re.MULTILINE)
        yield max(0, limit - used + (int(cached[1]) if cached else 0))


def peak_memory() -> int | None:
    """Return the peak memory of this process in bytes, or None if the system does not report it."""
    peak = _read_bytes("/proc/self/status", "VmHWM")  # `resource` would include the peak of the parent process
    if peak is not None:
        return peak
    try:
        import resource  # noqa: PLC0415, not on every system
    except ImportError:
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # bytes on macOS, which has no /proc


def _read_bytes(file: str, key: str) -> int | None:
    """Return a number of bytes from a file in /proc, on Linux."""
    try:
        text = Path(file).read_text(encoding="ascii")
    except OSError:
        return None
    found = re.search(rf"^{key}:\s+(\d+) kB$", text, re.MULTILINE)
    return int(found[1]) * 1024 if found else None


def keep_freed_memory() -> None:
    """Let the C library keep what is freed for the next allocation, for the whole process; only with glibc.

    Otherwise each large block is returned to the system and all its pages are cleared when it is allocated again, which
    takes a quarter of the time of a training step of a small convolutional network on a CPU. The variables of MALLOC
    have priority, if they are set in the environment.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    for variable, (parameter, values) in MALLOC.items():
        if mallopt is not None and variable not in os.environ:
            any(mallopt(parameter, value) for value in values)


def release_memory() -> None:
    """Release unused memory, on the GPU as well."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
