"""Memory as messages state it, and where it does not suffice."""

import os
import platform
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.running import ROOT
from utils.errors import MachineError, UserError
from utils.memory import available_memory, enough_memory, left_in_groups, peak_memory


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried"),
        RuntimeError("MPS backend out of memory (MPS allocated: 1 GB)"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
        MemoryError(),
    ],
)
def test_too_little_memory_says_the_next_step(error):
    with (
        pytest.raises(MachineError, match=r"^out of memory \(.+\); buy a larger one$"),
        enough_memory("buy a larger one"),
    ):
        raise error


def test_another_error_is_left_as_it_is():
    with pytest.raises(RuntimeError, match="shapes") as caught, enough_memory(""):
        raise RuntimeError("shapes cannot be multiplied")
    assert not isinstance(caught.value, UserError)


@pytest.mark.slow
def test_the_peak_of_memory_is_that_of_this_process_alone():
    block = np.ones(500_000_000, np.uint8)
    assert available_memory() > 10**8
    assert peak_memory() >= 500_000_000
    command = "from utils.memory import peak_memory; print(peak_memory())"
    child = subprocess.run([sys.executable, "-c", command], cwd=ROOT, capture_output=True, text=True, check=True)
    assert 50_000_000 < int(child.stdout) < peak_memory()
    assert len(block) == 500_000_000


@pytest.mark.parametrize(
    ("line", "folder", "limit", "used", "cached"),
    [
        ("0::/a/job", "", "memory.max", "memory.current", "inactive_file"),
        ("4:memory:/a/job", "memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    ],
)
def test_the_limits_of_containers_and_jobs_count(line, folder, limit, used, cached, tmp_path):
    """Of the job and of the groups that it is in; what the system keeps of files is given back."""

    def write(group: Path, most: str, held: int, of_files: int) -> None:
        group.mkdir(parents=True, exist_ok=True)
        (group / limit).write_text(f"{most}\n")
        (group / used).write_text(f"{held}\n")
        (group / "memory.stat").write_text(f"anon 1\n{cached} {of_files}\n")

    root, groups = tmp_path / "cgroup", tmp_path / "groups"
    groups.write_text(f"5:cpu,cpuacct:/a\n{line}\n")
    assert list(left_in_groups(groups, root)) == []
    write(root / folder / "a" / "job", "1000", 700, 50)
    write(root / folder / "a", "max", 900, 0)
    write(root / folder, "5000", 2000, 100)
    assert list(left_in_groups(groups, root)) == [350, 3100]
    write(root / folder / "a" / "job", "1000", 1100, 0)
    assert list(left_in_groups(groups, root)) == [0, 3100]
    assert list(left_in_groups(tmp_path / "not there", root)) == []


FAULTS = """
import resource, sys
import torch
from utils.memory import keep_freed_memory
if sys.argv[1] == "keep":
    keep_freed_memory()
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(200_000_000, dtype=torch.uint8)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
faults()
print(min(faults() for _ in range(20)))  # it takes a few until a free block fits
"""


@pytest.mark.slow
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")
@pytest.mark.parametrize(
    ("argument", "variables", "kept"),
    [("keep", {}, True), ("", {}, False), ("keep", {"MALLOC_MMAP_THRESHOLD_": "100000"}, False)],
)
def test_freed_memory_is_kept_unless_the_user_says_otherwise(argument, variables, kept):
    """An allocation of 200 MB finds its pages, or the system has to clear all 49,000 of them again."""
    command = [sys.executable, "-c", FAULTS, argument]
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, **variables}, capture_output=True, text=True, check=True
    )
    assert (int(done.stdout) < 100) == kept
