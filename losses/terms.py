"""The terms of the joint loss: EMD of the DOS, absolute error of the MOS, squared error of the SOS, ranking of damage.

B batch, R images that also come damaged, K bins. All return a scalar >= 0, with a finite gradient everywhere. `weight`
(B,) multiplies each image's term in the mean.

Source: Min et al., RichIQA, arXiv 2409.05540; Hossfeld et al., SOS: The MOS is not enough!, QoMEX 2011.
"""

import torch
from torch import Tensor

from utils.numerics import safe_sqrt

RANK_MARGIN = 0.25  # share of the quality of an intact image that the strongest damage costs at least


def emd(pred_dos: Tensor, target_dos: Tensor, weight: Tensor | float = 1.0) -> Tensor:
    """Return the earth mover's distance (r = 2) of distributions (B, K), averaged over B: the RMS of CDF differences.

    Between 0 (equal) and sqrt((K - 1) / K) (all mass at opposite ends).

    Differs: the gradient is 0 if prediction and target are equal; the release's is NaN.
    """
    difference = pred_dos.cumsum(-1) - target_dos.cumsum(-1)  # (B, K)
    return (weight * safe_sqrt((difference**2).mean(-1))).mean()


def mos_error(pred_mos: Tensor, target_mos: Tensor, weight: Tensor | float = 1.0) -> Tensor:
    """Return the mean absolute error of MOS (B,) against MOS (B,), in units of the rating scale."""
    return (weight * (pred_mos - target_mos).abs()).mean()


def sos_error(pred_sos: Tensor, target_sos: Tensor, weight: Tensor | float = 1.0) -> Tensor:
    """Return the mean squared error of SOS (B,) against SOS (B,), in squared units of the rating scale."""
    return (weight * (pred_sos - target_sos) ** 2).mean()


def rank_error(pred: Tensor, damaged: Tensor, strengths: Tensor, weight: Tensor | float = 1.0) -> Tensor:
    """Return how far damaged images are from being worse than intact ones, and the more so the stronger the damage.

    A hinge for each step from the intact image to the weaker and to the stronger damage: a step that is stronger by s
    has to cost at least RANK_MARGIN * s of the quality of the intact image, to which no gradient flows.

    Args:
        pred: Predicted quality (R,) of intact images, from 0 (worst) to 1 (best).
        damaged: The same (R, 2) of the image with weaker and with stronger damage.
        strengths: Strengths (R, 2) of the damage, from 0 to 1, rising.
        weight: Factor (R,) of each image.
    """
    intact = pred.detach()[:, None]  # (R, 1)
    cost = -torch.cat([intact, damaged], dim=1).diff(dim=1)  # (R, 2)
    steps = torch.cat([torch.zeros_like(intact), strengths], dim=1).diff(dim=1)  # (R, 2)
    missing = (RANK_MARGIN * steps * intact - cost).relu().sum(1)  # (R,)
    return (weight * missing).mean()


def hypothesis_sos(mos: Tensor, low: Tensor | float, high: Tensor | float, a: Tensor | float) -> Tensor:
    """Return the SOS of the SOS hypothesis for a MOS (any shape): sqrt(a (MOS - low)(high - MOS)).

    Differs: at both ends of the scale the gradient is 0; the release's is infinite.
    """
    return safe_sqrt(a * (mos - low) * (high - mos))
