"""Memory: how much there is, how much was held, and what is said where it does not suffice."""

import gc
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import torch

from utils.errors import MachineError, one_line

NO_MEMORY = ("out of memory", "not enough memory", "can't allocate memory")  # of MPS and of the CPU
OF_TORCH = 120  # characters of torch's text, which goes on with advice on its allocator


@dataclass(frozen=True)
class GroupFiles:
    """Files of a control group's folder; `cached` is the line of memory.stat that says what can be given back."""

    limit: str
    used: str
    cached: str


GROUPS = {
    "": GroupFiles("memory.max", "memory.current", "inactive_file"),  # version 2
    "memory": GroupFiles("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),  # version 1
}


@contextmanager
def enough_memory(advice: str) -> Iterator[None]:
    """What torch says where memory does not suffice, as an error with the next step.

    Raises:
        MachineError: Instead of torch's error.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        full = isinstance(error, (torch.OutOfMemoryError, MemoryError)) or any(text in str(error) for text in NO_MEMORY)
        if not full:
            raise
        raise MachineError(f"out of memory ({one_line(error, OF_TORCH)}); {advice}") from error


def available_memory() -> int | None:
    """Bytes of memory that can be had without swapping, or until a container or a job of a cluster is at its limit.

    None where the system does not say.
    """
    left = [_memory_of("/proc/meminfo", "MemAvailable"), *left_in_groups()]
    return min((free for free in left if free is not None), default=None)


def left_in_groups(of_process: Path = Path("/proc/self/cgroup"), root: Path = Path("/sys/fs/cgroup")) -> Iterator[int]:
    """Bytes until each control group of Linux that this process is in is at its limit, where it has one.

    Args:
        of_process: File that names its groups.
        root: Folder in which the system shows them.
    """
    lines = of_process.read_text().splitlines() if of_process.exists() else []
    for controllers, path in (line.split(":", 2)[1:] for line in lines):
        if controllers in GROUPS:
            files = GROUPS[controllers]
            top = root / controllers
            folder = top / path.lstrip("/")
            for group in (folder, *folder.parents):
                if group.is_relative_to(top):
                    yield from _left_in(group, files)


def _left_in(group: Path, files: GroupFiles) -> Iterator[int]:
    with suppress(OSError, ValueError):  # not shown here; no limit
        limit, used = (int((group / name).read_text()) for name in (files.limit, files.used))
        cached = re.search(rf"^{files.cached} (\d+)$", (group / "memory.stat").read_text(), re.MULTILINE)
        yield max(0, limit - used + (int(cached[1]) if cached else 0))


def peak_memory() -> int | None:
    """The most memory that this process has held, in bytes; None where the system does not tell."""
    peak = _memory_of("/proc/self/status", "VmHWM")  # what `resource` tells begins with the peak of who started us
    if peak is not None:
        return peak
    try:
        import resource  # noqa: PLC0415, not on every system
    except ImportError:
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # bytes on macOS, which has no /proc


def _memory_of(file: str, key: str) -> int | None:
    """Bytes that a file of Linux's /proc states."""
    try:
        text = Path(file).read_text(encoding="ascii")
    except OSError:
        return None
    found = re.search(rf"^{key}:\s+(\d+) kB$", text, re.MULTILINE)
    return int(found[1]) * 1024 if found else None


def release_memory() -> None:
    """Gives back what nothing refers to any more, on the GPU as well."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
