"""EfficientNet-Lite0 is timm's, without timm."""

import pickle
import subprocess
import sys

import pytest
import timm
import torch
from PIL import Image

from inference import load_predictor
from models import build_model
from models.fused import fused_model
from models.lite0 import NAME, EfficientNetLite0
from models.timm_backbone import TimmBackbone
from models.weights import load_network
from tests.lite import lite_checkpoint
from tests.running import ROOT


def timm_model() -> torch.nn.Module:
    """timm's model with random weights and statistics, in evaluation mode."""
    torch.manual_seed(0)
    model = timm.create_model(NAME, features_only=True).eval()
    for name, buffer in model.named_buffers():
        if "running" in name:
            buffer.uniform_(0.5, 1.5)
    return model


def test_names_and_shapes_are_those_of_timm():
    expected, found = timm_model().state_dict(), EfficientNetLite0().state_dict()
    assert {name: tensor.shape for name, tensor in found.items()} == {n: t.shape for n, t in expected.items()}
    assert EfficientNetLite0().feature_info.channels() == timm_model().feature_info.channels()


@torch.inference_mode()
@pytest.mark.parametrize("size", [(64, 64), (97, 131), (33, 50)])
def test_maps_are_those_of_timm_bit_for_bit(size):
    reference, model = timm_model(), EfficientNetLite0().eval()
    model.load_state_dict(reference.state_dict())
    images = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(0))
    for expected, found in zip(TimmBackbone(reference)(images), TimmBackbone(model)(images), strict=True):
        assert torch.equal(expected, found)
        assert found.is_contiguous(memory_format=torch.channels_last)


@torch.inference_mode()
def test_a_checkpoint_is_the_network_that_was_trained(tmp_path):
    """With pixel statistics other than ImageNet's, which are no part of the weights."""
    network = load_network(lite_checkpoint(tmp_path / "best.pt"))
    trained = build_model(network.config.model).eval()
    trained.load_state_dict(network.model.state_dict())
    assert isinstance(network.model.backbone.model, EfficientNetLite0)
    assert not isinstance(trained.backbone.model, EfficientNetLite0)
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    assert torch.equal(network.model.eval()(images), trained(images))
    own = network.model.state_dict()
    strides = {name: tensor.stride() for name, tensor in trained.state_dict().items()}
    assert {name: tensor.stride() for name, tensor in own.items()} == strides


@torch.inference_mode()
def test_every_batch_norm_is_folded_as_in_the_model_of_timm(tmp_path):
    network = load_network(lite_checkpoint(tmp_path / "best.pt"))
    trained = build_model(network.config.model)
    trained.load_state_dict(network.model.state_dict())
    fused, reference = (fused_model(model.eval()) for model in (network.model, trained))
    assert [type(module).__name__ for module in fused.modules() if isinstance(module, torch.nn.BatchNorm2d)] == []
    images = torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    assert torch.equal(fused(images), reference(images))
    torch.testing.assert_close(fused(images), trained(images), atol=1e-4, rtol=0)


def test_a_predictor_can_be_sent_to_another_process(tmp_path):
    """And gives gradients, in which no activation may have been overwritten."""
    predictor = load_predictor(lite_checkpoint(tmp_path / "best.pt"), "cpu")
    image = Image.new("RGB", (90, 70), "red")
    assert pickle.loads(pickle.dumps(predictor))(image) == predictor(image)
    pixels = torch.rand(1, 3, 90, 70, requires_grad=True)
    predictor.differentiable(pixels).backward()
    assert pixels.grad.abs().max() > 0


def test_without_pixel_statistics_timm_is_asked(tmp_path):
    network = load_network(lite_checkpoint(tmp_path / "best.pt", pixel_mean=None, pixel_std=None))
    assert not isinstance(network.model.backbone.model, EfficientNetLite0)
    assert network.model.backbone.renormalised


def test_scoring_imports_neither_timm_nor_torchvision(tmp_path):
    """Which would take longer than everything else but torch."""
    checkpoint = lite_checkpoint(tmp_path / "best.pt")
    code = (
        "import sys; from inference import load_predictor; from PIL import Image; "
        f"load_predictor({str(checkpoint)!r}, 'cpu')(Image.new('RGB', (50, 60))); "
        "print(sys.modules.keys() & {'timm', 'torchvision', 'torch._dynamo', 'pandas', 'scipy'})"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout == "set()\n", done.stderr
