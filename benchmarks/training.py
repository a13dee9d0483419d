"""One training step on a CPU, beside the same step on the Hugging Face port's backbone."""

import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from benchmarks.inference import Peer, port_of
from benchmarks.rows import Measured, in_turn
from datasets.scale import RatingScale
from losses import JointLoss
from models import build_model
from models.official import from_huggingface
from models.pretrained import load_exactly
from utils.optim import TrainingState
from utils.settings import Config, ModelSettings

RUNS = 5
BATCH = 8  # images
SIDE = 224  # pixels
TOLERANCE = 1e-3  # of a loss of about 10


def measure() -> list[Measured]:
    """`train_step_fp32`: seconds from images to new weights; same weights, head, loss and optimizer on both sides."""
    backbone = port_of(drop_path_rate=[0.0, 0.0, 0.0])  # the port's own drops other things than CvT does
    network = build_model(ModelSettings(drop_path=0.0))
    load_exactly(network.backbone, from_huggingface(backbone.state_dict()), "transformers")
    head = build_model(ModelSettings(drop_path=0.0))
    head.load_state_dict(network.state_dict())
    head.backbone = nn.Identity()
    ours, peer = step_of(network), step_of(Peer(backbone, head))
    difference = abs(ours() - peer())  # also once for nothing
    if difference > TOLERANCE:
        raise AssertionError(f"the two losses differ by {difference}: nothing can be compared")
    mine, peers = in_turn(lambda: seconds(ours), lambda: seconds(peer), RUNS)
    what = f"one step of Adam on {BATCH} images of {SIDE} pixels, in fp32"
    return [Measured("train_step_fp32", what, "transformers.CvtModel, QuickGELU, same head", "s", mine, peers)]


def step_of(model: nn.Module) -> Callable[[], float]:
    """A function that makes one step, always on the same batch, and returns the loss before it."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(BATCH, 3, SIDE, SIDE, generator=generator)
    target = targets(generator)
    loss, state = JointLoss(RatingScale(1, 5, (1, 2, 3, 4, 5))), TrainingState(model.train(), Config(), 1)

    def step() -> float:
        state.optimizer.zero_grad(set_to_none=True)
        total = loss(model(images), target)["total"]
        total.backward()
        state.update()
        return total.item()

    return step


def targets(generator: torch.Generator) -> dict[str, Tensor]:
    """Labels of a batch: `dos` (B, K), `mos` (B,), `sos` (B,)."""
    dos, mos, sos = (torch.rand(BATCH, count, generator=generator) for count in (5, 1, 1))
    return {"dos": dos / dos.sum(1, keepdim=True), "mos": 1 + 4 * mos[:, 0], "sos": sos[:, 0]}


def seconds(step: Callable[[], float]) -> float:
    """How long a step takes."""
    begun = time.perf_counter()
    step()
    return time.perf_counter() - begun
