"""A stand-in for the shipped weights: their network and config, with random weights."""

from pathlib import Path

import torch

from models import build_model
from tests.written import split_content
from utils.checkpoint import save_checkpoint
from utils.config import config_from_dict

DATABASES = ("biq2021", "clive")
SETTINGS = {
    "dataset": [{"name": name} for name in DATABASES],
    "loss": {"sos_a": [0.1, 0.2], "units": "acr"},
    "transform": {"resize": 80, "crop": 64},
}
MODEL = {"backbone": "timm:tf_efficientnet_lite0", "pixel_mean": [0.5] * 3, "pixel_std": [0.5] * 3}


def lite_checkpoint(path: Path, split: dict | None = None, **model) -> Path:
    """A best.pt of two databases; `model` is what is to be otherwise in the section of that name."""
    torch.manual_seed(0)
    config = config_from_dict({**SETTINGS, "model": {**MODEL, **model}}, "test")
    network = build_model(config.model)
    for norm in (module for module in network.modules() if isinstance(module, torch.nn.BatchNorm2d)):
        norm.momentum = 1.0
    with torch.no_grad():  # so that images differ
        network.train()(torch.randn(4, 3, 64, 64).cumsum(2).cumsum(3) / 10)
        network.algorithmic[-1].weight.mul_(20)
    plain = config.model_dump(mode="json")
    split = split_content(DATABASES) if split is None else split
    save_checkpoint(path, {"model": network.state_dict(), "config": plain, "scale": plain["scale"], "split": split})
    return path
