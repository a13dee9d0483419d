"""Small numeric helpers on tensors."""

from functools import lru_cache

import torch
from torch import Tensor


def safe_sqrt(x: Tensor) -> Tensor:
    """Return the square root, with gradient 0 instead of infinity at 0; negative x (from rounding) counts as 0."""
    zero = x <= 0  # false for NaN, which is passed on
    return torch.where(zero, 0.0, torch.where(zero, 1.0, x).sqrt())


@lru_cache
def constant(values: tuple, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return a cached tensor of numbers, or of tuples of numbers, for each dtype and device."""
    with torch.inference_mode(False):  # cached here, used in training later
        return torch.tensor(values, dtype=dtype, device=device)


def at_least_float32(x: Tensor) -> Tensor:
    """Return the tensor, converted to float32 if it has 16 bits."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
