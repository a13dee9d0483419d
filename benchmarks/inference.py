"""Inference on one image and on batches, compared with the Hugging Face port of CvT."""

import statistics
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from benchmarks.peer import PEER, networks
from benchmarks.rows import Measured, in_turn
from benchmarks.timing import milliseconds
from models.precision import FP32, PrecisionPlan, precision_plan

RUNS, CEILING_RUNS = 11, 5
BATCHES, BATCH_RUNS = (2, 4), 3
WARM_UP = 2
SIDE = 384  # pixels
GFLOP = 49.7  # per image, counting a multiply-add as two
MATRIX = 1024  # rows and columns of both factors
CPU = torch.device("cpu")

Network = Callable[[Tensor], Tensor]


def measure(precision: str) -> list[Measured]:
    """Measure `inference_<precision>_b1`: milliseconds per image of 384 pixels, with the same weights on both sides."""
    _, fast, peer = networks(precision, CPU)
    plan, images = precision_plan(precision, CPU), random_images(1, CPU)
    with torch.inference_mode():
        tolerance = 1e-5 if plan == PrecisionPlan() else 0.01
        torch.testing.assert_close(
            fast(images), peer(images), atol=tolerance, rtol=0
        )  # the comparison requires equal outputs
        ours, peers = both(fast, peer, images, RUNS)
    what = f"one image of {SIDE} pixels, {GFLOP} GFLOP, in {plan.describe()}"
    return [Measured(f"inference_{precision}_b1", what, PEER, "ms", ours, peers)]


def measure_batches() -> list[Measured]:
    """Measure `inference_fp32_best`: milliseconds per image at the best batch size of each side."""
    _, fast, peer = networks(FP32, CPU)
    size, ours, peer_size, peers = best_batches(fast, peer, BATCHES, CPU)
    what = f"an image of {SIDE} pixels in batches of {size}, the best of {', '.join(map(str, BATCHES))}, in {FP32}"
    return [Measured("inference_fp32_best", what, f"{PEER}, batches of {peer_size}", "ms", ours, peers)]


@torch.inference_mode()
def best_batches(
    fast: nn.Module, peer: nn.Module, sizes: Sequence[int], device: torch.device
) -> tuple[int, list[float], int, list[float]]:
    """Return the best batch size of each side, each with its milliseconds per image."""
    taken = {size: both(fast, peer, random_images(size, device), BATCH_RUNS) for size in sizes}
    result = []
    for side in (0, 1):
        size = min(sizes, key=lambda size: statistics.median(taken[size][side]) / size)
        result += [size, [value / size for value in taken[size][side]]]
    return tuple(result)


def random_images(count: int, device: torch.device) -> Tensor:
    return torch.randn(count, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0)).to(device)


def both(fast: Network, peer: Network, images: Tensor, runs: int) -> tuple[list[float], list[float]]:
    """Measure milliseconds per batch on both sides, alternately."""
    for _ in range(WARM_UP):
        fast(images)
        peer(images)
    return in_turn(lambda: milliseconds(lambda: fast(images)), lambda: milliseconds(lambda: peer(images)), runs)


def measure_ceiling() -> list[Measured]:
    """Measure `matmul_ceiling_fp32` and `_bf16`: the rate of matrix products, an upper bound for any network."""
    what = f"product of {MATRIX} x {MATRIX} matrices"
    kinds = {"fp32": torch.float32, "bf16": torch.bfloat16}
    return [
        Measured(f"matmul_ceiling_{name}", what, "", "GFLOP/s", rates(MATRIX, dtype, CPU))
        for name, dtype in kinds.items()
    ]


def rates(side: int, dtype: torch.dtype, device: torch.device) -> list[float]:
    """Measure GFLOP/s for products of square matrices."""
    left, right = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    taken = [milliseconds(lambda: left @ right) for _ in range(WARM_UP + CEILING_RUNS)][WARM_UP:]
    return [2 * side**3 / 1e6 / each for each in taken]
