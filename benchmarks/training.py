"""One training step on a CPU, beside the same step on the Hugging Face port's backbone, and parts of it."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from benchmarks.peer import PEER, QuickGelu, trained_networks
from benchmarks.rows import Measured, in_turn
from benchmarks.timing import milliseconds, seconds
from datasets.scale import RatingScale
from experiments.training.state import TrainingState
from losses import JointLoss
from models.cvt import quick_gelu
from utils.settings import Config

RUNS, PART_RUNS = 7, 15
BATCH = 8  # images
SIDE = 224  # pixels
CPU = torch.device("cpu")
TOLERANCE = 1e-3  # of a loss of about 10


def measure() -> list[Measured]:
    """`train_step_fp32`: seconds from images to new weights; same weights, head and loss; the peer has torch's Adam."""
    network, port = trained_networks(CPU)
    state, adam = TrainingState(network, Config(), 1), torch_adam(port)
    ours, peer = step_of(network, state.optimizer, state.update), step_of(port, adam, adam.step)
    difference = abs(ours() - peer())  # also once for nothing
    if difference > TOLERANCE:
        raise AssertionError(f"the two losses differ by {difference}: nothing can be compared")
    mine, peers = in_turn(lambda: seconds(ours), lambda: seconds(peer), RUNS)
    what = f"one step of Adam on {BATCH} images of {SIDE} pixels, in fp32"
    return [Measured("train_step_fp32", what, f"{PEER} and loss, torch.optim.Adam", "s", mine, peers)]


def measure_parts() -> list[Measured]:
    """`train_quick_gelu`: milliseconds for activation and gradient; `train_adam`: for the optimizer's step alone."""
    tokens = torch.randn(BATCH, 197, 1536, requires_grad=True)  # of a block of stage 3
    outer = tokens.detach()
    gelu = [lambda f=each: torch.autograd.grad(f(tokens), tokens, outer) for each in (quick_gelu, QuickGelu())]
    networks = trained_networks(CPU)
    for network in networks:
        for parameter in network.parameters():
            parameter.grad = torch.full_like(parameter, 1e-3)
    state = TrainingState(networks[0], Config(), 1)
    adam = [state.optimizer.step, torch_adam(networks[1]).step]
    shape = " x ".join(map(str, tokens.shape))
    return [
        _compared("train_quick_gelu", f"QuickGELU of {shape} numbers and its gradient", "written out", gelu),
        _compared("train_adam", "a step of Adam on CvT-21", "torch.optim.Adam", adam),
    ]


def _compared(name: str, what: str, peer_is: str, calls: Sequence[Callable[[], object]]) -> Measured:
    for call in calls:
        call()  # once for nothing
    ours, peers = in_turn(*(lambda call=each: milliseconds(call) for each in calls), PART_RUNS)
    return Measured(name, what, peer_is, "ms", ours, peers)


def torch_adam(model: nn.Module) -> torch.optim.Adam:
    """The optimizer of the release, as torch makes it."""
    optim = Config().optim
    return torch.optim.Adam(model.parameters(), lr=optim.lr, weight_decay=optim.weight_decay)


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
