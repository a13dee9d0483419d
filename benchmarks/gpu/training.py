"""Images per second in a training step, beside the Hugging Face port with the same head, loss and data."""

import copy
import statistics
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch._dynamo.utils import counters

from benchmarks.data import learnable_batch
from benchmarks.gpu.inference import count_gflop, measure_ceiling
from benchmarks.gpu.sizes import Sizes
from benchmarks.peer import PEER, trained_networks
from benchmarks.rows import Rows, speed
from benchmarks.timing import seconds, time_calls
from benchmarks.training import SCALE, fill_gradients, torch_adam
from experiments.training.precision import use_precision
from experiments.training.state import TrainingState
from experiments.training.step import Stepper
from losses import JointLoss
from models import build_model
from utils.settings import Config, ModelSettings, TrainSettings

STEP_TO_FORWARD = 3  # a step has three times the products of a forward pass
LEARNING_RATE = 1e-4  # of the comparison of precisions: high enough to learn in 200 steps
LAST = 20  # steps whose mean loss is compared
BATCHES = 16  # that those steps go round

FAST = "bf16_compiled"  # as configs/koniq10k_fast.yaml trains
WAYS: dict[str, dict[str, Any]] = {  # settings of `train`; those with PEER_PREFIX train the port
    "peer_fp32": {},
    FAST: {"precision": "bf16", "compile": True},
    "peer_bf16": {"precision": "bf16"},
    "fp32": {},
    "tf32": {"precision": "tf32"},
    "bf16": {"precision": "bf16"},
    "bf16_checkpointing": {"precision": "bf16", "checkpointing": True},
}
PEER_PREFIX = "peer_"


def measure(rows: Rows, sizes: Sizes) -> None:
    """Write images per second, memory and compilation of every way of training."""
    ceiling = measure_ceiling(rows, sizes)
    gflop = STEP_TO_FORWARD * count_gflop(sizes)
    rows.add("peer", what=PEER, gflop=gflop)
    for name in WAYS:
        if name != "tf32" or sizes.device.type == "cuda":
            measure_way(rows, sizes, name, sizes.batch, gflop, ceiling)
    measure_adam(rows, sizes)


def measure_large(rows: Rows, sizes: Sizes) -> None:
    """Write the same of the fastest way, with the first of the larger batches."""
    ceiling, gflop = measure_ceiling(rows, sizes), STEP_TO_FORWARD * count_gflop(sizes)
    measure_way(rows, sizes, FAST, sizes.large_batches[0], gflop, ceiling)


def measure_way(rows: Rows, sizes: Sizes, name: str, batch: int, gflop: float, ceiling: float) -> None:
    """Write the figures of one way of training with one size of batch."""
    on_gpu = sizes.device.type == "cuda"
    counters.clear()
    if on_gpu:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    with trained(name, batch, sizes) as step:
        data = on_device(learnable_batch(batch, sizes.side, seed=0), sizes)
        first = seconds(lambda: step(data))
        taken = time_calls(lambda: step(data), sizes.runs, sizes.seconds)
        breaks = sum(counters["graph_break"].values())
        rows.add(
            f"{name}_batch_{batch}",
            milliseconds=taken,
            **speed(taken, batch, gflop, ceiling),
            peak_gb=torch.cuda.max_memory_allocated() / 1e9 if on_gpu else None,  # of tensors
            **({"first_step_s": first, "graph_breaks": breaks} if name == FAST else {}),
        )


def measure_agreement(rows: Rows, sizes: Sizes) -> None:
    """Write how far bf16 with the compiler ends from fp32 after the same steps on the same batches."""
    batches = [on_device(learnable_batch(sizes.batch, sizes.side, seed), sizes) for seed in range(BATCHES)]
    ends = {}
    for name in ("fp32", FAST):
        with trained(name, sizes.batch, sizes, losses := []) as step:
            for number in range(sizes.agreement_steps):
                step(batches[number % BATCHES])
        ends[name] = statistics.mean(losses[-LAST:])
        rows.add(name, first_loss=losses[0], mean_of_last=ends[name], steps=len(losses))
    rows.add("agreement", relative_difference=abs(ends[FAST] / ends["fp32"] - 1))


@contextmanager
def trained(
    name: str, batch: int, sizes: Sizes, losses: list[float] | None = None
) -> Iterator[Callable[[dict[str, Tensor]], None]]:
    """Give a function that makes one step, with the arithmetic of that way as long as the context lasts.

    Args:
        name: How to train, a key of WAYS.
        batch: Images in a step.
        sizes: Of the network and its input.
        losses: Filled with the total of every step where given.
    """
    torch.manual_seed(0)
    network, port = trained_networks(torch.device("cpu"), sizes.backbone)
    model = (port if name.startswith(PEER_PREFIX) else network).to(sizes.device)
    train = TrainSettings(batch_size=batch, epochs=1, **WAYS[name])
    if train.checkpointing:
        model.backbone.checkpoint_blocks()
    learning = {} if losses is None else {"optim": {"lr": LEARNING_RATE}, "schedule": {"name": "onecycle"}}
    state = TrainingState(model.train(), Config(train=train, **learning), sizes.agreement_steps)
    stepper = Stepper(state, JointLoss(SCALE), train)
    if losses is not None:
        count = state.count
        state.count = lambda values: (losses.append(values["total"]), count(values))
    with use_precision(train.precision, sizes.device):
        yield stepper.step
        stepper.read()


def measure_adam(rows: Rows, sizes: Sizes) -> None:
    """Write milliseconds of a step of Adam alone, by its fused kernel and by torch's default."""
    network = build_model(ModelSettings(backbone=sizes.backbone)).to(sizes.device)
    fill_gradients(network)
    other = copy.deepcopy(network)
    fill_gradients(other)
    for name, optimizer in (("fused", TrainingState(network, Config(), 1).optimizer), ("default", torch_adam(other))):
        rows.add(f"adam_{name}", milliseconds=time_calls(optimizer.step, sizes.runs, sizes.seconds))


def on_device(batch: dict[str, Tensor], sizes: Sizes) -> dict[str, Tensor]:
    """Return the batch with its tensors on the device, so that no copy is timed."""
    return {name: x.to(sizes.device) if isinstance(x, Tensor) else x for name, x in batch.items()}
