"""Activation checkpointing: recomputes activations in the backward pass, which trades time for memory."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint


def checkpoint_block(block: nn.Module, *inputs: Tensor | int) -> Tensor:
    """Return the output of a block without storing its activations, which are recomputed with the same random draws.

    Running statistics of BatchNorm are updated once per batch, as without checkpointing.
    """
    return checkpoint(block, *inputs, use_reentrant=False, context_fn=partial(_contexts, block))


def has_batch_norm(model: nn.Module) -> bool:
    """Return whether a network has BatchNorm, whose running statistics other checkpointing would update twice."""
    return any(isinstance(module, _BatchNorm) for module in model.modules())


def _contexts(block: nn.Module) -> tuple[AbstractContextManager, AbstractContextManager]:
    """Return the contexts of the forward pass and of the recomputation."""
    return nullcontext(), _restore_statistics(block)


@contextmanager
def _restore_statistics(block: nn.Module) -> Iterator[None]:
    """Undo updates of running statistics on exit; the original buffers are not written to."""
    norms = [module for module in block.modules() if isinstance(module, _BatchNorm)]
    own = [dict(norm._buffers) for norm in norms]
    for norm in norms:
        norm._buffers.update({name: buffer.clone() for name, buffer in norm._buffers.items() if buffer is not None})
    try:
        yield
    finally:
        for norm, buffers in zip(norms, own, strict=True):
            norm._buffers.update(buffers)
