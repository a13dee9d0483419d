"""Steps of a tiny network on made-up batches."""

import torch

from datasets.scale import RatingScale
from experiments.training.state import TrainingState
from experiments.training.step import Stepper
from losses import JointLoss
from models import build_model
from utils.config import config_from_dict
from utils.settings import ModelSettings

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
NANO = {"backbone": "cvt_nano", "memory_weight": 0.1}


def batch_of(count: int, seed: int = 0) -> dict:
    generator = torch.Generator().manual_seed(seed)
    dos = torch.rand(count, 5, generator=generator)
    return {
        "image": torch.randint(256, (count, 3, 32, 32), dtype=torch.uint8, generator=generator),
        "dos": dos / dos.sum(1, keepdim=True),
        "mos": 1 + 4 * torch.rand(count, generator=generator),
        "sos": torch.rand(count, generator=generator),
        "database": torch.zeros(count, dtype=torch.int64),
        "name": [f"{number}.jpg" for number in range(count)],
    }


def stepper_of(device: torch.device = CPU, model: dict | None = None, **train_settings) -> Stepper:
    """A tiny network, the same each time."""
    torch.manual_seed(0)
    config = config_from_dict({"train": {"batch_size": 8, **train_settings}, "optim": {"lr": 1e-3}}, "test")
    network = build_model(ModelSettings(**{**NANO, **(model or {})}))
    if config.train.checkpointing:
        network.backbone.checkpoint_blocks()
    state = TrainingState(network.to(device).train(), config, 10)
    return Stepper(state, JointLoss(RatingScale(1, 5, (1, 2, 3, 4, 5))), config.train)


def gradients(stepper: Stepper) -> dict[str, torch.Tensor]:
    return {name: x.grad for name, x in stepper.state.model.named_parameters() if x.grad is not None}
