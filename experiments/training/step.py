"""Training steps and epochs.

B batch, T terms of the loss.
"""

import math
import sys
import time
import warnings
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from inspect import signature
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader
from tqdm import tqdm

from datasets.dataset import DAMAGED, STRENGTHS, interleaved
from datasets.loader import batches
from datasets.transforms import to_images
from experiments.training.nonfinite import ADVICE, SKIP, NonFiniteError, diagnosis, not_finite
from experiments.training.precision import COMPILE
from experiments.training.setup import SplitRun
from experiments.training.state import TrainingState
from losses import JointLoss
from models.compiling import compile_network, compiling
from models.precision import BF16
from models.timm_backbone import TimmBackbone
from utils.distributed import gathered, is_distributed, is_main, sum_over_processes, world
from utils.errors import UserError
from utils.numerics import constant
from utils.progress import Progress
from utils.settings import TrainSettings

TARGETS = ("mos", "sos", "dos", "database")


@dataclass(frozen=True)
class Losses:
    """The loss and its terms in one step; on a GPU they are copied asynchronously.

    Args:
        terms: Names of the terms.
        values: (T + 3,), on the CPU once `copied` is recorded: the terms, averaged over all processes; the number of
            processes that were asked to stop; the norm of the gradients; a value that is finite if the terms of this
            process are.
        copied: Event that marks the end of the copy, or None if nothing was copied asynchronously.
        epoch: Epoch of the step, from 1.
        step: Step within the epoch, from 1.
        batch: Batch of this process.
    """

    terms: tuple[str, ...]
    values: Tensor
    copied: torch.cuda.Event | None
    epoch: int
    step: int
    batch: dict[str, Any]

    def read(self) -> dict[str, float]:
        """Wait for the copy and return the values by name.

        Raises:
            NonFiniteError: A value or a gradient is not finite.
        """
        *means, _, norm, own = self._on_cpu().tolist()
        values = dict(zip(self.terms, means, strict=True))
        finite = all(map(math.isfinite, means))
        if finite and math.isfinite(norm):  # the same in all processes
            return values
        images = gathered([] if math.isfinite(own) and not finite else self.batch["name"])
        raise NonFiniteError("a gradient" if finite else "the loss", self.epoch, self.step, values, images, self.batch)

    def stopping(self) -> bool:
        """Return whether any process was asked to stop at this step."""
        return bool(self._on_cpu()[-3] > 0)

    def _on_cpu(self) -> Tensor:
        if self.copied is not None:
            self.copied.synchronize()
        return self.values


class Stepper:
    """Take training steps.

    On a GPU the losses of a step are read after the next step is queued, so that the GPU never waits for the CPU; on
    other devices before the weights change.

    Args:
        state: Training state, updated in place.
        loss: Loss function, called once per part of a batch.
        settings: Training settings.
    """

    def __init__(self, state: TrainingState, loss: JointLoss, settings: TrainSettings):
        self.state = state
        self.loss = loss
        self.parts = settings.accumulate
        self.autocast = settings.precision == BF16
        self.compiled = settings.compile
        replayed = self.parts == 1 and not is_distributed()  # a replay overwrites the gradients of the one before
        self.network = wrap_ddp(compiled(state.model, replayed=replayed) if self.compiled else state.model)
        self.no_sync = self.network.no_sync if is_distributed() else nullcontext  # processes then keep their gradients
        self.skip_limit = settings.skip_limit if settings.on_nonfinite == SKIP else 0
        self.late = state.device.type == "cuda" and not self.skip_limit
        self.unread: Losses | None = None
        self.asked_to_stop = False  # this process; shared with the losses
        self.stopping = False  # any process, according to the losses read

    def step(self, batch: dict[str, Any]) -> None:
        """Take one optimizer step.

        Raises:
            NonFiniteError: The loss or a gradient is not finite; on a GPU, that of the previous step.
        """
        self.state.optimizer.zero_grad(set_to_none=True)
        buffers = [buffer.clone() for buffer in self.state.model.buffers()] if self.skip_limit else []
        with compiling(COMPILE) if self.compiled else nullcontext():
            terms = self._gradients(batch)
        losses = self._start_copy(terms, self.state.clip(), batch)
        if self.late:
            self.state.update()
            self.read()
            self.unread = losses
            return
        self.unread = losses
        try:
            self.read()
        except NonFiniteError as error:
            if self.state.skipped >= self.skip_limit:
                raise
            self._skip(error, buffers)
        else:
            self.state.update()

    def read(self) -> None:
        """Read the losses of the last step, before saving and at the end of an epoch.

        Raises:
            NonFiniteError: The loss or a gradient is not finite.
        """
        losses, self.unread = self.unread, None
        if losses is not None:
            self.stopping = losses.stopping()
            self.state.count(losses.read())

    def _skip(self, error: NonFiniteError, buffers: Sequence[Tensor]) -> None:
        """Leave everything as it was before the step, also buffers such as BatchNorm's statistics."""
        for buffer, before in zip(self.state.model.buffers(), buffers, strict=True):
            buffer.copy_(before)
        self.state.skip()
        if is_main():
            tqdm.write(f"warning: {error}; step skipped", file=sys.stderr)

    def diagnose(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Return where values of a step are not finite, see `experiments.training.nonfinite.not_finite`.

        On a GPU, the weights have been updated since the step, and the gradients are those of the next one.
        """
        compiled, self.network = self.network, self.state.model  # a compiled network does not call hooks
        try:
            pixels = [batch[key].to(self.state.device) for key in ("image", DAMAGED) if key in batch]
            return not_finite(self.state, lambda: self._predicted(*pixels))
        finally:
            self.network = compiled

    def _gradients(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        """Compute the gradients of a batch, part by part; return the loss and its terms, averaged over the parts."""
        keys = [key for key in ("image", *TARGETS, DAMAGED, STRENGTHS) if key in batch]
        on_device = {key: batch[key].to(self.state.device, non_blocking=True) for key in keys}
        parts = zip(*(value.chunk(self.parts) for value in on_device.values()), strict=True)
        terms = []
        for number, values in enumerate(parts, start=1):
            part = dict(zip(keys, values, strict=True))
            with nullcontext() if number == self.parts else self.no_sync():
                part_terms = self.loss(self._predicted(part["image"], part.get(DAMAGED)), part)
                (part_terms["total"] / self.parts).backward()
            terms.append({name: term.detach() for name, term in part_terms.items()})
        return {name: torch.stack([part_terms[name] for part_terms in terms]).mean() for name in terms[0]}

    def _predicted(self, pixels: Tensor, damaged: Tensor | None = None) -> Tensor:
        """Return the DOS (B, K), float32, of pixels (B, 3, H, W), uint8.

        With damaged ones (R, 2, 3, H, W), theirs come last: (B + 2R, K).
        """
        back = None
        if damaged is not None:
            order = interleaved(len(pixels), len(damaged))
            back = constant(tuple(np.argsort(order).tolist()), torch.int64, pixels.device)
            order = constant(tuple(order), torch.int64, pixels.device)
            pixels = torch.cat([pixels, damaged.flatten(0, 1)])[order]  # (B + 2R, 3, H, W)
        with torch.autocast(pixels.device.type, torch.bfloat16, enabled=self.autocast):
            dos = self.network(to_images(pixels))
        return dos if back is None else dos[back]

    def _start_copy(self, terms: dict[str, Tensor], norm: Tensor, batch: dict[str, Any]) -> Losses:
        """Average the terms of the current step over processes and start their copy to the CPU."""
        own = torch.stack(list(terms.values()))  # (T,)
        summed = sum_over_processes(torch.cat([own / world(), own.new_full((1,), self.asked_to_stop)]))  # (T + 1,)
        values = torch.cat([summed, torch.stack([norm, own.sum()])]).to("cpu", non_blocking=True)  # (T + 3,)
        copied = None
        if self.state.device.type == "cuda":
            copied = torch.cuda.current_stream(self.state.device).record_event()
        return Losses(tuple(terms), values, copied, self.state.epoch + 1, self.state.step + 1, batch)


def wrap_ddp(model: torch.nn.Module) -> torch.nn.Module:
    """Return the network, wrapped to average gradients over processes if there are several."""
    if not is_distributed():
        return model
    device = next(model.parameters()).device
    # with channels-last maps, gradients of convolutions have other strides than the weights, which is harmless
    warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides")
    known = signature(DistributedDataParallel.__init__).parameters
    buffers = "forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers"  # from torch 2.14 on
    return DistributedDataParallel(
        model,
        device_ids=None if device.index is None else [device.index],
        gradient_as_bucket_view=True,
        find_unused_parameters=any(isinstance(module, TimmBackbone) for module in model.modules()),
        **{buffers: False},  # BatchNorm is synchronised already
    )


def compiled(model: torch.nn.Module, replayed: bool = True) -> torch.nn.Module:
    """Return the compiled network, see `models.compiling.compile_network`; what was compiled before is forgotten."""
    torch.compiler.reset()  # earlier splits count towards torch's limit of recompilations
    return compile_network(model, replayed)


def train_epoch(stepper: Stepper, loader: DataLoader, run: SplitRun) -> bool:
    """Train to the end of the current epoch; return False if it was interrupted, with everything saved.

    If training resumes after the last step of an epoch, there is no step to take.
    """
    state, config = stepper.state, run.config
    state.model.train()
    loader.sampler.set_position(state.epoch, state.step * config.train.batch_size)
    begun = time.monotonic() - state.seconds
    title, steps = f"epoch {state.epoch + 1}/{config.train.epochs}", state.step + len(loader)
    with diagnosis(run.folder, stepper.diagnose), Progress(title, steps, initial=state.step) as progress:
        for batch in batches(loader):
            stepper.asked_to_stop = run.interruption.requested
            stepper.step(batch)
            state.seconds = time.monotonic() - begun
            loss = {"loss": state.mean_losses()["total"]} if state.counted else {}
            progress.update(images=config.train.batch_size, **loss)
            interrupted = stepper.stopping if is_distributed() else run.interruption.requested
            due = config.train.save_steps and state.step % config.train.save_steps == 0
            if interrupted or (due and state.step < steps):  # main.py saves after the last step
                stepper.read()
                run.folder.save(config, state)
            if interrupted:
                return False
        stepper.read()
    if not state.counted:
        raise UserError(
            f"every step of epoch {state.epoch + 1} was skipped, since its loss or a gradient was not finite. {ADVICE}"
        )
    return True
