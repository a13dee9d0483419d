"""The rating scale: the one place that knows what a bin stands for."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from utils.errors import UserError
from utils.numerics import safe_sqrt

Array = np.ndarray


@dataclass(frozen=True)
class RatingScale:
    """Ends of the scale and the score that each bin stands for, lowest first.

    Args:
        low: Lowest possible score.
        high: Highest possible score.
        bin_centers: Score of each of the K bins, rising, within low..high.
        higher_is_better: False for DMOS-like scores.

    Raises:
        UserError: Ends or centres out of order.
    """

    low: float
    high: float
    bin_centers: tuple[float, ...]
    higher_is_better: bool = True

    def __post_init__(self):
        object.__setattr__(self, "bin_centers", tuple(float(center) for center in self.bin_centers))
        object.__setattr__(self, "low", float(self.low))
        object.__setattr__(self, "high", float(self.high))
        ordered = [self.low, *self.bin_centers, self.high]
        inside = self.low <= self.bin_centers[0] and self.bin_centers[-1] <= self.high if self.bin_centers else False
        rising = all(a < b for a, b in zip(self.bin_centers, self.bin_centers[1:], strict=False))
        if not (np.isfinite(ordered).all() and self.low < self.high and self.num_bins >= 2 and rising and inside):
            raise UserError(
                f"scale: low {self.low:g}, high {self.high:g}, bin_centers {list(self.bin_centers)} is not a rating "
                "scale; give low < high and at least two rising centres within them"
            )

    @property
    def num_bins(self) -> int:
        """K."""
        return len(self.bin_centers)

    def mean(self, dos: Tensor | Array) -> Tensor | Array:
        """MOS (B,) of distributions (B, K): sum_k c_k p_k."""
        return (dos * self._centers_like(dos)).sum(-1)

    def std(self, dos: Tensor | Array) -> Tensor | Array:
        """SOS (B,) of distributions (B, K): sqrt(sum_k (c_k - mean)^2 p_k); its gradient is 0 where it is 0."""
        variance = ((self._centers_like(dos) - self.mean(dos)[..., None]) ** 2 * dos).sum(-1)
        return safe_sqrt(variance) if isinstance(dos, Tensor) else np.sqrt(np.maximum(variance, 0))

    def bin_of(self, scores: Array) -> Array:
        """Index of the bin that contains each score; bins meet half-way between centres, the lower owns the edge."""
        edges = (np.array(self.bin_centers[1:]) + self.bin_centers[:-1]) / 2
        return np.searchsorted(edges, scores, side="left")

    def describe(self) -> str:
        """`1 to 5, higher is better`."""
        return f"{self.low:g} to {self.high:g}, {'higher' if self.higher_is_better else 'lower'} is better"

    def _centers_like(self, dos: Tensor | Array) -> Tensor | Array:
        if isinstance(dos, Tensor):
            return _centers_tensor(self.bin_centers, dos.dtype, dos.device)
        return np.array(self.bin_centers)


@lru_cache
def _centers_tensor(centers: tuple[float, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    with torch.inference_mode(False):  # cached here, used in training later
        return torch.tensor(centers, dtype=dtype, device=device)
