"""The three terms of the joint loss, as functions of tensors.

B batch, K bins. All return a scalar >= 0, with a finite gradient everywhere. `weight` (B,) multiplies the share of each
image in the mean.

Source: Min et al., RichIQA, arXiv 2409.05540; Hossfeld et al., SOS: The MOS is not enough!, QoMEX 2011.
"""

from torch import Tensor

from utils.numerics import safe_sqrt


def emd(pred_dos: Tensor, target_dos: Tensor, weight: Tensor | float = 1.0) -> Tensor:
    """Earth mover's distance (r = 2) of distributions (B, K), (B, K): per image the root mean squared CDF difference.

    Between 0 (equal) and sqrt((K - 1) / K) (all mass at opposite ends); averaged over the batch. Where prediction
    equals target the gradient is 0; the release's is NaN there.
    """
    difference = pred_dos.cumsum(-1) - target_dos.cumsum(-1)  # (B, K)
    return (weight * safe_sqrt((difference**2).mean(-1))).mean()


def mos_error(pred_mos: Tensor, target_mos: Tensor, weight: Tensor | float = 1.0) -> Tensor:
    """Mean absolute error of MOS (B,) against MOS (B,), in units of the rating scale."""
    return (weight * (pred_mos - target_mos).abs()).mean()


def sos_error(pred_sos: Tensor, target_sos: Tensor, weight: Tensor | float = 1.0) -> Tensor:
    """Mean squared error of SOS (B,) against SOS (B,), in squared units of the rating scale."""
    return (weight * (pred_sos - target_sos) ** 2).mean()


def hypothesis_sos(mos: Tensor, low: Tensor | float, high: Tensor | float, a: Tensor | float) -> Tensor:
    """SOS that the SOS hypothesis gives a MOS (any shape): sqrt(a (MOS - low)(high - MOS)).

    0 with gradient 0 at both ends of the scale, where the release's gradient is infinite.
    """
    return safe_sqrt(a * (mos - low) * (high - mos))
