"""One image through the network on a CPU, beside the same function as the Hugging Face port computes it."""

import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn
from transformers import CvtConfig, CvtModel

from benchmarks.rows import Measured, in_turn
from models import build_model
from models.cvt import quick_gelu
from models.fast import fast_model
from models.official import from_huggingface
from models.precision import FP32, Plan, plan_for
from models.pretrained import load_exactly
from models.richiqa import RichIQA

RUNS = 15
BATCHES, BATCH_RUNS = (2, 4, 8), 5
WARM_UP = 2
SIDE = 384  # pixels
GFLOP = 49.7  # of one such image, two for each multiply-add
MATRIX = 1024  # rows and columns of both factors
CPU = torch.device("cpu")
PEER = "transformers.CvtModel, QuickGELU, same head"


class QuickGelu(nn.Module):
    """The activation of CvT, for which the port has the exact GELU."""

    def forward(self, x: Tensor) -> Tensor:
        return quick_gelu(x)


class Peer(nn.Module):
    """The port's backbone under a network's own pooling and head."""

    def __init__(self, backbone: CvtModel, network: RichIQA):
        super().__init__()
        self.backbone, self.network = backbone, network

    def forward(self, images: Tensor) -> Tensor:
        maps = self.backbone(images, output_hidden_states=True).hidden_states  # (B, C_i, H_i, W_i)
        return self.network.logits(self.network.pool(maps)).softmax(dim=1)  # (B, K)


def networks(precision: str, device: torch.device) -> tuple[RichIQA, nn.Module, Peer]:
    """The network, what `fast_model` makes of it, and the peer, all in evaluation mode with the same weights."""
    backbone = CvtModel(CvtConfig(depth=[1, 4, 16])).eval()
    for module in backbone.modules():
        if isinstance(getattr(module, "activation", None), nn.Module):
            module.activation = QuickGelu()
    network = build_model().eval()
    load_exactly(network.backbone, from_huggingface(backbone.state_dict()), "transformers")
    network.to(device)
    return network, fast_model(network, precision), Peer(backbone.to(device), network).eval()


def measure(precision: str) -> list[Measured]:
    """`inference_<precision>_b1`: milliseconds for one image of 384 pixels, with the same weights on both sides."""
    _, fast, peer = networks(precision, CPU)
    plan, images = plan_for(precision, CPU), random_images(1)
    with torch.inference_mode():
        tolerance = 1e-5 if plan == Plan() else 0.01
        torch.testing.assert_close(fast(images), peer(images), atol=tolerance, rtol=0)  # else nothing can be compared
        ours, peers = milliseconds_of(fast, peer, images, RUNS)
    what = f"one image of {SIDE} pixels, {GFLOP} GFLOP, in {plan.describe()}"
    return [Measured(f"inference_{precision}_b1", what, PEER, "ms", ours, peers)]


def measure_batches() -> list[Measured]:
    """`inference_fp32_best`: milliseconds for an image in batches, on both sides of the size that is best there."""
    _, fast, peer = networks(FP32, CPU)
    with torch.inference_mode():
        taken = {size: milliseconds_of(fast, peer, random_images(size), BATCH_RUNS) for size in BATCHES}
    best, best_of_peer = (min(BATCHES, key=lambda size: statistics.median(taken[size][side]) / size) for side in (0, 1))
    ours = [value / best for value in taken[best][0]]
    peers = [value / best_of_peer for value in taken[best_of_peer][1]]
    what = f"an image of {SIDE} pixels in batches of {best}, the best of {', '.join(map(str, BATCHES))}, in {FP32}"
    return [Measured("inference_fp32_best", what, f"{PEER}, batches of {best_of_peer}", "ms", ours, peers)]


def random_images(count: int) -> Tensor:
    return torch.randn(count, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))


def milliseconds_of(fast: nn.Module, peer: nn.Module, images: Tensor, runs: int) -> tuple[list[float], list[float]]:
    """What a batch takes on both sides, in turn."""
    for _ in range(WARM_UP):
        fast(images)
        peer(images)
    return in_turn(lambda: milliseconds(lambda: fast(images)), lambda: milliseconds(lambda: peer(images)), runs)


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
