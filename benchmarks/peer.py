"""The peer: the Hugging Face port of CvT with our pooling and head, which computes the same function."""

from typing import Any

import torch
from torch import Tensor, nn
from transformers import CvtConfig, CvtModel

from models import build_model
from models.cvt import CVT_SHAPES, QUICK_GELU_SLOPE
from models.fused import fused_model
from models.official import from_huggingface
from models.richiqa import RichIQA
from models.weights import load_exactly
from utils.settings import ModelSettings

PEER = "transformers.CvtModel, QuickGELU, same head"


class QuickGelu(nn.Module):
    """The activation of CvT; the port uses the exact GELU instead."""

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(QUICK_GELU_SLOPE * x)


class Peer(nn.Module):
    """The port's backbone with the pooling and head of a network."""

    def __init__(self, backbone: CvtModel, network: RichIQA):
        super().__init__()
        self.backbone, self.network = backbone, network

    def forward(self, images: Tensor) -> Tensor:
        maps = self.backbone(images, output_hidden_states=True).hidden_states  # (B, C_i, H_i, W_i)
        return self.network.logits(self.network.pool(maps)).softmax(dim=1)  # (B, K)


def build_port(name: str = "cvt_21", **options: Any) -> CvtModel:
    """Return the port's untrained backbone with the activation of CvT."""
    shape = CVT_SHAPES[name]
    sizes = {"depth": list(shape.depths), "embed_dim": list(shape.widths), "num_heads": list(shape.heads)}
    backbone = CvtModel(CvtConfig(**sizes, **options))
    for module in backbone.modules():
        if isinstance(getattr(module, "activation", None), nn.Module):
            module.activation = QuickGelu()
    return backbone


def networks(precision: str, device: torch.device, name: str = "cvt_21") -> tuple[RichIQA, nn.Module, Peer]:
    """Return the network, its fused version and the peer, in evaluation mode with the same weights."""
    backbone = build_port(name).eval()
    network = build_model(ModelSettings(backbone=name)).eval()
    load_exactly(network.backbone, from_huggingface(backbone.state_dict()), "transformers")
    network.to(device)
    return network, fused_model(network, precision), Peer(backbone.to(device), network).eval()


def trained_networks(device: torch.device, name: str = "cvt_21") -> tuple[RichIQA, Peer]:
    """Return the network and the peer for training, with equal weights and separate heads.

    Stochastic depth is off, because the port drops other parts than CvT does.
    """
    settings = ModelSettings(backbone=name, drop_path=0.0)
    backbone = build_port(name, drop_path_rate=[0.0, 0.0, 0.0])
    network, head = build_model(settings), build_model(settings)
    load_exactly(network.backbone, from_huggingface(backbone.state_dict()), "transformers")
    head.load_state_dict(network.state_dict())
    head.backbone = nn.Identity()
    return network.to(device), Peer(backbone, head).to(device)
