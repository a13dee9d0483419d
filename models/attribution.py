"""Attribution: the contribution of each position of the maps to the logits and to MOS.

B batch, H W image size, C_s width of stage s, H_s W_s size of its map, N_s = H_s W_s, K bins.

The algorithmic path averages the maps, divides by their norm, and is linear after that. So its logits are a sum over
the positions p of all maps, with W_s the columns of W2 W1 for stage s:

    logits_alg = sum_s sum_p l_s[p] + constant,   l_s[p] = W_s X_s[p] / (N_s ||f||_2),   constant = W2 b1 + b2

The sum is exact. But the features of a position depend on more of the image than that position; with attention, on all
of it. The terms show where the network stores what it uses, not which pixels caused it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from models.richiqa import RichIQA
from utils.numerics import constant

NORM_EPS = 1e-12  # that of F.normalize in the model


@dataclass(frozen=True)
class Contributions:
    """Logits of the algorithmic path as a sum of terms by position.

    Args:
        dos: DOS (B, K) predicted by both paths.
        logits_alg: Sum of all terms and the constant, (B, K).
        constant: Constant term, the same for every image, (K,).
        stage_logits: Terms by position, (B, K, H_s, W_s), for each stage that feeds the head.
        direct_share: Factor of the algorithmic logits in the prediction: their weight 1 - w, or 1 without a memory
            path, over the temperature.
    """

    dos: Tensor
    logits_alg: Tensor
    constant: Tensor
    stage_logits: list[Tensor]
    direct_share: float


def contributions(model: RichIQA, pixels: Tensor) -> Contributions:
    """Decompose the algorithmic logits of normalised images (B, 3, H, W); the model must be in evaluation mode."""
    maps = model.backbone(pixels)  # list of (B, C_s, H_s, W_s)
    features = model.pool(maps)  # (B, C)
    norm = features.norm(dim=1).clamp_min(NORM_EPS)  # (B,)
    first, second = model.algorithmic
    maps = [maps[stage - 1] for stage in model.stages]
    stage_logits = []
    for grid, weight in zip(maps, (second.weight @ first.weight).split([x.shape[1] for x in maps], dim=1), strict=True):
        terms = torch.einsum("kc,bchw->bkhw", weight, grid)  # (B, K, H_s, W_s)
        stage_logits.append(terms / (grid[0, 0].numel() * norm[:, None, None, None]))
    return Contributions(
        dos=model.logits(features).softmax(dim=1),  # (B, K)
        logits_alg=model.algorithmic(F.normalize(features, dim=1)),  # (B, K)
        constant=second(first.bias),  # (K,)
        stage_logits=stage_logits,
        direct_share=(1.0 if model.memory is None else 1 - model.memory_weight) / model.temperature,
    )


def mos_map(parts: Contributions, centers: Sequence[float], size: tuple[int, int]) -> Tensor:
    """Return the first-order contribution of each pixel to MOS.

    With p the predicted DOS and c the bin centres, d MOS / d logits_k = p_k (c_k - MOS). The contribution of a position
    is the sum of its terms times these and times the share of the algorithmic path, over all stages. If terms grow by
    a small fraction e, MOS changes by e times their contribution. The norm of the features is treated as fixed.

    The contribution of a position is distributed over the pixels with the weights of bilinear interpolation, and its
    sum is preserved. Positions are assumed to tile the image evenly, although strided convolutions with padding reach
    up to half a position further to the upper left.

    Args:
        parts: Decomposed logits of B images, from `contributions`.
        centers: Score of each of the K bins, `RatingScale.bin_centers`.
        size: H and W of the images given to `contributions`.

    Returns:
        Map (B, H, W) in points of the rating scale per pixel; positive values raise MOS. The sum of a map and the
        contribution of the constant is sum_k p_k (c_k - MOS) logits_alg_k, times the share of the algorithmic path.

    Raises:
        ValueError: The size is smaller than a map.
    """
    slope = parts.direct_share * mos_slope(parts.dos, centers)  # (B, K)
    total = 0
    for grid in parts.stage_logits:
        by_position = torch.einsum("bk,bkhw->bhw", slope, grid)  # (B, H_s, W_s)
        rows, columns = (_spread(few, many, grid) for few, many in zip(grid.shape[2:], size, strict=True))
        total = total + torch.einsum("bhw,hy,wx->byx", by_position, rows, columns)  # (B, H, W)
    return total


def mos_slope(dos: Tensor, centers: Sequence[float]) -> Tensor:
    """Return the derivative of MOS by each logit, (B, K), for a DOS (B, K): p_k (c_k - MOS)."""
    scores = constant(tuple(centers), dos.dtype, dos.device)  # (K,)
    mos = (dos * scores).sum(dim=1, keepdim=True)  # (B, 1)
    return dos * (scores - mos)


def _spread(few: int, many: int, like: Tensor) -> Tensor:
    """Return the weights that distribute positions over pixels along one side: (few, many), rows summing to 1."""
    if many < few:
        raise ValueError(
            f"size: a map of {few} positions along a side cannot be drawn on {many} pixels; give the input's H and W"
        )
    unit = torch.eye(few, dtype=like.dtype, device=like.device)[None]  # (1, few, few)
    weights = F.interpolate(unit, size=many, mode="linear", align_corners=False)[0]  # (few, many)
    return weights / weights.sum(dim=1, keepdim=True)
