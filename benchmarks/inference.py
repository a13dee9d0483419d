"""Inference on one image and on batches, compared with the Hugging Face port of CvT."""

import statistics
from collections.abc import Callable

import torch
from torch import Tensor

from benchmarks.data import random_images
from benchmarks.peer import PEER, networks
from benchmarks.rows import Measured, in_turn
from benchmarks.timing import milliseconds, time_product
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
    plan, images = precision_plan(precision, CPU), random_images(1, SIDE, CPU)
    with torch.inference_mode():
        tolerance = 1e-5 if plan == PrecisionPlan() else 0.01
        torch.testing.assert_close(fast(images), peer(images), atol=tolerance, rtol=0)  # else it compares nothing
        ours, peers = both(fast, peer, images, RUNS)
    what = f"one image of {SIDE} pixels, {GFLOP} GFLOP, in {plan.describe()}"
    return [Measured(f"inference_{precision}_b1", what, PEER, "ms", ours, peers)]


def measure_batches() -> list[Measured]:
    """Measure `inference_fp32_best`: milliseconds per image at the best batch size of each side."""
    _, fast, peer = networks(FP32, CPU)
    (size, ours), (peer_size, peers) = best_batches(fast, peer)
    what = f"an image of {SIDE} pixels in batches of {size}, the best of {', '.join(map(str, BATCHES))}, in {FP32}"
    return [Measured("inference_fp32_best", what, f"{PEER}, batches of {peer_size}", "ms", ours, peers)]


@torch.inference_mode()
def best_batches(fast: Network, peer: Network) -> list[tuple[int, list[float]]]:
    """Return the best batch size of each side, ours first, with its milliseconds per image."""
    taken = {size: both(fast, peer, random_images(size, SIDE, CPU), BATCH_RUNS) for size in BATCHES}
    sides = [{size: [value / size for value in taken[size][side]] for size in BATCHES} for side in (0, 1)]
    return [min(side.items(), key=lambda item: statistics.median(item[1])) for side in sides]


def both(fast: Network, peer: Network, images: Tensor, runs: int) -> tuple[list[float], list[float]]:
    """Measure milliseconds per batch on both sides, alternately."""
    for _ in range(WARM_UP):
        fast(images)
        peer(images)
    return in_turn(lambda: milliseconds(lambda: fast(images)), lambda: milliseconds(lambda: peer(images)), runs)


def measure_ceiling() -> list[Measured]:
    """Measure `matmul_ceiling_fp32` and `_bf16`: the rate of matrix products, an upper bound for any network."""
    what = f"product of {MATRIX} x {MATRIX} matrices"
    rates = {
        name: [1000 * rate for rate in time_product(MATRIX, dtype, CPU, CEILING_RUNS)]
        for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16))
    }
    return [Measured(f"matmul_ceiling_{name}", what, "", "GFLOP/s", found) for name, found in rates.items()]
