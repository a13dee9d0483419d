"""Small numeric helpers on tensors and arrays."""

from functools import lru_cache

import numpy as np
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


def bin_edges(centers: np.ndarray) -> np.ndarray:
    """Return where the bins with these centres (K,) end, (K + 1,): half-way, and as far beyond the outer ones."""
    middles = (centers[1:] + centers[:-1]) / 2
    return np.array([2 * centers[0] - middles[0], *middles, 2 * centers[-1] - middles[-1]])
