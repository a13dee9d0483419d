"""Rating scale: the only place that knows the score of a bin."""

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from utils.errors import UserError
from utils.numerics import bin_edges, constant, safe_sqrt
from utils.settings import ScaleSettings

ROUNDING = 5e-7  # relative to the width of a scale: a few units in the last place of float32

Array = np.ndarray


@dataclass(frozen=True)
class RatingScale:
    """Rating scale: its ends and the score of each bin, lowest first.

    Args:
        low: Lowest possible score.
        high: Highest possible score.
        bin_centers: Score of each of the K bins, rising, within low..high.
        higher_is_better: False for DMOS-like scores.

    Raises:
        UserError: The ends or centres are out of order.
    """

    low: float
    high: float
    bin_centers: tuple[float, ...]
    higher_is_better: bool = True

    def __post_init__(self):
        object.__setattr__(self, "bin_centers", tuple(float(center) for center in self.bin_centers))
        object.__setattr__(self, "low", float(self.low))
        object.__setattr__(self, "high", float(self.high))
        if self.low < self.high:
            object.__setattr__(self, "bin_centers", tuple(map(self.without_rounding, self.bin_centers)))
        ordered = [self.low, *self.bin_centers, self.high]
        steps = np.diff(ordered) if self.num_bins >= 2 and np.isfinite(ordered).all() else np.array([-1])
        if steps.min() < 0 or 0 in steps[1:-1]:  # the outer centres may lie at the ends
            raise UserError(
                f"scale: low {self.low:g}, high {self.high:g}, bin_centers {list(self.bin_centers)} is not a rating "
                "scale; give low < high and at least two rising centres within them"
            )

    @classmethod
    def from_settings(cls, settings: ScaleSettings) -> "RatingScale":
        """The scale that a config states."""
        return cls(**settings.model_dump())

    @property
    def num_bins(self) -> int:
        """Number of bins K."""
        return len(self.bin_centers)

    @property
    def edges(self) -> Array:
        """Edges of the bins (K + 1,), lowest first."""
        return bin_edges(np.array(self.bin_centers))

    def mean(self, dos: Tensor | Array) -> Tensor | Array:
        """Return MOS (B,) of distributions (B, K): sum_k c_k p_k."""
        return mean_on(dos, self._centers_like(dos))

    def std(self, dos: Tensor | Array) -> Tensor | Array:
        """Return SOS (B,) of distributions (B, K): sqrt(sum_k (c_k - mean)^2 p_k). Its gradient at 0 is 0."""
        return std_on(dos, self._centers_like(dos))

    def bin_index(self, scores: Array) -> Array:
        """Return the index of the bin that contains each score; an edge belongs to the lower bin."""
        return np.searchsorted(self.edges[1:-1], scores, side="left")

    def normalised(self, score: float | Array) -> float | Array:
        """Return where a score lies on the scale, from 0 for the worst to 1 for the best."""
        share = (score - self.low) / (self.high - self.low)
        return share if self.higher_is_better else 1 - share

    def without_rounding(self, score: float) -> float:
        """Return a score, or the end of the scale that it lies beyond by a rounding error."""
        nearest = min(max(score, self.low), self.high)
        return nearest if abs(score - nearest) <= ROUNDING * (self.high - self.low) else score

    def describe(self) -> str:
        """Return the scale as text: `1 to 5, higher is better`."""
        return f"{self.low:g} to {self.high:g}, {'higher' if self.higher_is_better else 'lower'} is better"

    def _centers_like(self, dos: Tensor | Array) -> Tensor | Array:
        if isinstance(dos, Tensor):
            return constant(self.bin_centers, dos.dtype, dos.device)
        return np.array(self.bin_centers)


def mean_on(dos: Tensor | Array, centers: Tensor | Array) -> Tensor | Array:
    """Return MOS (B,) of distributions (B, K) on bin centres (K,), or (B, K) if each image has its own scale."""
    return (dos * centers).sum(-1)


def std_on(dos: Tensor | Array, centers: Tensor | Array) -> Tensor | Array:
    """Return SOS (B,) of distributions; arguments as for `mean_on`."""
    variance = ((centers - mean_on(dos, centers)[..., None]) ** 2 * dos).sum(-1)
    return safe_sqrt(variance) if isinstance(dos, Tensor) else np.sqrt(np.maximum(variance, 0))
