"""Images per second when scoring, beside the Hugging Face port with the same weights and head."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.data import random_images
from benchmarks.gpu.sizes import Sizes
from benchmarks.peer import PEER, networks
from benchmarks.rows import Rows, speed
from benchmarks.timing import seconds, time_calls, time_product
from experiments.training.precision import use_precision
from models import build_model
from models.compiling import CompiledScorer
from models.fused import fused_model
from utils.settings import ModelSettings

Network = Callable[[Tensor], Tensor]


@torch.inference_mode()
def measure(rows: Rows, sizes: Sizes) -> None:
    """Write images/s at one image, at a training batch and at larger ones, for every way without the compiler."""
    device = sizes.device
    ceiling = measure_ceiling(rows, sizes)
    network, fast, peer = networks("fp32", device, sizes.backbone)
    ways: dict[str, tuple[Network, str, bool]] = {
        "peer_fp32": (peer, "fp32", False),
        "bf16": (fused_model(network, "bf16"), "fp32", False),
        "peer_bf16": (peer, "fp32", True),
        "fp32": (fast, "fp32", False),
    }
    if device.type == "cuda":
        ways["tf32"] = (fast, "tf32", False)
    gflop = count_gflop(sizes)
    rows.add("peer", what=PEER, gflop=gflop)
    for name, (way, precision, autocast) in ways.items():
        for batch in (1, sizes.batch, *sizes.large_batches):
            with use_precision(precision, device), torch.autocast(device.type, torch.bfloat16, enabled=autocast):
                taken = time_batches(way, batch, sizes)
            rows.add(f"{name}_batch_{batch}", milliseconds=taken, **speed(taken, batch, gflop, ceiling))


@torch.inference_mode()
def measure_compiled(rows: Rows, sizes: Sizes) -> None:
    """Write what torch's compiler makes of bf16, in the larger batches."""
    ceiling, gflop = measure_ceiling(rows, sizes), count_gflop(sizes)
    network = build_model(ModelSettings(backbone=sizes.backbone)).eval().to(sizes.device)
    compiled = CompiledScorer(fused_model(network, "bf16", packed=False), "--compile")
    for batch in sizes.large_batches:
        compiling = seconds(lambda batch=batch: compiled(random_images(batch, sizes.side, sizes.device)))
        taken = time_batches(compiled, batch, sizes)
        figures = speed(taken, batch, gflop, ceiling)
        rows.add(f"bf16_compiled_batch_{batch}", milliseconds=taken, **figures, compiling_s=compiling)


def measure_ceiling(rows: Rows, sizes: Sizes) -> float:
    """Write and return TFLOP/s of matrix products in bfloat16."""
    rates = time_product(sizes.ceiling, torch.bfloat16, sizes.device, sizes.runs, sizes.seconds)
    rows.add("ceiling", what=f"bf16 products of {sizes.ceiling} x {sizes.ceiling} matrices", tflop_per_s=rates)
    return sorted(rates)[len(rates) // 2]


def count_gflop(sizes: Sizes) -> float:
    """Return the products and convolutions of one image in GFLOP, two for each multiply-add."""
    network = build_model(ModelSettings(backbone=sizes.backbone)).eval().to(sizes.device)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(random_images(1, sizes.side, sizes.device))
    return counter.get_total_flops() / 1e9


def time_batches(network: Network, batch: int, sizes: Sizes) -> list[float]:
    """Return milliseconds per batch."""
    images = random_images(batch, sizes.side, sizes.device)
    return time_calls(lambda: network(images), sizes.runs, sizes.seconds)
