"""Options of torch's compiler, which depend on the device and the backbone."""

import torch

from models import build_model, compiling
from models.fused import fused_model
from utils.settings import ModelSettings


def options_of(network: torch.nn.Module, monkeypatch, **arguments) -> dict | None:
    """Return what torch's compiler is given for a network."""
    with monkeypatch.context() as patch:
        patch.setattr(compiling.torch, "compile", lambda *_, options, **__: options)
        return compiling.compile_network(network, **arguments)


def test_cvt_on_a_gpu_keeps_its_own_layout(monkeypatch):
    cvt, other = (build_model(ModelSettings(backbone="cvt_nano")) for _ in range(2))
    other.backbone = torch.nn.Identity()
    assert options_of(cvt, monkeypatch) == {"triton.cudagraphs": True}  # not on a GPU
    monkeypatch.setattr(torch.Tensor, "device", torch.device("cuda"))
    assert options_of(other, monkeypatch) == {"triton.cudagraphs": True}
    assert options_of(cvt, monkeypatch) == {"triton.cudagraphs": True, **compiling.CVT_OPTIONS}
    assert options_of(cvt, monkeypatch, replayed=False) == {"triton.cudagraphs": False, **compiling.CVT_OPTIONS}
    monkeypatch.setattr("torch._inductor.list_options", lambda: ["triton.cudagraphs"])
    assert options_of(cvt, monkeypatch) == {"triton.cudagraphs": True}


def test_the_network_for_inference_has_the_same_options(monkeypatch):
    network = fused_model(build_model(ModelSettings(backbone="cvt_nano")).eval())
    monkeypatch.setattr(torch.Tensor, "device", torch.device("cuda"))
    assert options_of(network, monkeypatch) == {"triton.cudagraphs": True, **compiling.CVT_OPTIONS}
