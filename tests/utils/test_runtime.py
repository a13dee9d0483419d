"""The machine and its memory as results and messages state them."""

import sys
from importlib import metadata
from types import ModuleType

import PIL
import pytest
import torch

from utils import runtime
from utils.runtime import PACKAGES, environment


def test_the_machine_is_the_one_computed_on(monkeypatch):
    names = {"cuda:0": "first GPU", "cuda:1": "second GPU"}
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device="cuda:0": names[str(device)])
    assert environment(torch.device("cuda:1"))["machine"] == "second GPU"
    assert "GPU" not in environment(torch.device("cpu"))["machine"]
    for package in ("torch", "scipy", "pandas"):  # what was imported may also say which build it is: 2.11.0+cpu
        assert environment(torch.device("cpu"))[package].split("+")[0] == metadata.version(package).split("+")[0]


@pytest.mark.parametrize("error", [metadata.PackageNotFoundError("pillow"), KeyError("Version")])
def test_a_package_without_metadata_is_no_error(error, monkeypatch):
    """Pillow-SIMD is imported as PIL, and its metadata go by another name; others may be damaged."""

    def missing(_name):
        raise error

    monkeypatch.setattr(metadata, "version", missing)
    versions = environment(torch.device("cpu"))
    assert versions["pillow"] == PIL.__version__
    assert versions["torch"] == torch.__version__
    assert set(PACKAGES) <= versions.keys()


def test_a_package_that_states_no_version_is_unknown(monkeypatch):
    monkeypatch.setattr(runtime, "PACKAGES", {"nameless": "nameless", "absent": "a_module_that_is_not_there"})
    monkeypatch.setitem(sys.modules, "nameless", ModuleType("nameless"))
    versions = environment(torch.device("cpu"))
    assert (versions["nameless"], versions["absent"]) == ("unknown", "unknown")
