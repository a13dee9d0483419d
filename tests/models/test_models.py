"""The builder, the structure of the network and its variants."""

import copy

import pytest
import torch
from timm.layers import DropPath as TimmDropPath
from torch import nn
from transformers import CvtConfig, CvtModel

from models import build_model
from models.cvt import DropPath, Mlp
from models.official import from_huggingface
from models.weights import load_exactly
from utils.errors import UserError
from utils.settings import ModelSettings


class QuickGelu(nn.Module):
    def forward(self, x):
        return x * torch.sigmoid(1.702 * x)


def nano(**changes):
    return build_model(ModelSettings(backbone="cvt_nano", **changes))


def test_release_network_has_the_published_size():
    with torch.device("meta"):
        model = build_model()
    assert sum(parameter.numel() for parameter in model.backbone.parameters()) == 31_236_928
    assert [len(stage.blocks) for stage in model.backbone.stages] == [1, 4, 16]
    assert model.algorithmic[0].weight.shape == (640, 640)


def test_cvt_13_is_shallower():
    with torch.device("meta"):
        model = build_model(ModelSettings(backbone="cvt_13"))
    assert [len(stage.blocks) for stage in model.backbone.stages] == [1, 2, 10]


@pytest.mark.parametrize("memory", ["full", "short", "long", "none"])
def test_every_parameter_gets_a_gradient(memory):
    model = nano(memory=memory, memory_weight=0.5).train()
    dos = model(torch.randn(3, 3, 32, 48))
    (dos * torch.arange(1.0, 6)).sum().backward()
    without = [name for name, parameter in model.named_parameters() if parameter.grad is None]
    # in `long`, s is v itself; nothing is left unused in any variant
    assert without == []
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())


@pytest.mark.parametrize("memory", ["full", "short", "long", "none"])
def test_memory_variants_predict_differently_and_sum_to_one(memory):
    torch.manual_seed(0)
    model = nano(memory=memory, memory_weight=0.5).eval()
    features = torch.rand(2, sum(model.backbone.widths))
    dos = model.logits(features).softmax(1)
    torch.testing.assert_close(dos.sum(1), torch.ones(2))
    algorithmic = model.algorithmic(nn.functional.normalize(features)).softmax(1)
    assert torch.equal(dos, algorithmic) == (memory == "none")


def test_memory_weight_moves_from_one_path_to_the_other():
    model = nano().eval()
    features = torch.rand(2, 224)
    model.memory_weight = 1.0
    torch.testing.assert_close(model.logits(features), model.memory(features))
    model.memory_weight = 0.0
    torch.testing.assert_close(model.logits(features), model.algorithmic(nn.functional.normalize(features)))


@pytest.mark.parametrize(("stages", "width"), [((1,), 32), ((1, 3), 160), ((2,), 64), ("all", 224)])
def test_stages_feed_the_head_and_unread_ones_are_not_built(stages, width):
    model = nano(stages=stages)
    assert model.algorithmic[0].in_features == width
    assert len(model.backbone.stages) == (3 if stages == "all" else max(stages))
    assert model(torch.rand(2, 3, 32, 32)).shape == (2, 5)


def test_number_of_bins():
    model = build_model(ModelSettings(backbone="cvt_nano"), num_bins=9)
    assert model(torch.rand(2, 3, 32, 32)).shape == (2, 9)


def test_drop_path_grows_over_the_last_stage_and_acts_per_sample():
    model = build_model(ModelSettings(drop_path=0.3))
    rates = [block.drop_path.drop_prob for stage in model.backbone.stages for block in stage.blocks]
    assert rates[:5] == [0.0] * 5
    assert rates[5:] == pytest.approx([0.02 * index for index in range(16)])
    dropped = DropPath(0.5).train()(torch.ones(4000, 2))
    assert set(dropped.unique().tolist()) == {0.0, 2.0}
    assert torch.equal(dropped[:, 0], dropped[:, 1])
    branch = torch.rand(8, 3, 4)
    torch.manual_seed(0)
    ours = DropPath(0.3).train()(branch)
    torch.manual_seed(0)
    assert torch.equal(ours, TimmDropPath(0.3).train()(branch))


def test_initialisation():
    torch.manual_seed(0)
    plain, xavier = build_model(), build_model(ModelSettings(init="xavier"))
    weight = plain.backbone.stages[2].blocks[0].mlp.fc1.weight
    assert weight.std().item() == pytest.approx(0.02, rel=0.02)
    bound = (6 / (384 + 1536)) ** 0.5
    assert 0.99 * bound < xavier.backbone.stages[2].blocks[0].mlp.fc1.weight.abs().max().item() <= bound
    assert plain.backbone.stages[2].blocks[0].mlp.fc1.bias.abs().max() == 0
    head = plain.algorithmic[0]  # keeps PyTorch's own initialisation
    assert 0.9 * 640**-0.5 < head.weight.abs().max().item() <= 640**-0.5
    assert head.bias.abs().max() > 0


@torch.no_grad()
def test_backbone_agrees_with_transformers():
    torch.manual_seed(0)
    oracle = CvtModel(CvtConfig(depth=[1, 4, 16])).eval()
    exact = [module for module in oracle.modules() if isinstance(getattr(module, "activation", None), nn.Module)]
    assert len(exact) == 21
    for module in exact:  # exact GELU there, QuickGELU in CvT
        module.activation = QuickGelu()
    for name, buffer in oracle.named_buffers():
        if "running" in name:
            buffer.uniform_(0.5, 1.5)
    model = build_model().eval()
    load_exactly(model.backbone, from_huggingface(oracle.state_dict()), "transformers")
    images = torch.randn(2, 3, 70, 90)
    expected = oracle(images, output_hidden_states=True).hidden_states
    for ours, theirs in zip(model.backbone(images), expected, strict=True):
        torch.testing.assert_close(ours, theirs, atol=2e-5, rtol=1e-4)


@torch.no_grad()
def test_score_of_an_image_does_not_depend_on_its_batch():
    model = nano().eval()
    images = torch.randn(3, 3, 32, 32)
    torch.testing.assert_close(model(images)[1:2], model(images[1:2]))


@torch.no_grad()
def test_bfloat16_keeps_norms_in_float32():
    model = nano().eval()
    images = torch.randn(2, 3, 32, 32)
    with torch.autocast("cpu", torch.bfloat16):
        low = model(images)
    torch.testing.assert_close(low.float(), model(images), atol=0.02, rtol=0)


@pytest.mark.parametrize(
    "name",
    ["resnet18", "vit_tiny_patch16_224", "convnext_atto", "swin_tiny_patch4_window7_224", "mobilevit_xxs"],
)
def test_timm_backbones_take_other_sizes(name):
    model = build_model(ModelSettings(backbone=f"timm:{name}")).eval()
    assert model.algorithmic[0].in_features == sum(model.backbone.widths)
    images = torch.randn(2, 3, 128, 128)
    assert [grid.shape[1] for grid in model.backbone(images)] == list(model.backbone.widths)
    assert model(images).shape == (2, 5)


@pytest.mark.parametrize("name", ["resnet18", "efficientnet_lite0", "convnext_atto"])
def test_convolutional_timm_backbones_run_channels_last(name):
    """Maps stay channels-last throughout; names and values do not change."""
    torch.manual_seed(0)
    backbone = build_model(ModelSettings(backbone=f"timm:{name}")).backbone
    plain = copy.deepcopy(backbone.model).to(memory_format=torch.contiguous_format).eval()
    assert all(parameter.is_contiguous() for parameter in plain.parameters())
    seen = []
    for module in backbone.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_pre_hook(
                lambda layer, arguments: seen.append(
                    all(x.is_contiguous(memory_format=torch.channels_last) for x in (arguments[0], layer.weight))
                )
            )
    images = torch.randn(2, 3, 64, 64)
    sum(grid.square().mean() for grid in backbone.train()(images)).backward()
    assert seen
    assert all(seen)
    assert all(
        parameter.grad.stride() == parameter.stride()
        for parameter in backbone.parameters()
        if parameter.grad is not None
    )
    backbone.model.load_state_dict(plain.state_dict())  # of either format into either
    plain.load_state_dict(backbone.model.state_dict())
    assert backbone.model.state_dict().keys() == plain.state_dict().keys()
    with torch.no_grad():
        for ours, theirs in zip(backbone.eval()(images), plain(images), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
    assert all(seen)


@torch.no_grad()
@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "swin_tiny_patch4_window7_224"])
def test_transformers_of_timm_stay_as_they_are(name):
    backbone = build_model(ModelSettings(backbone=f"timm:{name}")).backbone.eval()
    images = torch.randn(1, 3, 128, 128)
    seen = images * backbone.slope + backbone.shift  # normalised as these weights need it
    assert all(parameter.is_contiguous() for parameter in backbone.parameters())
    maps = [grid.permute(0, 3, 1, 2) if name.startswith("swin") else grid for grid in backbone.model(seen)]
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(backbone(images), maps, strict=True))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"backbone": "cvt21"}, "did you mean 'cvt_21'"),
        ({"backbone": "timm:resnet51"}, "has no model 'resnet51'"),
        ({"backbone": "cvt_nano", "stages": (2, 4)}, "stages 1 to 3"),
        ({"backbone": "timm:resnet18", "stages": (6,)}, "stages 1 to 5"),
        ({"backbone": "timm:resnet18", "init": "xavier"}, "xavier is for CvT"),
    ],
)
def test_what_cannot_be_built_is_said(settings, message):
    with pytest.raises(UserError, match=message):
        build_model(ModelSettings(**settings))


def test_the_mlp_is_quick_gelu_between_linear_layers():
    mlp = Mlp(6).double()
    tokens = 4 * torch.randn(2, 5, 6, dtype=torch.double, generator=torch.Generator().manual_seed(0))
    results = []
    for function in (mlp, lambda x: mlp.fc2(QuickGelu()(mlp.fc1(x)))):
        leaf = tokens.clone().requires_grad_()
        value = function(leaf)
        results.append((value, *torch.autograd.grad(value.square().sum(), [leaf, *mlp.parameters()])))
    for ours, written_out in zip(*results, strict=True):
        torch.testing.assert_close(ours, written_out, rtol=1e-10, atol=1e-10)
