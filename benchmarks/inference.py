"""One image through the network on a CPU, beside the same function as the Hugging Face port computes it."""

import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from transformers import CvtConfig, CvtModel

from benchmarks.rows import Measured, in_turn
from models import build_model
from models.cvt import QUICK_GELU_SLOPE
from models.fast import fast_model
from models.official import from_huggingface
from models.precision import Plan, plan_for
from models.pretrained import load_exactly
from models.richiqa import RichIQA

RUNS = 15
WARM_UP = 2
SIDE = 384  # pixels
GFLOP = 49.7  # of one such image, two for each multiply-add
MATRIX = 1024  # rows and columns of both factors
CPU = torch.device("cpu")


class QuickGelu(nn.Module):
    """The activation of CvT, for which the port has the exact GELU."""

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(QUICK_GELU_SLOPE * x)


class Peer(nn.Module):
    """The port's backbone under a network's own pooling and head."""

    def __init__(self, backbone: CvtModel, network: RichIQA):
        super().__init__()
        self.backbone, self.network = backbone, network

    def forward(self, images: Tensor) -> Tensor:
        maps = self.backbone(images, output_hidden_states=True).hidden_states  # (B, C_i, H_i, W_i)
        return self.network.logits(self.network.pool(maps)).softmax(dim=1)  # (B, K)


def port_of(**options: Any) -> CvtModel:
    """The port's untrained CvT-21 with the activation of CvT."""
    backbone = CvtModel(CvtConfig(depth=[1, 4, 16], **options))
    for module in backbone.modules():
        if isinstance(getattr(module, "activation", None), nn.Module):
            module.activation = QuickGelu()
    return backbone


def measure(precision: str) -> list[Measured]:
    """`inference_<precision>_b1`: milliseconds for one image of 384 pixels, with the same weights on both sides."""
    backbone = port_of().eval()
    network = build_model().eval()
    load_exactly(network.backbone, from_huggingface(backbone.state_dict()), "transformers")
    fast, peer = fast_model(network, precision), Peer(backbone, network).eval()
    plan = plan_for(precision, CPU)
    images = torch.randn(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        tolerance = 1e-5 if plan == Plan() else 0.01
        torch.testing.assert_close(fast(images), peer(images), atol=tolerance, rtol=0)  # else nothing can be compared
        for _ in range(WARM_UP):
            fast(images)
            peer(images)
        ours, peers = in_turn(
            lambda: milliseconds(lambda: fast(images)), lambda: milliseconds(lambda: peer(images)), RUNS
        )
    what = f"one image of {SIDE} pixels, {GFLOP} GFLOP, in {plan.describe()}"
    return [
        Measured(f"inference_{precision}_b1", what, "transformers.CvtModel, QuickGELU, same head", "ms", ours, peers)
    ]


def measure_ceiling() -> list[Measured]:
    """`matmul_ceiling_fp32` and `_bf16`: the rate of matrix products, which no network can exceed; more is better."""
    rows = []
    for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        left, right = (torch.randn(MATRIX, MATRIX).to(dtype) for _ in range(2))
        seconds = [milliseconds(lambda a=left, b=right: a @ b) / 1000 for _ in range(WARM_UP + RUNS)][WARM_UP:]
        rates = [2 * MATRIX**3 / 1e9 / taken for taken in seconds]
        rows.append(
            Measured(f"matmul_ceiling_{name}", f"product of {MATRIX} x {MATRIX} matrices", "", "GFLOP/s", rates)
        )
    return rows


def milliseconds(call: Callable[[], object]) -> float:
    """How long a call takes."""
    begun = time.perf_counter()
    call()
    return 1000 * (time.perf_counter() - begun)
