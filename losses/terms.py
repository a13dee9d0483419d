"""The three terms of the joint loss: EMD of the DOS, absolute error of the MOS, squared error of the SOS.

B batch, K bins. All return a scalar >= 0, with a finite gradient everywhere. `weight` (B,) multiplies each image's term
in the mean.

Source: Min et al., RichIQA, arXiv 2409.05540; Hossfeld et al., SOS: The MOS is not enough!, QoMEX 2011.
"""

from torch import Tensor

from utils.numerics import safe_sqrt


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


def hypothesis_sos(mos: Tensor, low: Tensor | float, high: Tensor | float, a: Tensor | float) -> Tensor:
    """Return the SOS of the SOS hypothesis for a MOS (any shape): sqrt(a (MOS - low)(high - MOS)).

    Differs: at both ends of the scale the gradient is 0; the release's is infinite.
    """
    return safe_sqrt(a * (mos - low) * (high - mos))
