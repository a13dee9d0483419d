"""Calibration: a temperature for the predicted distributions, fitted on a validation part.

softmax(logits / T) is proportional to p^(1/T), so that the predictions p are enough.

Source: Guo et al., On Calibration of Modern Neural Networks, ICML 2017.
"""

import warnings
from collections.abc import Sequence

import numpy as np
from scipy.optimize import minimize_scalar

from utils.settings import Config

LIMITS = (-2.0, 2.0)  # of the logarithm of the temperature
NEAR = 0.01  # of a limit
SMALLEST_SHARE = 1e-30  # of a bin, before its logarithm

Array = np.ndarray


def tempered(dos: Array, temperature: float) -> Array:
    """Return distributions (N, K) as they are with their logits divided by a temperature."""
    logits = np.log(np.maximum(dos, SMALLEST_SHARE)) / temperature
    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    return shares / shares.sum(axis=1, keepdims=True)


def fit_temperature(pred_dos: Sequence[Array], target_dos: Sequence[Array]) -> float:
    """Return the temperature with the least mean cross-entropy of labels (N, K) and tempered predictions (N, K).

    Args:
        pred_dos: Predictions of each database, from exp(-2) to exp(2) times as sharp as they should be.
        target_dos: Labels of each database, with the bins in the same order.
    """
    pred, target = np.concatenate(pred_dos), np.concatenate(target_dos)

    def cross_entropy(log_temperature: float) -> float:
        shares = tempered(pred, np.exp(log_temperature))
        return -(target * np.log(np.maximum(shares, SMALLEST_SHARE))).sum(axis=1).mean()

    log_temperature = minimize_scalar(cross_entropy, bounds=LIMITS, method="bounded").x
    if min(abs(log_temperature - limit) for limit in LIMITS) < NEAR:
        warnings.warn(
            f"calibration: the temperature is at its limit, {np.exp(log_temperature):.3g}; the network has hardly "
            "learned, or is far too sure",
            stacklevel=2,
        )
    return float(np.exp(log_temperature))


def calibrated(config: Config, temperature: float | None) -> Config:
    """Return a config whose network has its temperature multiplied by a fitted one."""
    if temperature is None:
        return config
    model = config.model.model_copy(update={"temperature": config.model.temperature * temperature})
    return config.model_copy(update={"model": model})
