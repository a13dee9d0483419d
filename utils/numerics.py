"""Small numeric helpers on tensors."""

import torch
from torch import Tensor


def safe_sqrt(x: Tensor) -> Tensor:
    """Square root whose gradient is 0, not infinite, where x is 0; a negative x (rounding) counts as 0. Any shape."""
    positive = x > 0
    return torch.where(positive, torch.where(positive, x, 1.0).sqrt(), 0.0)
