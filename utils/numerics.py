"""Small numeric helpers on tensors and arrays."""

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor


def safe_sqrt(x: Tensor) -> Tensor:
    """Square root whose gradient is 0, not infinite, where x is 0; a negative x (rounding) counts as 0. Any shape."""
    zero = x <= 0  # not true of NaN, which goes through
    return torch.where(zero, 0.0, torch.where(zero, 1.0, x).sqrt())


@lru_cache
def constant(values: tuple, dtype: torch.dtype, device: torch.device) -> Tensor:
    """A tensor of numbers, or of tuples of them, made once for each kind and device."""
    with torch.inference_mode(False):  # cached here, used in training later
        return torch.tensor(values, dtype=dtype, device=device)


def at_least_float32(x: Tensor) -> Tensor:
    """The same numbers, those of 16 bits in float32. Any shape."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def bin_edges(centers: np.ndarray) -> np.ndarray:
    """Return where the bins with these centres (K,) end, (K + 1,): half-way, and as far beyond the outer ones."""
    middles = (centers[1:] + centers[:-1]) / 2
    return np.array([2 * centers[0] - middles[0], *middles, 2 * centers[-1] - middles[-1]])
