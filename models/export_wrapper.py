"""Exported network: from pixels to MOS, SOS and DOS, including normalisation.

B batch, H W image size, K bins.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from models.richiqa import RichIQA
from utils.imagenet import IMAGENET_MEAN, IMAGENET_STD
from utils.numerics import safe_sqrt


class ExportedNetwork(nn.Module):
    """Network with ImageNet normalisation before it and the moments of the DOS after it.

    Args:
        network: Network from normalised images (B, 3, H, W) to a DOS (B, K).
        bin_centers: Score of each of the K bins.
    """

    def __init__(self, network: RichIQA, bin_centers: Sequence[float]):
        super().__init__()
        self.network = network
        self.register_buffer("pixel_mean", torch.tensor(IMAGENET_MEAN)[:, None, None])  # (3, 1, 1)
        self.register_buffer("pixel_std", torch.tensor(IMAGENET_STD)[:, None, None])  # (3, 1, 1)
        self.register_buffer("bin_centers", torch.tensor(bin_centers, dtype=torch.float32))  # (K,)

    def forward(self, pixels: Tensor) -> dict[str, Tensor]:
        """Return `dos` (B, K), `mos` (B,) and `sos` (B,) of RGB pixels (B, 3, H, W) in 0..1."""
        dos = self.network((pixels - self.pixel_mean) / self.pixel_std)  # (B, K)
        mos = (dos * self.bin_centers).sum(1)  # (B,)
        variance = ((self.bin_centers - mos[:, None]) ** 2 * dos).sum(1)  # (B,)
        return {"dos": dos, "mos": mos, "sos": safe_sqrt(variance)}
