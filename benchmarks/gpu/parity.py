"""The network on this device against itself in float64 on the CPU, with the same made-up weights.

DOS, gradients and five steps of Adam in float32; DOS of the optimised network in each precision.
"""

import copy
import platform

import torch
from torch import Tensor

from benchmarks.data import learnable_batch
from benchmarks.gpu.sizes import Sizes
from benchmarks.rows import Rows
from benchmarks.timing import time_product
from benchmarks.training import SCALE, build_step
from datasets.transforms import to_images
from experiments.training.precision import use_precision
from experiments.training.state import TrainingState
from models import RichIQA, build_model
from models.cvt import DropPath
from models.fused import fused_model
from utils.runtime import environment
from utils.settings import Config, ModelSettings

STEPS = 5
BATCH = 4  # images


def measure(rows: Rows, sizes: Sizes) -> None:
    """Write what the machine is, then how far the network on it is from float64."""
    rows.add("machine", **environment(sizes.device), cuda=torch.version.cuda, system=platform.platform())
    if sizes.device.type == "cuda":
        properties = torch.cuda.get_device_properties(sizes.device)
        free, total = torch.cuda.mem_get_info(sizes.device)
        rows.add("card", card=properties.name, memory_gb=total / 1e9, free_gb=free / 1e9)
    network = made_up_network(sizes)
    exact = copy.deepcopy(network).double()
    batch = learnable_batch(BATCH, sizes.side, seed=0)
    images = to_images(batch["image"])
    with torch.inference_mode():
        expected = exact(images.double())  # (B, K)
    network.to(sizes.device)
    with use_precision("fp32", sizes.device), torch.inference_mode():
        rows.add("dos_fp32", **distance(network(images.to(sizes.device)), expected))
        for precision in ("fp32", "bf16", "fp16") if sizes.device.type == "cuda" else ("fp32", "bf16"):
            dos = fused_model(network, precision)(images.to(sizes.device))
            rows.add(f"dos_optimised_{precision}", **distance(dos, expected))
    with use_precision("fp32", sizes.device):
        compare_steps(rows, network, exact, batch)
    for precision, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        rates = time_product(sizes.ceiling, dtype, sizes.device, sizes.runs, sizes.seconds)
        rows.add(f"product_{precision}", tflop_per_s=rates)


def compare_steps(rows: Rows, network: RichIQA, exact: RichIQA, batch: dict[str, Tensor]) -> None:
    """Write how far gradients and the losses of five steps of Adam are from float64."""
    gradients, losses = zip(*(train_steps(model, batch) for model in (network, exact)), strict=True)
    norms = [{name: float(x.double().norm()) for name, x in each.items()} for each in gradients]
    largest = max(norms[1].values())
    relative = {name: abs(norms[0][name] - norms[1][name]) / max(norms[1][name], 1e-4 * largest) for name in norms[1]}
    worst = max(relative, key=relative.get)
    rows.add("gradients", largest_relative_difference_of_norms=relative[worst], worst=worst)
    differences = [abs(ours - theirs) / theirs for ours, theirs in zip(*losses, strict=True)]
    rows.add("adam", steps=len(differences), largest_relative_difference_of_losses=max(differences))


def train_steps(model: RichIQA, batch: dict[str, Tensor]) -> tuple[dict[str, Tensor], list[float]]:
    """Return the gradients of the first step, by name and on the CPU, and the losses of all steps."""
    state = TrainingState(model, Config(), 1)
    step = build_step(model, state.optimizer, state.update, batch)
    losses = [step()]
    gradients = {name: x.grad.cpu().clone() for name, x in model.named_parameters() if x.grad is not None}
    return gradients, losses + [step() for _ in range(STEPS - 1)]


def made_up_network(sizes: Sizes) -> RichIQA:
    """Return a network in evaluation mode, without stochastic depth, whose DOS is far from flat."""
    torch.manual_seed(0)
    model = build_model(ModelSettings(backbone=sizes.backbone, memory_weight=0.1, drop_path=0.0)).eval()
    for module in model.modules():
        assert not isinstance(module, DropPath) or module.drop_prob == 0
        if isinstance(module, torch.nn.Linear):
            torch.nn.init.normal_(module.weight, std=module.in_features**-0.5)
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(std=0.2)
            module.running_var.uniform_(0.3, 1.5)
    torch.nn.init.normal_(model.algorithmic[1].weight, std=0.5)
    return model


def distance(dos: Tensor, expected: Tensor) -> dict[str, float]:
    """Return the largest difference of a probability, and of MOS in % of the scale."""
    dos = dos.double().cpu()
    mos = (SCALE.mean(dos) - SCALE.mean(expected)).abs().max()
    return {"dos": float((dos - expected).abs().max()), "mos_percent": float(100 * mos / (SCALE.high - SCALE.low))}
