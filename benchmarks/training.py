"""Training steps on a CPU, compared with the Hugging Face port's backbone, and their parts."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from benchmarks.data import learnable_batch
from benchmarks.peer import PEER, QuickGelu, trained_networks
from benchmarks.rows import Measured, in_turn
from benchmarks.timing import milliseconds, seconds
from datasets.scale import RatingScale
from datasets.transforms import to_images
from experiments.training.state import TrainingState
from losses import JointLoss
from models.cvt import Mlp
from utils.settings import Config

RUNS, PART_RUNS = 7, 15
BATCH = 8  # images
SIDE = 224  # pixels
SCALE = RatingScale(1, 5, (1, 2, 3, 4, 5))
CPU = torch.device("cpu")
TOLERANCE = 1e-3  # for a loss of about 10


def measure() -> list[Measured]:
    """Measure `train_step_fp32`: seconds per step with the same weights, head and loss; the peer has torch's Adam."""
    network, port = trained_networks(CPU)
    state, adam = TrainingState(network, Config(), 1), torch_adam(port)
    batch = learnable_batch(BATCH, SIDE, seed=0)
    ours, peer = build_step(network, state.optimizer, state.update, batch), build_step(port, adam, adam.step, batch)
    difference = abs(ours() - peer())  # also the warm-up
    if difference > TOLERANCE:
        raise AssertionError(f"the two losses differ by {difference}, so the comparison is invalid")
    mine, peers = in_turn(lambda: seconds(ours), lambda: seconds(peer), RUNS)
    what = f"one step of Adam on {BATCH} images of {SIDE} pixels, in fp32"
    return [Measured("train_step_fp32", what, f"{PEER} and loss, torch.optim.Adam", "s", mine, peers)]


def measure_parts() -> list[Measured]:
    """Measure `train_mlp`, an MLP with its gradients, and `train_adam`, the optimiser's step, in milliseconds."""
    tokens = torch.randn(BATCH, 197, 384)  # shape in a block of stage 3
    mlp = Mlp(tokens.shape[-1])
    written_out = nn.Sequential(mlp.fc1, QuickGelu(), mlp.fc2)
    mlps = [lambda f=each: f(tokens).sum().backward() for each in (mlp, written_out)]
    network, port = trained_networks(CPU)
    fill_gradients(network)
    fill_gradients(port)
    state = TrainingState(network, Config(), 1)  # its optimiser lives as long as it does
    steps = [state.optimizer.step, torch_adam(port).step]
    shape = " x ".join(map(str, tokens.shape))
    return [
        _compared("train_mlp", f"MLP of {shape} tokens and its gradients", "QuickGELU written out", mlps),
        _compared("train_adam", "a step of Adam on CvT-21", "torch.optim.Adam", steps),
    ]


def _compared(name: str, what: str, peer_is: str, calls: Sequence[Callable[[], object]]) -> Measured:
    for call in calls:
        call()  # warm-up
    ours, peers = in_turn(*(lambda call=each: milliseconds(call) for each in calls), PART_RUNS)
    return Measured(name, what, peer_is, "ms", ours, peers)


def torch_adam(model: nn.Module) -> torch.optim.Adam:
    """Return torch's Adam with the settings of the release."""
    optim = Config().optim
    return torch.optim.Adam(model.parameters(), lr=optim.lr, weight_decay=optim.weight_decay)


def fill_gradients(model: nn.Module) -> None:
    """Give every parameter a small gradient."""
    for parameter in model.parameters():
        parameter.grad = torch.full_like(parameter, 1e-3)


def build_backward(model: nn.Module, batch: dict[str, Any]) -> Callable[[], Tensor]:
    """Return a function that adds the gradients of a batch and returns its loss; the model is put in training mode."""
    parameter = next(model.train().parameters())
    images = to_images(batch["image"]).to(parameter.device, parameter.dtype)
    target = {name: batch[name].to(parameter.device, parameter.dtype) for name in ("dos", "mos", "sos")}
    loss = JointLoss(SCALE)

    def backward() -> Tensor:
        total = loss(model(images), target)["total"]
        total.backward()
        return total

    return backward


def build_step(
    model: nn.Module, optimizer: Optimizer, update: Callable[[], object], batch: dict[str, Any]
) -> Callable[[], float]:
    """Return a function that takes one step on a batch and returns the loss before it."""
    backward = build_backward(model, batch)

    def step() -> float:
        optimizer.zero_grad(set_to_none=True)
        total = backward()
        update()
        return total.item()

    return step
