"""Weights of timm see the pixels that they were trained on, in every use of the network."""

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from torch import nn

from datasets.transforms import build_test_transform, to_images
from models import build_model, with_pixel_statistics
from models.export_wrapper import ExportedNetwork
from models.fused import fused_model
from utils.config import dump_config, load_config
from utils.errors import UserError
from utils.imagenet import IMAGENET_MEAN, IMAGENET_STD
from utils.settings import ModelSettings, TransformSettings

HALF = (0.5, 0.5, 0.5)


@pytest.fixture(scope="module")
def pixels():
    return np.random.default_rng(0).integers(0, 256, (160, 160, 3), dtype=np.uint8)


def first_input(network, images) -> torch.Tensor:
    """Return what the first convolution receives while the network runs."""
    seen = []
    first = next(module for module in network.modules() if isinstance(module, nn.Conv2d))
    handle = first.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    network(images)
    handle.remove()
    return seen[0]


@pytest.mark.parametrize("name", ["test_vit", "tf_efficientnet_lite0", "resnet18"])
@torch.inference_mode()
def test_the_first_layer_sees_the_pixels_of_the_weights(name, pixels):
    about = timm.get_pretrained_cfg(name)
    raw = torch.from_numpy(pixels).permute(2, 0, 1)[None]
    mean, std = (torch.tensor(values)[:, None, None] for values in (about.mean, about.std))
    wanted = (raw / 255 - mean) / std
    model = build_model(ModelSettings(backbone=f"timm:{name}")).eval()
    image = build_test_transform(TransformSettings(resize=160, crop=160))(Image.fromarray(pixels))[None]
    uses = {
        "training and evaluation": (model, to_images(raw)),
        "scoring": (fused_model(model), image),
        "export": (ExportedNetwork(model, (1, 2, 3, 4, 5)), raw / 255),
    }
    for use, (network, images) in uses.items():
        torch.testing.assert_close(first_input(network, images), wanted, atol=2e-6, rtol=0, msg=use)


@pytest.mark.parametrize(
    ("backbone", "mean", "std"),
    [
        ("cvt_21", IMAGENET_MEAN, IMAGENET_STD),
        ("timm:resnet50", IMAGENET_MEAN, IMAGENET_STD),
        ("timm:vit_small_patch16_384.augreg_in21k_ft_in1k", HALF, HALF),
        ("timm:beit_base_patch16_224.in22k_ft_in22k_in1k", HALF, HALF),
        (
            "timm:vit_base_patch16_clip_224.openai",
            (0.48145466, 0.4578275, 0.40821073),
            (0.26862954, 0.26130258, 0.27577711),
        ),
    ],
)
def test_a_resolved_config_states_them(tmp_path, backbone, mean, std):
    config = with_pixel_statistics(load_config(None, [f"model.backbone={backbone}"]))
    assert (config.model.pixel_mean, config.model.pixel_std) == (mean, std)
    (tmp_path / "config.yaml").write_text(dump_config(config))
    assert with_pixel_statistics(load_config(tmp_path / "config.yaml")) == config


@torch.inference_mode()
def test_weights_from_elsewhere_can_state_theirs(pixels):
    settings = ModelSettings(backbone="timm:resnet18", pixel_mean=HALF, pixel_std=HALF)
    model = build_model(settings).eval()
    raw = torch.from_numpy(pixels).permute(2, 0, 1)[None]
    torch.testing.assert_close(first_input(model, to_images(raw)), raw / 127.5 - 1, atol=2e-6, rtol=0)


def test_others_for_a_cvt_are_refused():
    with pytest.raises(UserError, match="are for timm backbones, not for cvt_21"):
        with_pixel_statistics(load_config(None, ["model.pixel_mean=[.5, .5, .5]"]))


def test_weights_that_timm_does_not_have_are_named():
    with pytest.raises(UserError, match=r"timm has no weights 'resnet18\.x'; allowed: .*resnet18\.a1_in1k"):
        with_pixel_statistics(load_config(None, ["model.backbone=timm:resnet18.x"]))
