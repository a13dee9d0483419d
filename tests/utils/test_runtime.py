"""The machine and its memory as results and messages state them."""

from importlib import metadata

import torch

from utils.runtime import environment


def test_the_machine_is_the_one_computed_on(monkeypatch):
    names = {"cuda:0": "first GPU", "cuda:1": "second GPU"}
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device="cuda:0": names[str(device)])
    assert environment(torch.device("cuda:1"))["machine"] == "second GPU"
    assert "GPU" not in environment(torch.device("cpu"))["machine"]
    for package in ("torch", "scipy", "pandas"):
        assert environment(torch.device("cpu"))[package] == metadata.version(package)
