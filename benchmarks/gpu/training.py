"""Images per second in a training step, beside the Hugging Face port with the same head, loss and data."""

import copy
import statistics
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor
from torch._dynamo.utils import counters

from benchmarks.gpu.data import learnable_batch
from benchmarks.gpu.inference import count_gflop, measure_ceiling
from benchmarks.gpu.rows import Rows, speed, time_calls
from benchmarks.gpu.sizes import Sizes
from benchmarks.peer import PEER, trained_networks
from benchmarks.timing import seconds
from datasets.scale import RatingScale
from experiments.training.precision import use_precision
from experiments.training.state import TrainingState
from experiments.training.step import Stepper
from losses import JointLoss
from models import build_model
from utils.settings import Config, ModelSettings, OptimSettings, ScheduleSettings, TrainSettings

STEP_TO_FORWARD = 3  # a step has three times the products of a forward pass
SCALE = RatingScale(1, 5, (1, 2, 3, 4, 5))
LEARNING_RATE = 1e-4  # of the comparison of precisions: high enough to learn in 200 steps
LAST = 20  # steps whose mean loss is compared
BATCHES = 16  # that those steps go round


@dataclass(frozen=True)
class Way:
    """One way of training.

    Args:
        precision: `train.precision`.
        compile: `train.compile`.
        checkpointing: `train.checkpointing`.
        peer: Whether it is the port that is trained.
    """

    precision: str = "fp32"
    compile: bool = False
    checkpointing: bool = False
    peer: bool = False


FAST = "bf16_compiled"  # as configs/koniq10k_fast.yaml trains
WAYS = {
    "peer_fp32": Way(peer=True),
    FAST: Way("bf16", compile=True),
    "peer_bf16": Way("bf16", peer=True),
    "fp32": Way(),
    "tf32": Way("tf32"),
    "bf16": Way("bf16"),
    "bf16_checkpointing": Way("bf16", checkpointing=True),
}


def measure(rows: Rows, sizes: Sizes) -> None:
    """Write images per second, memory and compilation of every way of training."""
    ceiling = measure_ceiling(rows, sizes)
    gflop = STEP_TO_FORWARD * count_gflop(
        build_model(ModelSettings(backbone=sizes.backbone)).eval().to(sizes.device), sizes
    )
    rows.add("peer", what=PEER, gflop=gflop)
    for name, way in WAYS.items():
        if way.precision == "tf32" and sizes.device.type != "cuda":
            continue
        measure_way(rows, sizes, name, way, sizes.batch, gflop, ceiling)
    for batch in sizes.large_batches[-1:]:
        measure_way(rows, sizes, FAST, WAYS[FAST], batch, gflop, ceiling)
    measure_adam(rows, sizes)


def measure_way(rows: Rows, sizes: Sizes, name: str, way: Way, batch: int, gflop: float, ceiling: float) -> None:
    """Write the figures of one way of training with one size of batch."""
    counters.clear()
    reset_peak(sizes)
    with trained(way, batch, sizes) as step:
        data = on_device(learnable_batch(batch, sizes.side, seed=0), sizes)
        first = seconds(lambda: step(data))
        taken = time_calls(lambda: step(data), sizes.runs, sizes.seconds)
        compiled = {"first_step_s": first, "graph_breaks": sum(counters["graph_break"].values())} if way.compile else {}
        rows.add(
            f"{name}_batch_{batch}",
            milliseconds=taken,
            **speed(taken, batch, gflop, ceiling),
            peak_gb=peak_gb(sizes),
            **compiled,
        )


def measure_agreement(rows: Rows, sizes: Sizes) -> None:
    """Write how far bf16 with the compiler ends from fp32 after the same steps on the same batches."""
    batches = [on_device(learnable_batch(sizes.batch, sizes.side, seed), sizes) for seed in range(BATCHES)]
    ends = {}
    for name in ("fp32", FAST):
        with trained(WAYS[name], sizes.batch, sizes, losses := []) as step:
            for number in range(sizes.agreement_steps):
                step(batches[number % BATCHES])
        ends[name] = statistics.mean(losses[-LAST:])
        rows.add(name, first_loss=losses[0], mean_of_last=ends[name], steps=len(losses))
    rows.add("agreement", relative_difference=abs(ends[FAST] / ends["fp32"] - 1))


@contextmanager
def trained(
    way: Way, batch: int, sizes: Sizes, losses: list[float] | None = None
) -> Iterator[Callable[[dict[str, Tensor]], None]]:
    """Give a function that makes one step, with the arithmetic of that way as long as the context lasts.

    Args:
        way: How to train.
        batch: Images in a step.
        sizes: Of the network and its input.
        losses: Filled with the total of every step where given.
    """
    torch.manual_seed(0)
    networks = trained_networks(torch.device("cpu"), sizes.backbone)
    model = networks[int(way.peer)].to(sizes.device)
    if way.checkpointing:
        model.backbone.checkpoint_blocks()
    settings = TrainSettings(
        batch_size=batch, precision=way.precision, compile=way.compile, checkpointing=way.checkpointing, epochs=1
    )
    rate = OptimSettings() if losses is None else OptimSettings(lr=LEARNING_RATE)
    schedule = ScheduleSettings() if losses is None else ScheduleSettings(name="onecycle")
    config = Config(train=settings, optim=rate, schedule=schedule)
    stepper = Stepper(TrainingState(model.train(), config, sizes.agreement_steps), JointLoss(SCALE), settings)
    if losses is not None:
        count = stepper.state.count
        stepper.state.count = lambda values: (losses.append(values["total"]), count(values))
    with use_precision(way.precision, sizes.device):
        yield stepper.step
        stepper.read()


def measure_adam(rows: Rows, sizes: Sizes) -> None:
    """Write milliseconds of a step of Adam alone, by its fused kernel and by torch's default."""
    network = build_model(ModelSettings(backbone=sizes.backbone)).to(sizes.device)
    for parameter in network.parameters():
        parameter.grad = torch.full_like(parameter, 1e-3)
    default = torch.optim.Adam(copy.deepcopy(list(network.parameters())), lr=1e-5, weight_decay=5e-7)
    for group in default.param_groups:
        for parameter in group["params"]:
            parameter.grad = torch.full_like(parameter, 1e-3)
    for name, optimizer in (("fused", TrainingState(network, Config(), 1).optimizer), ("default", default)):
        rows.add(f"adam_{name}", milliseconds=time_calls(optimizer.step, sizes.runs, sizes.seconds))


def on_device(batch: dict[str, Tensor], sizes: Sizes) -> dict[str, Tensor]:
    """Return the batch with its tensors on the device, so that no copy is timed."""
    return {name: x.to(sizes.device) if isinstance(x, Tensor) else x for name, x in batch.items()}


def reset_peak(sizes: Sizes) -> None:
    if sizes.device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def peak_gb(sizes: Sizes) -> float | None:
    """Return the most memory that tensors took on the GPU since `reset_peak`, in GB."""
    return torch.cuda.max_memory_allocated() / 1e9 if sizes.device.type == "cuda" else None
