"""Small numeric helpers on tensors."""

import torch
from torch import Tensor


def safe_sqrt(x: Tensor) -> Tensor:
    """Square root whose gradient is 0, not infinite, where x is 0; a negative x (rounding) counts as 0. Any shape."""
    zero = x <= 0  # not true of NaN, which goes through
    return torch.where(zero, 0.0, torch.where(zero, 1.0, x).sqrt())
