"""RichIQA: an image to the distribution of its opinion scores.

B batch, H W image size, C = sum of the stage widths, K bins.

Source: Min et al., Exploring Rich Subjective Quality Information for Image Quality Assessment in the Wild,
IEEE TCSVT 2025, arXiv 2409.05540.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.memory import MemoryPath


class RichIQA(nn.Module):
    """RichIQA network: backbone, multi-level features, algorithmic path and memory path.

    Args:
        backbone: Network from images (B, 3, H, W) to a list of maps (B, C_i, H_i, W_i); its `widths` are the C_i.
        memory: Memory path from pooled features (B, C) to logits (B, K), or None for no memory path.
        stages: Stages whose maps feed the head, counted from 1.
        num_bins: Number of bins K.
        memory_weight: Weight w in `(1 - w) logits_alg + w logits_mem`. The release uses 0.001, so the memory path has
            little effect at inference: it moves a MOS by about 0.001 on a scale of 1 to 5.
        temperature: Divisor of the logits; 1 in the release.
    """

    def __init__(
        self,
        backbone: nn.Module,
        memory: MemoryPath | None,
        stages: Sequence[int],
        num_bins: int = 5,
        memory_weight: float = 0.001,
        temperature: float = 1.0,
    ):
        super().__init__()
        width = sum(backbone.widths[stage - 1] for stage in stages)
        self.stages = tuple(stages)
        self.memory_weight = memory_weight
        self.temperature = temperature
        self.backbone = backbone
        self.algorithmic = nn.Sequential(nn.Linear(width, width), nn.Linear(width, num_bins))
        self.memory = memory

    def features(self, images: Tensor) -> Tensor:
        """Return the multi-level features f (B, C): the concatenated spatial means of the selected maps."""
        return self.pool(self.backbone(images))  # (B, C)

    def pool(self, maps: Sequence[Tensor]) -> Tensor:
        """Return the features (B, C) of the backbone's maps, (B, C_i, H_i, W_i) each."""
        # contiguous, since torch sums contiguous memory pairwise, which is more accurate
        means = [maps[stage - 1].contiguous().mean(dim=(2, 3)) for stage in self.stages]  # list of (B, C_i)
        return torch.cat(means, dim=1)  # (B, C)

    def logits(self, features: Tensor) -> Tensor:
        """Return the logits over the bins (B, K) of the features (B, C)."""
        logits = self.algorithmic(F.normalize(features, dim=1))  # (B, K)
        if self.memory is not None:
            logits = (1 - self.memory_weight) * logits + self.memory_weight * self.memory(features)  # (B, K)
        return logits if self.temperature == 1 else logits / self.temperature  # (B, K)

    def forward(self, images: Tensor) -> Tensor:
        """Return the predicted DOS (B, K) of normalised images (B, 3, H, W); rows sum to 1, lowest score first.

        Under autocast only the backbone runs below float32.
        """
        maps = self.backbone(images)  # (B, C_i, H_i, W_i)
        kind = images.device.type
        if not torch.is_autocast_enabled(kind):
            return self.head(maps)
        with torch.autocast(kind, enabled=False):
            return self.head([grid.float() for grid in maps])

    def head(self, maps: Sequence[Tensor]) -> Tensor:
        """Return the DOS (B, K) of the backbone's maps, (B, C_i, H_i, W_i) each."""
        return self.logits(self.pool(maps)).softmax(dim=1)  # (B, K)
