"""The network optimised for inference matches the original."""

import pickle
from copy import deepcopy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from experiments.training.precision import use_precision
from models import build_model
from models.fused import PackedLinear, can_pack, fold_batch_norms, fused_model
from models.precision import PrecisionPlan, precision_plan
from utils.errors import UserError
from utils.settings import ModelSettings

BF16 = torch.bfloat16
ACR = torch.arange(1.0, 6.0)
WIDTH = 4  # of the scale 1 to 5
CPU, CUDA = torch.device("cpu"), torch.device("cuda")


def network(**settings):
    """Return a network with random biases, norms and statistics, whose DOS is far from flat."""
    torch.manual_seed(0)
    model = build_model(ModelSettings(**settings)).eval()
    for module in model.modules():
        if isinstance(module, (nn.BatchNorm2d, nn.LayerNorm)):
            nn.init.normal_(module.weight, mean=1, std=0.2)
            nn.init.normal_(module.bias, std=0.2)
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(std=0.2)
            module.running_var.uniform_(0.3, 1.5)
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=module.in_features**-0.5)
            if module.bias is not None:
                nn.init.normal_(module.bias, std=0.2)
    nn.init.normal_(model.algorithmic[1].weight, std=0.5)
    return model


def photographs(batch: int, height: int, width: int) -> torch.Tensor:
    """Return smooth, slightly noisy normalised images (B, 3, H, W) of different contrast."""
    generator = torch.Generator().manual_seed(1)
    coarse = torch.randn(batch, 3, 6, 6, generator=generator)
    smooth = F.interpolate(coarse, (height, width), mode="bicubic")
    noise = 0.1 * torch.randn(batch, 3, height, width, generator=generator)
    return torch.linspace(0.5, 1.5, batch)[:, None, None, None] * (smooth + noise)


@pytest.fixture
def no_bf16(monkeypatch):
    """Simulate a CPU without bfloat16 instructions."""
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)


@pytest.mark.parametrize(
    ("settings", "batch", "size"),
    [
        ({"backbone": "cvt_nano"}, 2, (64, 64)),
        ({"backbone": "cvt_nano"}, 1, (96, 160)),
        ({"backbone": "cvt_nano", "memory": "short", "memory_weight": 0.5}, 3, (70, 90)),
        ({"backbone": "cvt_nano", "memory": "long", "memory_weight": 0.5}, 1, (33, 64)),
        ({"backbone": "cvt_nano", "memory": "none"}, 1, (384, 384)),
        ({"backbone": "cvt_nano", "stages": (1,)}, 2, (64, 64)),
        ({"backbone": "cvt_nano", "stages": (1, 2)}, 2, (64, 64)),
        ({"backbone": "cvt_nano", "stages": (3,)}, 2, (64, 64)),
        ({"backbone": "timm:resnet18"}, 2, (64, 96)),
        ({"backbone": "timm:tf_efficientnet_lite0"}, 2, (96, 64)),
        ({"backbone": "timm:resnetv2_50"}, 1, (64, 64)),  # BatchNorm before the convolution
        ({"backbone": "timm:convnext_atto"}, 1, (64, 64)),  # none
        ({"backbone": "cvt_21"}, 2, (64, 64)),
        ({"backbone": "cvt_21"}, 1, (384, 384)),
    ],
    ids=str,
)
@torch.inference_mode()
def test_float32_is_the_network(settings, batch, size):
    model = network(**settings)
    images = photographs(batch, *size)
    expected = model(images)
    assert expected.std(dim=1).min() > 0.05
    torch.testing.assert_close(fused_model(model)(images), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("backbone", ["cvt_nano", "timm:resnet18"])
@torch.inference_mode()
def test_modes_of_the_caller_change_no_score(backbone):
    model, images = network(backbone=backbone), photographs(2, 64, 64)
    fast = fused_model(model)
    expected = fast(images)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(fast(images), expected)
    model.train()  # its BatchNorm would otherwise count the images, too
    assert torch.equal(fast(images), expected)
    assert torch.equal(fast(images), expected)


@torch.no_grad()
def test_convolutions_hold_their_norms_and_nothing_else_is_doubled():
    model = network(backbone="cvt_nano")
    fast = fused_model(model)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in fast.backbone.modules())
    own = {parameter.data_ptr() for parameter in model.parameters()}
    added = [parameter for parameter in fast.parameters() if parameter.data_ptr() not in own]
    depthwise = [x for name, x in model.named_parameters() if ".conv_" in name and name.endswith("conv.weight")]
    assert len(added) == 2 * len(depthwise)  # weight and bias each
    assert max(parameter.numel() for parameter in added) == max(x.numel() for x in depthwise)


def test_norms_have_the_precision_of_the_tokens():
    """A GPU refuses others."""
    fast = fused_model(network(backbone="cvt_nano"), "bf16")
    norms = [module for module in fast.modules() if isinstance(module, nn.LayerNorm)]
    assert norms
    assert {parameter.dtype for norm in norms for parameter in norm.parameters()} == {BF16}


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_network_itself_is_untouched(precision):
    model = network(backbone="cvt_nano")
    images = photographs(1, 64, 64)
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    modes = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
    expected = model(images)
    with torch.inference_mode():
        fused_model(model, precision)(images)
    assert {name: parameter.requires_grad for name, parameter in model.named_parameters()} == modes
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, state[name]), name
    assert torch.equal(model(images), expected)
    model(images)[0, 0].backward()
    assert model.backbone.stages[0].embedding.conv.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("backbone", ["cvt_nano", "cvt_21"])
@pytest.mark.parametrize("plan", ["bf16", "avx512", "amx"])
@torch.inference_mode()
def test_bfloat16_moves_mos_by_less_than_half_a_percent_of_the_scale(backbone, plan, no_bf16, monkeypatch):  # noqa: ARG001
    if plan != "bf16":
        instructions = {"avx512": "_is_avx512_bf16_supported", "amx": "_is_amx_tile_supported"}
        monkeypatch.setattr(torch.cpu, instructions[plan], lambda: True)
    model = network(backbone=backbone)
    images = photographs(*((4, 96, 96) if backbone == "cvt_nano" else (2, 64, 64)))
    expected = model(images)
    dos = fused_model(model, "bf16" if plan == "bf16" else "auto")(images)
    assert dos.dtype == torch.float32
    moved = ((dos - expected) @ ACR).abs().max().item()
    assert 0 < moved < 0.005 * WIDTH


@pytest.mark.skipif(not can_pack(torch.device("cpu")), reason="oneDNN does not multiply in bfloat16 on this processor")
@pytest.mark.parametrize(
    ("activation", "residual"), [("none", None), ("swish", None), ("none", BF16), ("none", torch.float32)]
)
@torch.inference_mode()
def test_packed_weights_give_the_product_of_plain_ones(activation, residual):
    """And sums in the precision of what is added to; also after a copy by pickle, as in other processes."""
    torch.manual_seed(0)
    x, weight, bias = torch.randn(2, 9, 24), torch.randn(40, 24).to(BF16), torch.randn(40).to(BF16)
    expected = F.linear(x.to(BF16).double(), weight.double(), bias.double())
    expected = F.silu(expected) if activation == "swish" else expected
    added = None if residual is None else torch.randn(2, 9, 40).to(residual)
    expected = expected if added is None else expected + added.double()
    packed = PackedLinear(weight, bias, activation)
    for layer in (packed, pickle.loads(pickle.dumps(packed)), deepcopy(packed)):
        found = layer(x, None if added is None else added.clone())
        assert found.dtype == (residual or BF16)
        torch.testing.assert_close(found.double(), expected, atol=0.02, rtol=0.01)


@torch.inference_mode()
def test_backbones_without_batch_norm_stay_as_they_are():
    model = network(backbone="timm:convnext_atto")
    images = photographs(2, 64, 64)
    assert torch.equal(fused_model(model, "fp32")(images), model(images))
    maps = fused_model(model, "bf16").backbone(images)
    assert {grid.dtype for grid in maps} == {torch.float32}
    moved = ((fused_model(model, "bf16")(images) - model(images)) @ ACR).abs().max().item()
    assert 0 < moved < 0.02 * WIDTH  # of a network without the float32 between the layers that CvT keeps


def test_auto_follows_the_instructions_of_the_machine(no_bf16, monkeypatch):  # noqa: ARG001
    assert precision_plan("auto", CPU) == precision_plan("fp32", CPU) == PrecisionPlan()
    assert precision_plan("auto", torch.device("mps")) == PrecisionPlan()
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True)
    assert precision_plan("auto", CPU) == PrecisionPlan(linear=BF16)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: True)
    assert precision_plan("auto", CPU) == PrecisionPlan(BF16, BF16, BF16, tokens=BF16)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _device: (8, 0))
    assert precision_plan("auto", CUDA) == precision_plan("bf16", CPU) == PrecisionPlan(BF16, BF16, BF16, tokens=BF16)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _device: (7, 5))
    assert precision_plan("auto", CUDA) == PrecisionPlan()
    assert precision_plan("fp16", CUDA) == PrecisionPlan(torch.float16, torch.float16, torch.float16)


def test_plans_in_words():
    words = [
        PrecisionPlan(),
        PrecisionPlan(BF16, BF16, BF16, BF16),
        PrecisionPlan(linear=BF16),
        PrecisionPlan(linear=BF16, attention=BF16),
        PrecisionPlan(BF16, BF16, BF16),
    ]
    assert [plan.describe() for plan in words] == [
        *("fp32", "bf16", "bf16(linear)", "bf16(linear+attention)", "bf16(convolutions+linear+attention)")
    ]
    assert precision_plan("fp16", CUDA).describe() == "fp16"


def test_what_is_refused():
    model = network(backbone="cvt_nano")
    with pytest.raises(UserError, match=r"unknown 'bf61' \(did you mean 'bf16'\?\); allowed: fp32, bf16, fp16, auto"):
        fused_model(model, "bf61")
    with pytest.raises(UserError, match="fp16 needs a CUDA GPU, and this device is cpu; use bf16, fp32 or auto"):
        fused_model(model, "fp16")
    with pytest.raises(ValueError, match="training mode"):
        fused_model(model.train())


@pytest.mark.gpu
@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 1e-5), ("bf16", 0.02), ("fp16", 0.02)])
@torch.inference_mode()
def test_every_precision_on_a_gpu_is_near_the_network_on_the_cpu(precision, tolerance):
    model = network(backbone="cvt_21")
    images = photographs(2, 96, 128)
    expected = model(images)
    with use_precision("fp32", CUDA):
        dos = fused_model(model.to(CUDA), precision)(images.to(CUDA)).cpu()
    torch.testing.assert_close(dos, expected, atol=tolerance, rtol=0)
    moved = ((dos - expected) @ ACR).abs().max() / WIDTH
    assert moved < 0.005


@pytest.mark.parametrize("name", ["resnet18", "tf_efficientnet_lite0"])
@torch.inference_mode()
def test_no_batch_norm_of_a_convolutional_backbone_is_left(name):
    model = network(backbone=f"timm:{name}")
    count = sum(isinstance(module, nn.BatchNorm2d) for module in model.backbone.modules())
    assert not any(isinstance(module, nn.BatchNorm2d) for module in fused_model(model).modules())
    assert sum(isinstance(module, nn.BatchNorm2d) for module in model.backbone.modules()) == count


class ReadTwice(nn.Module):
    """A convolution whose output is normalised, and also added as it is."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4)

    def forward(self, images):
        grid = self.conv(images)
        return [grid + self.norm(grid)]


@torch.inference_mode()
def test_a_convolution_that_is_read_twice_is_left_alone():
    torch.manual_seed(0)
    backbone = ReadTwice().eval()
    backbone.norm.running_var.fill_(4)
    images = torch.randn(2, 3, 20, 20)
    expected = backbone(images)[0]
    fold_batch_norms(backbone)
    assert torch.equal(backbone(images)[0], expected)
    assert isinstance(backbone.norm, nn.BatchNorm2d)
