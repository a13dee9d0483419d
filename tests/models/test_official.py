"""Parameter names of the release and of both sources of CvT weights."""

import pytest
import torch

from models import build_model
from models.official import UNUSED, from_cvt, from_official, to_official
from utils.errors import UserError
from utils.settings import ModelSettings


@pytest.fixture(scope="module")
def state():
    torch.manual_seed(0)
    return build_model().state_dict()


def test_round_trip_is_exact(state):
    back = from_official(to_official(state))
    assert list(back) == list(state)
    assert all(torch.equal(back[name], state[name]) for name in state)


def test_release_stores_761_tensors(state):
    complete = to_official(state, complete=True)
    assert len(complete) == 761
    assert set(complete) - set(to_official(state)) == set(UNUSED)


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("fc.weight", (5, 640, 1, 1)),
        ("conv_transform.weight", (256, 640, 1, 1)),
        ("gcn.conv1.weight", (256, 512, 1)),
        ("gcn.long_adj.0.weight", (5, 5, 1)),
        ("net.stage2.blocks.15.attn.conv_proj_k.bn.running_var", (384,)),
        ("net.stage0.patch_embed.proj.weight", (64, 3, 7, 7)),
    ],
)
def test_shapes_are_the_releases(state, name, shape):
    assert to_official(state)[name].shape == shape


def test_completion_follows_bins_and_refuses_variants():
    model = build_model(num_bins=7)
    complete = to_official(model.state_dict(), complete=True)
    assert complete["mask_mat"].shape == (7, 7)
    assert complete["net.head.weight"].shape == (1000, 384)
    variant = build_model(ModelSettings(memory="short"))
    with pytest.raises(UserError, match="the state dict to complete does not fit"):
        to_official(variant.state_dict(), complete=True)


def test_data_parallel_prefix_and_unused_tensors_are_dropped(state):
    released = {f"module.{name}": tensor for name, tensor in to_official(state, complete=True).items()}
    assert set(from_official(released)) == set(state)
    assert set(to_official({f"module.{name}": tensor for name, tensor in state.items()})) == set(to_official(state))


def test_missing_and_left_over_names_are_named(state):
    broken = to_official(state)
    broken["gcn.conv3.weight"] = broken.pop("gcn.conv1.weight")
    with pytest.raises(UserError, match=r"1 missing \(gcn.conv1.weight\); 1 unexpected \(gcn.conv3.weight\)"):
        from_official(broken)


def test_timm_backbone_has_no_counterpart():
    model = build_model(ModelSettings(backbone="timm:resnet18"))
    with pytest.raises(UserError, match="no counterpart"):
        to_official(model.state_dict())


def test_cvt_names_are_the_releases_without_net(state):
    cvt = {
        name.removeprefix("net."): tensor for name, tensor in to_official(state).items() if name.startswith("net.stage")
    }
    cvt |= {"norm.weight": torch.ones(384), "head.bias": torch.zeros(1000)}
    backbone = {name.removeprefix("backbone."): tensor for name, tensor in state.items() if "backbone." in name}
    assert set(from_cvt(cvt)) == set(backbone)
    assert all(torch.equal(tensor, backbone[name]) for name, tensor in from_cvt(cvt).items())


def test_names_that_are_none_of_cvts_are_refused():
    with pytest.raises(UserError, match=r"stage0\.blocks\.0\.attn\.proj_x"):
        from_cvt({"stage0.blocks.0.attn.proj_x.weight": torch.zeros(1)})
