"""What each position of the maps adds to the logits and to MOS: where in an image a score comes from.

B batch, H W image size, C_s width of stage s, H_s W_s size of its map, N_s = H_s W_s, K bins.

The algorithmic path averages the maps, divides by one number, and is linear from there on. So its logits are a sum over
the positions p of all maps, with W_s the columns of W2 W1 that read stage s:

    logits_alg = sum_s sum_p l_s[p] + constant,   l_s[p] = W_s X_s[p] / (N_s ||f||_2),   constant = W2 b1 + b2

Nothing is approximated, but a position's features have seen more of the image than that position, with attention all of
it: the parts say where the network keeps what it uses, not which pixels caused it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from models.richiqa import RichIQA
from utils.numerics import constant

NORM_EPS = 1e-12  # of F.normalize, which the model divides by


@dataclass(frozen=True)
class Contributions:
    """The logits of the algorithmic path in parts, and what they become.

    Args:
        dos: Predicted DOS (B, K), of both paths.
        logits_alg: Sum of all parts and the constant, (B, K).
        constant: The same for every image, (K,).
        by_stage: Of each stage that feeds the head, the parts by position, (B, K, H_s, W_s).
        direct_share: How much of the algorithmic logits enters the prediction, 1 - w; 1 without a memory path.
    """

    dos: Tensor
    logits_alg: Tensor
    constant: Tensor
    by_stage: list[Tensor]
    direct_share: float


def contributions(model: RichIQA, pixels: Tensor) -> Contributions:
    """Splits the algorithmic logits of normalised images (B, 3, H, W); the model is in evaluation mode."""
    maps = model.backbone(pixels)  # list of (B, C_s, H_s, W_s)
    features = model.pool(maps)  # (B, C)
    norm = features.norm(dim=1).clamp_min(NORM_EPS)  # (B,)
    first, second = model.algorithmic
    maps = [maps[stage - 1] for stage in model.stages]
    by_stage = []
    for grid, weight in zip(maps, (second.weight @ first.weight).split([x.shape[1] for x in maps], dim=1), strict=True):
        parts = torch.einsum("kc,bchw->bkhw", weight, grid)  # (B, K, H_s, W_s)
        by_stage.append(parts / (grid[0, 0].numel() * norm[:, None, None, None]))
    return Contributions(
        dos=model.logits(features).softmax(dim=1),  # (B, K)
        logits_alg=model.algorithmic(F.normalize(features, dim=1)),  # (B, K)
        constant=second(first.bias),  # (K,)
        by_stage=by_stage,
        direct_share=1.0 if model.memory is None else 1 - model.memory_weight,
    )


def mos_map(parts: Contributions, centers: Sequence[float], size: tuple[int, int]) -> Tensor:
    """First-order contribution of each pixel to MOS.

    With p the predicted DOS and c the bin centres, d MOS / d logits_k = p_k (c_k - MOS). A position's parts times
    these, and times the share of the algorithmic path, are its contribution; all stages are added up. Where parts grow
    by a small share e, MOS moves by e times what they contribute. The norm that divides the features counts as fixed.

    Each position's contribution is spread over the pixels as bilinear interpolation would weigh it, and divided so that
    its sum stays: a map of a stage is divided by the pixels per position. Positions are taken to tile the image evenly.
    Strided convolutions with padding look up to half a position further to the upper left.

    Args:
        parts: Of B images.
        centers: Score of each of the K bins, `RatingScale.bin_centers`.
        size: H and W, those of the images that `contributions` got.

    Returns:
        (B, H, W), points of the rating scale per pixel; positive raises MOS. The sum over a map and the constant's own
        contribution are together sum_k p_k (c_k - MOS) logits_alg_k, times the share of the algorithmic path.

    Raises:
        ValueError: A size smaller than a map.
    """
    slope = parts.direct_share * mos_slope(parts.dos, centers)  # (B, K)
    total = 0
    for grid in parts.by_stage:
        by_position = torch.einsum("bk,bkhw->bhw", slope, grid)  # (B, H_s, W_s)
        rows, columns = (_spread(few, many, grid) for few, many in zip(grid.shape[2:], size, strict=True))
        total = total + torch.einsum("bhw,hy,wx->byx", by_position, rows, columns)  # (B, H, W)
    return total


def mos_slope(dos: Tensor, centers: Sequence[float]) -> Tensor:
    """Derivative of MOS along each logit, (B, K), of a DOS (B, K): p_k (c_k - MOS)."""
    scores = constant(tuple(centers), dos.dtype, dos.device)  # (K,)
    mos = (dos * scores).sum(dim=1, keepdim=True)  # (B, 1)
    return dos * (scores - mos)


def _spread(few: int, many: int, like: Tensor) -> Tensor:
    """How much of each position goes to each pixel along one side: (few, many), rows summing to 1."""
    if many < few:
        raise ValueError(
            f"size: a map of {few} positions along a side cannot be drawn on {many} pixels; give the input's H and W"
        )
    unit = torch.eye(few, dtype=like.dtype, device=like.device)[None]  # (1, few, few)
    weights = F.interpolate(unit, size=many, mode="linear", align_corners=False)[0]  # (few, many)
    return weights / weights.sum(dim=1, keepdim=True)
