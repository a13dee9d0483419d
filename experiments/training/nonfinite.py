"""Losses and gradients that are not finite: the error, and a diagnosis that is saved before the run stops."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from experiments.training.run_folder import RunFolder
from experiments.training.state import TrainingState
from utils.distributed import main_process_only
from utils.errors import UserError
from utils.files import to_json, write_text

SKIP = "skip"
DIAGNOSIS = "nonfinite.json"
ADVICE = (
    "Start again with a smaller optim.lr, with optim.clip_norm=1 or in another train.precision; "
    "train.on_nonfinite=skip skips single steps of this kind"
)


class NonFiniteError(UserError):
    """The loss or a gradient of a step is not finite.

    Args:
        what: `the loss` or `a gradient`.
        epoch: Epoch of the step, from 1.
        step: Step within the epoch, from 1.
        terms: The loss and its terms.
        images: Names of the images concerned, of all processes.
        batch: Batch of this process.
    """

    def __init__(
        self, what: str, epoch: int, step: int, terms: dict[str, float], images: Sequence[str], batch: dict[str, Any]
    ):
        values = ", ".join(f"{name} {value}" for name, value in terms.items())
        super().__init__(f"{what} is not finite in epoch {epoch}, step {step}: {values}; images: {', '.join(images)}")
        self.facts = {"what": what, "epoch": epoch, "step": step, "loss": terms, "images": list(images)}
        self.batch = batch


@contextmanager
def diagnosis(folder: RunFolder, describe: Callable[[dict[str, Any]], dict[str, Any]]) -> Iterator[None]:
    """Write a diagnosis into the folder of the split if a NonFiniteError ends the block.

    Args:
        folder: Folder of the split.
        describe: Returns what is known of a step from its batch.

    Raises:
        UserError: The same error, with the path of the diagnosis and what to do.
    """
    try:
        yield
    except NonFiniteError as error:
        path = folder.path / DIAGNOSIS
        content = error.facts | describe(error.batch)  # in every process, since BatchNorm may be synchronised
        main_process_only(write_text)(path, to_json(content, indent=1) + "\n")
        raise UserError(f"{error}. {ADVICE}. {path} describes the step") from error


def not_finite(state: TrainingState, forward: Callable[[], Any]) -> dict[str, Any]:
    """Return where values are not finite.

    Args:
        state: State of the training.
        forward: Passes a batch through its network.

    Returns:
        `learning_rates`; `weights` and `gradients`, the names of those that are not finite; `module`, the first one
        whose output is not finite, None if there is none; `largest_input`, the largest absolute value that went into
        it.
    """
    found = {"module": None, "largest_input": None}

    def look(name: str, inputs: Any, output: Any) -> None:
        if found["module"] is None and not all(map(_is_finite, _tensors(output))):
            largest = [tensor.abs().max().item() for tensor in _tensors(inputs) if tensor.numel()]
            found.update(module=name, largest_input=max(largest, default=None))

    handles = [
        module.register_forward_hook(lambda _module, inputs, output, name=name: look(name, inputs, output))
        for name, module in state.model.named_modules()
        if next(module.children(), None) is None
    ]
    try:
        with torch.no_grad():
            forward()
    finally:
        for handle in handles:
            handle.remove()
    return {
        "learning_rates": [group["lr"] for group in state.optimizer.param_groups],
        "weights": _names(state.model.state_dict().items()),
        "gradients": _names(_gradients(state.model)),
        **found,
    }


def _gradients(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    return ((name, weight.grad) for name, weight in model.named_parameters() if weight.grad is not None)


def _names(named: Iterable[tuple[str, Tensor]]) -> list[str]:
    return [name for name, tensor in named if not _is_finite(tensor)]


def _is_finite(tensor: Tensor) -> bool:
    return bool(tensor.isfinite().all())


def _tensors(value: Any) -> list[Tensor]:
    """Return the tensors in the inputs or outputs of a module."""
    if isinstance(value, Tensor):
        return [value]
    return [tensor for item in value for tensor in _tensors(item)] if isinstance(value, (tuple, list)) else []
