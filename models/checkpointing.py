"""Activations computed twice instead of kept, which trades time for memory in training."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint


def recomputed(block: nn.Module, *inputs: Tensor | int) -> Tensor:
    """What a block gives, without keeping what is in it: that is computed again for the gradient, from the same draws.

    Running statistics of BatchNorm count a batch once, as they do without.
    """
    return checkpoint(block, *inputs, use_reentrant=False, context_fn=partial(_contexts, block))


def has_batch_norm(model: nn.Module) -> bool:
    """Whether a network keeps running statistics, which being computed again by others than us would count twice."""
    return any(isinstance(module, _BatchNorm) for module in model.modules())


def _contexts(block: nn.Module) -> tuple[AbstractContextManager, AbstractContextManager]:
    """Of the first time and of the second."""
    return nullcontext(), _statistics_kept(block)


@contextmanager
def _statistics_kept(block: nn.Module) -> Iterator[None]:
    """Whatever happens to running statistics within is undone; what was there is not written to."""
    norms = [module for module in block.modules() if isinstance(module, _BatchNorm)]
    own = [dict(norm._buffers) for norm in norms]
    for norm in norms:
        norm._buffers.update({name: buffer.clone() for name, buffer in norm._buffers.items() if buffer is not None})
    try:
        yield
    finally:
        for norm, buffers in zip(norms, own, strict=True):
            norm._buffers.update(buffers)
