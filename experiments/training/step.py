"""The step of a training, and the epoch that is made of them.

B batch, T terms of the loss.
"""

import math
import time
import warnings
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from inspect import signature
from typing import Any

import torch
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader

from datasets.loader import batches
from datasets.transforms import to_images
from experiments.training.precision import COMPILE
from experiments.training.setup import SplitRun
from experiments.training.state import TrainingState
from losses import JointLoss
from models.compiling import COMPILE_MODE, compiling
from models.precision import BF16
from models.timm_backbone import TimmBackbone
from utils.distributed import gathered, is_distributed, sum_over_processes, world
from utils.errors import UserError
from utils.progress import Progress
from utils.settings import TrainSettings

TARGETS = ("mos", "sos", "dos", "database")


@dataclass(frozen=True)
class Losses:
    """The loss and its terms in one step, perhaps still on their way from the GPU.

    Args:
        terms: Their names.
        values: (T + 2,), on the CPU once `copied` has happened: the terms, means over all processes; how many processes
            were asked to stop; something that is finite where the terms of this process are.
        copied: None where they are there already.
        epoch: Which the step is of, from 1.
        step: Which it is, from 1.
        images: Names, of this process.
    """

    terms: tuple[str, ...]
    values: Tensor
    copied: torch.cuda.Event | None
    epoch: int
    step: int
    images: Sequence[str]

    def read(self) -> dict[str, float]:
        """The values by name, once they are there.

        Raises:
            UserError: One of them is not finite.
        """
        if self.copied is not None:
            self.copied.synchronize()
        *means, _, own = self.values.tolist()
        values = dict(zip(self.terms, means, strict=True))
        if not all(math.isfinite(value) for value in means):  # which all processes see
            images = gathered([] if math.isfinite(own) else self.images)
            raise UserError(
                f"the loss is not finite in epoch {self.epoch}, step {self.step}: "
                f"{', '.join(f'{name} {value}' for name, value in values.items())}; images: {', '.join(images)}. "
                "Start again with a smaller optim.lr or with optim.clip_norm=1"
            )
        return values

    def stopping(self) -> bool:
        """Whether any process was asked to stop when the step was taken; to be called after `read`."""
        return bool(self.values[-2] > 0)


class Stepper:
    """Steps of a training: `_predicted` calls the network, `step` changes the weights, `read` looks at the losses.

    On a GPU the losses of a step are read once the next one is queued, so that it never waits for the CPU; elsewhere
    before the weights are touched.

    Args:
        state: What is trained.
        loss: Of a batch.
        settings: How.
    """

    def __init__(self, state: TrainingState, loss: JointLoss, settings: TrainSettings):
        self.state = state
        self.loss = loss
        self.parts = settings.accumulate
        self.autocast = settings.precision == BF16
        self.compiled = settings.compile
        alone = (
            self.parts == 1 and not is_distributed()
        )  # gradients of replayed kernels must be used before the next replay
        self.network = wrap_ddp(compiled(state.model, replayed=alone) if self.compiled else state.model)
        self.late = state.device.type == "cuda"
        self.unread: Losses | None = None
        self.asked_to_stop = False  # whether this process is, which all learn with the losses
        self.stopping = False  # whether any process was, as far as losses have been read

    def step(self, batch: dict[str, Any]) -> None:
        """One optimizer step.

        Raises:
            UserError: The loss is not finite; where losses are read late, that of the step before.
        """
        self.state.optimizer.zero_grad(set_to_none=True)
        with compiling(COMPILE) if self.compiled else nullcontext():
            terms = self._gradients(batch)
        losses = self._sent(terms, batch["name"])
        if not self.late:
            self._count(losses)
        self.state.update()
        if self.late:
            self.read()
            self.unread = losses

    def read(self) -> None:
        """Reads what is not read yet: before anything is saved, and at the end of an epoch.

        Raises:
            UserError: The loss is not finite.
        """
        losses, self.unread = self.unread, None
        if losses is not None:
            self._count(losses)

    def _count(self, losses: Losses) -> None:
        self.state.count(losses.read())
        self.stopping = losses.stopping()

    def _gradients(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        """Computes the gradients of a batch, part by part; returns the loss and its terms, means over the parts."""
        on_device = {key: batch[key].to(self.state.device, non_blocking=True) for key in ("image", *TARGETS)}
        parts = zip(*(value.chunk(self.parts) for value in on_device.values()), strict=True)
        terms = []
        for number, (image, *labels) in enumerate(parts, start=1):
            with self._exchanged(last=number == self.parts):
                of_part = self.loss(self._predicted(image), dict(zip(TARGETS, labels, strict=True)))
                (of_part["total"] / self.parts).backward()
            terms.append({name: term.detach() for name, term in of_part.items()})
        return {name: torch.stack([of_part[name] for of_part in terms]).mean() for name in terms[0]}

    def _exchanged(self, last: bool) -> AbstractContextManager:
        """Processes exchange gradients once they are those of all parts."""
        alone = last or not isinstance(self.network, DistributedDataParallel)
        return nullcontext() if alone else self.network.no_sync()

    def _predicted(self, pixels: Tensor) -> Tensor:
        """DOS (B, K), float32, of pixels (B, 3, H, W), uint8."""
        with torch.autocast(pixels.device.type, torch.bfloat16, enabled=self.autocast):
            return self.network(to_images(pixels))

    def _sent(self, terms: dict[str, Tensor], images: Sequence[str]) -> Losses:
        """The terms of the step under way, on their way to the CPU."""
        own = torch.stack(list(terms.values()))  # (T,)
        of_all = sum_over_processes(torch.cat([own / world(), own.new_full((1,), self.asked_to_stop)]))  # (T + 1,)
        values, copied = torch.cat([of_all, own.sum(0, keepdim=True)]).to("cpu", non_blocking=True), None  # (T + 2,)
        if self.state.device.type == "cuda":
            copied = torch.cuda.current_stream(self.state.device).record_event()
        return Losses(tuple(terms), values, copied, self.state.epoch + 1, self.state.step + 1, images)


def wrap_ddp(model: torch.nn.Module) -> torch.nn.Module:
    """The network as it is, or of several processes, one whose gradients are means over all of them."""
    if not is_distributed():
        return model
    device = next(model.parameters()).device
    # of channels-last maps the gradients of convolutions have other strides than the weights, which torch copes with
    warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides")
    known = signature(DistributedDataParallel.__init__).parameters
    buffers = "forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers"  # torch 2.14, before
    return DistributedDataParallel(
        model,
        device_ids=None if device.index is None else [device.index],
        gradient_as_bucket_view=True,
        find_unused_parameters=any(isinstance(module, TimmBackbone) for module in model.modules()),
        **{buffers: False},  # the statistics of BatchNorm are those of all already
    )


def compiled(model: torch.nn.Module, replayed: bool = True) -> torch.nn.Module:
    """Return the network with its forward compiled for one size of batch; parameters and their names stay its own.

    Args:
        model: The network.
        replayed: Whether the kernels of a GPU are recorded and replayed as CUDA graphs.
    """
    torch.compiler.reset()  # what was compiled for another split counts against torch's limit, after which it gives up
    return torch.compile(model, dynamic=False, mode=COMPILE_MODE if replayed else None)


def train_epoch(stepper: Stepper, loader: DataLoader, run: SplitRun) -> bool:
    """Trains to the end of the epoch under way; False where it was interrupted, with everything saved.

    Resumed after the last step, there is none left to take.
    """
    state, config = stepper.state, run.config
    state.model.train()
    loader.sampler.set_position(state.epoch, state.step * config.train.batch_size)
    begun = time.monotonic() - state.seconds
    title, steps = f"epoch {state.epoch + 1}/{config.train.epochs}", state.step + len(loader)
    with Progress(title, steps, initial=state.step) as progress:
        for batch in batches(loader):
            stepper.asked_to_stop = run.interruption.requested
            stepper.step(batch)
            state.seconds = time.monotonic() - begun
            loss = {"loss": state.mean_losses()["total"]} if state.counted else {}
            progress.update(images=config.train.batch_size, **loss)
            interrupted = stepper.stopping if is_distributed() else run.interruption.requested
            due = config.train.save_steps and state.step % config.train.save_steps == 0
            if interrupted or (due and state.step < steps):  # after the last step main.py saves
                stepper.read()
                run.folder.save(config, state)
            if interrupted:
                return False
    stepper.read()
    return True
