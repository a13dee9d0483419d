"""The machine and its memory as results and messages state them."""

import subprocess
import sys
from importlib import metadata

import numpy as np
import pytest
import torch

from tests.running import ROOT
from utils.errors import MachineError, UserError
from utils.runtime import available_memory, enough_memory, environment, peak_memory


def test_the_machine_is_the_one_computed_on(monkeypatch):
    names = {"cuda:0": "first GPU", "cuda:1": "second GPU"}
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device="cuda:0": names[str(device)])
    assert environment(torch.device("cuda:1"))["machine"] == "second GPU"
    assert "GPU" not in environment(torch.device("cpu"))["machine"]
    for package in ("torch", "scipy", "pandas"):
        assert environment(torch.device("cpu"))[package] == metadata.version(package)


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


def test_the_peak_of_memory_is_that_of_this_process_alone():
    block = np.ones(500_000_000, np.uint8)
    assert available_memory() > 10**8
    assert peak_memory() >= 500_000_000
    command = "from utils.runtime import peak_memory; print(peak_memory())"
    child = subprocess.run([sys.executable, "-c", command], cwd=ROOT, capture_output=True, text=True, check=True)
    assert 50_000_000 < int(child.stdout) < peak_memory()
    assert len(block) == 500_000_000
