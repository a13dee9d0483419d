"""Optimizers, learning-rate schedules, and a training state that can be saved and resumed exactly."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import (
    ConstantLR,
    CosineAnnealingLR,
    LinearLR,
    LRScheduler,
    OneCycleLR,
    SequentialLR,
)
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from utils.runtime import random_states, restore_random_states
from utils.settings import Config, OptimSettings, ScheduleSettings

OPTIMIZERS: dict[str, type[Optimizer]] = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}

# attributes that are saved as they are
POSITION = ("epoch", "step", "skipped", "seconds", "loss_sums", "history", "best")
FUSED = True  # one pass over a parameter and its state per step, on every device

SCHEDULES: dict[str, Callable[[Optimizer, list[float], int], LRScheduler]] = {  # the rates are those of the groups
    "constant": lambda optimizer, rates, steps: ConstantLR(optimizer, factor=1.0, total_iters=0),
    "cosine": lambda optimizer, rates, steps: CosineAnnealingLR(optimizer, T_max=steps),
    "onecycle": lambda optimizer, rates, steps: OneCycleLR(optimizer, max_lr=rates, total_steps=steps),
}


class TrainingState:
    """Everything that training changes: network, optimizer, schedule, position, history.

    Args:
        model: Network, on its device.
        config: Config, of which `optim`, `schedule` and `train` are used.
        steps_per_epoch: Number of batches in an epoch.
    """

    def __init__(self, model: nn.Module, config: Config, steps_per_epoch: int):
        optim = config.optim
        self.model = model
        self.clip_norm = optim.clip_norm
        groups = parameter_groups(model, optim)
        self.optimizer = OPTIMIZERS[optim.name](groups, lr=optim.lr, weight_decay=optim.weight_decay, fused=FUSED)
        self.scheduler = build_schedule(self.optimizer, config.schedule, config.train.epochs * steps_per_epoch)
        self.average = None
        if optim.ema_decay is not None:
            self.average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(optim.ema_decay), use_buffers=True)
        self.epoch = 0  # finished epochs
        self.step = 0  # finished steps of the current epoch
        self.skipped = 0  # number of these that changed nothing
        self.seconds = 0.0  # spent on the current epoch
        self.loss_sums: dict[str, float] = {}  # over the counted steps
        self.counted = 0  # number of steps whose losses have been read
        self.history: list[dict[str, Any]] = []  # one record per finished epoch
        self.best: dict[str, Any] | None = None  # record of the selected epoch

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    @property
    def scored_model(self) -> nn.Module:
        """The network that is evaluated and saved for inference: the averaged one with `optim.ema_decay`."""
        return self.model if self.average is None else self.average.module

    def position(self, steps: int) -> str:
        """Return where a resumed split continues, in words; `steps` is the number of steps in an epoch."""
        if self.step == steps:
            return f"at the evaluation of epoch {self.epoch + 1}"
        return f"after epoch {self.epoch}, step {self.step}"

    def clip(self) -> Tensor:
        """Return the norm of all gradients, and scale them down if it is above `optim.clip_norm`."""
        parameters = [parameter for parameter in self.model.parameters() if parameter.grad is not None]
        norm = nn.utils.get_total_norm([parameter.grad for parameter in parameters])
        if self.clip_norm is not None:
            nn.utils.clip_grads_with_norm_(parameters, self.clip_norm, norm)
        return norm

    def skip(self) -> None:
        """Count a step that changes nothing."""
        self.step += 1
        self.skipped += 1

    def update(self) -> None:
        """Take one optimizer step with the current gradients."""
        self.optimizer.step()
        self.scheduler.step()
        if self.average is not None:
            self.average.update_parameters(self.model)
        self.step += 1

    def count(self, values: dict[str, float]) -> None:
        """Add the loss and its terms of one step to the means over the epoch."""
        self.counted += 1
        for name, value in values.items():
            self.loss_sums[name] = self.loss_sums.get(name, 0.0) + value

    def mean_losses(self) -> dict[str, float]:
        """Return the means of the loss and its terms over the steps of the current epoch that were counted."""
        return {name: value / self.counted for name, value in self.loss_sums.items()}

    def finish_epoch(self, record: dict[str, Any]) -> None:
        """Append the record of the current epoch to the history and begin the next epoch."""
        self.history.append(record)
        self.epoch, self.step, self.skipped, self.seconds = self.epoch + 1, 0, 0, 0.0
        self.loss_sums, self.counted = {}, 0

    def capture(self) -> dict[str, Any]:
        """Return the state and the random states as plain data; `model` is the network in training.

        The losses of all steps must have been counted.
        """
        assert self.counted + self.skipped == self.step
        return {
            "model": self.model.state_dict(),
            "average": None if self.average is None else self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict(),
            "random": random_states(self.device),
            **{name: getattr(self, name) for name in POSITION},
        }

    def restore(self, captured: dict[str, Any]) -> None:
        """Restore the state that `capture` returned."""
        self.model.load_state_dict(captured["model"])
        if self.average is not None:
            self.average.load_state_dict(captured["average"])
        groups = [{**group, "fused": FUSED} for group in captured["optimizer"]["param_groups"]]  # whatever was saved
        self.optimizer.load_state_dict({**captured["optimizer"], "param_groups": groups})
        match_memory_layout(self.optimizer)
        self.scheduler.load_state_dict(captured["scheduler"])
        for name, value in ({"skipped": 0} | captured).items():  # earlier versions skipped none
            if name in POSITION:
                setattr(self, name, value)
        self.counted = self.step - self.skipped
        restore_random_states(captured["random"], self.device)


def parameter_groups(model: nn.Module, settings: OptimSettings) -> list[dict[str, Any]]:
    """Return the parameters of the network; if `optim.backbone_lr` is not 1, the backbone's in a group of their own."""
    if settings.backbone_lr == 1:
        return [{"params": list(model.parameters())}]
    backbone = list(model.backbone.parameters())
    head = [parameter for name, parameter in model.named_parameters() if not name.startswith("backbone.")]
    return [{"params": backbone, "lr": settings.backbone_lr * settings.lr}, {"params": head}]


def build_schedule(optimizer: Optimizer, settings: ScheduleSettings, steps: int) -> LRScheduler:
    """Return the schedule over all steps of a training, after a linear rise if `schedule.warmup` is above 0."""
    warmup = round(settings.warmup * steps)
    rates = [group["lr"] for group in optimizer.param_groups]
    if warmup == 0:
        return SCHEDULES[settings.name](optimizer, rates, steps)
    rise = LinearLR(optimizer, start_factor=1 / (warmup + 1), total_iters=warmup)
    return SequentialLR(optimizer, [rise, SCHEDULES[settings.name](optimizer, rates, steps - warmup)], [warmup])


def match_memory_layout(optimizer: Optimizer) -> None:
    """Give the optimizer's state of each parameter the memory layout of the parameter.

    Fused kernels process both in memory order. If a checkpoint was saved in another memory format, they would silently
    take wrong steps.
    """
    for parameter, kept in optimizer.state.items():
        for name, value in kept.items():
            if isinstance(value, Tensor) and value.shape == parameter.shape and value.stride() != parameter.stride():
                kept[name] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)
