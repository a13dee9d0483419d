"""One training step on a CPU, beside the same step on the Hugging Face port's backbone."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from benchmarks.peer import PEER, trained_networks
from benchmarks.rows import Measured, in_turn
from benchmarks.timing import seconds
from datasets.scale import RatingScale
from losses import JointLoss
from utils.optim import TrainingState
from utils.settings import Config

RUNS = 5
BATCH = 8  # images
SIDE = 224  # pixels
CPU = torch.device("cpu")
TOLERANCE = 1e-3  # of a loss of about 10


def measure() -> list[Measured]:
    """`train_step_fp32`: seconds from images to new weights; same weights, head and loss; torch's Adam."""
    network, port = trained_networks(CPU)
    state, optim = TrainingState(network, Config(), 1), Config().optim
    adam = torch.optim.Adam(port.parameters(), lr=optim.lr, weight_decay=optim.weight_decay)
    ours, peer = step_of(network, state.optimizer, state.update), step_of(port, adam, adam.step)
    difference = abs(ours() - peer())  # also once for nothing
    if difference > TOLERANCE:
        raise AssertionError(f"the two losses differ by {difference}: nothing can be compared")
    mine, peers = in_turn(lambda: seconds(ours), lambda: seconds(peer), RUNS)
    what = f"one step of Adam on {BATCH} images of {SIDE} pixels, in fp32"
    return [Measured("train_step_fp32", what, f"{PEER} and loss, torch.optim.Adam", "s", mine, peers)]


def step_of(model: nn.Module, optimizer: Optimizer, update: Callable[[], object]) -> Callable[[], float]:
    """A function that makes one step, always on the same batch, and returns the loss before it."""
    model.train()
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(BATCH, 3, SIDE, SIDE, generator=generator)
    target = targets(generator)
    loss = JointLoss(RatingScale(1, 5, (1, 2, 3, 4, 5)))

    def step() -> float:
        optimizer.zero_grad(set_to_none=True)
        total = loss(model(images), target)["total"]
        total.backward()
        update()
        return total.item()

    return step


def targets(generator: torch.Generator) -> dict[str, Tensor]:
    """Labels of a batch: `dos` (B, K), `mos` (B,), `sos` (B,)."""
    dos, mos, sos = (torch.rand(BATCH, count, generator=generator) for count in (5, 1, 1))
    return {"dos": dos / dos.sum(1, keepdim=True), "mos": 1 + 4 * mos[:, 0], "sos": sos[:, 0]}
