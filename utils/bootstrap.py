"""Bootstrap confidence intervals of the metrics, vectorised over resamples.

R resamples, N images, U units, G groups of equal values. A resample is a row of weights (R, N): how often it draws each
image.
"""

from collections.abc import Hashable, Iterator, Sequence

import numpy as np
import pandas as pd

from utils.metrics import fit_logistic, logistic, per_image_metrics

Array = np.ndarray

RESAMPLES = 1000
LEVEL = 0.95
CHUNK = 4_000_000  # largest number of weights at once
BLOCK = 8_000_000  # largest number of signs at once


def confidence_intervals(
    pred: dict[str, Array],
    target: dict[str, Array],
    centers: Array,
    units: Sequence[Hashable] | None = None,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> dict[str, tuple[float, float]]:
    """Return 95 % percentile intervals for every metric of `utils.metrics.split_metrics`, by name.

    The logistic fit for `plcc` and `rmse` is made once, on all images: intervals reflect the choice of images, not of
    the fit.

    Args:
        pred: `mos` (N,), `sos` (N,) and, if the bins match those of the labels, `dos` (N, K), lowest score first.
        target: Labels `mos`, `sos` and `dos`.
        centers: Score of each bin (K,), increasing.
        units: Unit of each image (N,), such as its scene, whose images are drawn together; None: each image is a unit.
            Versions of a scene are similar, so drawing single images would give intervals that are too narrow. With
            fewer than about 20 units they are still somewhat too narrow.
        seed: Seed of the draws.
        resamples: Number of resamples.

    Returns:
        Both ends; `(nan, nan)` if a metric is not defined, and for all metrics if there is only one unit.

    Source: Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13; Davison and Hinkley, Bootstrap
        Methods and their Application, 1997, section 3.8 (whole groups).
    """
    pred_mos, target_mos, pred_sos, target_sos = (
        np.asarray(side[key], dtype=np.float64) for key in ("mos", "sos") for side in (pred, target)
    )
    fitted = fit_logistic(pred_mos, target_mos)
    mapped = pred_mos if fitted is None else logistic(pred_mos, *fitted)
    images = per_image_metrics(pred["dos"], target, centers) if "dos" in pred else {}
    samples: dict[str, list[Array]] = {}
    unit_ids, _ = pd.factorize(np.arange(len(pred_mos)) if units is None else np.array(units, dtype=object))
    for weights in _resamples(unit_ids, resamples, np.random.default_rng(seed)):
        values = {
            **_mos_metrics(weights, pred_mos, mapped, target_mos),
            "sos_srcc": _pearson(weights, _ranks(weights, pred_sos), _ranks(weights, target_sos)),
            "sos_plcc": _pearson(weights, pred_sos, target_sos),
            **{name: _mean(weights, per_image) for name, per_image in images.items()},
        }
        for name, chunk in values.items():
            samples.setdefault(name, []).append(chunk)
    if unit_ids.max() == 0:
        return dict.fromkeys(samples, (float("nan"), float("nan")))
    return {name: _percentiles(np.concatenate(chunks)) for name, chunks in samples.items()}


def _mos_metrics(weights: Array, pred: Array, mapped: Array, target: Array) -> dict[str, Array]:
    """Return the MOS metrics (R,) from predictions (N,), raw and after the logistic fit, and labels."""
    return {
        "srcc": _pearson(weights, _ranks(weights, pred), _ranks(weights, target)),
        "plcc": _pearson(weights, mapped, target),
        "krcc": _kendall(weights, pred, target),
        "rmse": np.sqrt(_mean(weights, (mapped - target) ** 2)),
        "plcc_raw": _pearson(weights, pred, target),
        "rmse_raw": np.sqrt(_mean(weights, (pred - target) ** 2)),
    }


def _resamples(unit_ids: Array, resamples: int, generator: np.random.Generator) -> Iterator[Array]:
    """Yield the weights of all resamples in chunks (r, N) that fit into memory; images of a unit share a weight."""
    units = int(unit_ids.max()) + 1
    chunk = max(1, CHUNK // len(unit_ids))
    for start in range(0, resamples, chunk):
        count = min(chunk, resamples - start)
        drawn = generator.integers(0, units, (count, units)) + np.arange(count)[:, None] * units
        unit_weights = np.bincount(drawn.ravel(), minlength=count * units).reshape(count, units)
        yield unit_weights.take(unit_ids, axis=1).astype(np.float64)


def _mean(weights: Array, x: Array) -> Array:
    """Return the mean (R,) of values (N,), or of values (R, N) that differ by resample."""
    return (weights @ x if x.ndim == 1 else (weights * x).sum(1)) / weights.sum(1)


def _pearson(weights: Array, x: Array, y: Array) -> Array:
    """Return Pearson's correlation (R,) of values (N,) or (R, N); NaN if a resample is constant."""
    x, y = (v - (v.mean() if v.ndim == 1 else _mean(weights, v)[:, None]) for v in (x, y))
    mean_x, mean_y = _mean(weights, x), _mean(weights, y)
    spread = [np.maximum(_mean(weights, v**2) - mean**2, 0) for v, mean in ((x, mean_x), (y, mean_y))]
    negligible = [s <= 1e-12 * _mean(weights, v**2) for s, v in zip(spread, (x, y), strict=True)]
    with np.errstate(invalid="ignore", divide="ignore"):
        correlation = (_mean(weights, x * y) - mean_x * mean_y) / np.sqrt(spread[0] * spread[1])
    return np.where(negligible[0] | negligible[1], np.nan, np.clip(correlation, -1, 1))


def _group_weights(weights: Array, x: Array) -> tuple[Array, Array]:
    """Return how often a resample draws each distinct value (R, G), smallest first, and each image's group (N,)."""
    _, group_ids, sizes = np.unique(x, return_inverse=True, return_counts=True)
    starts = np.cumsum(sizes) - sizes
    return np.add.reduceat(weights[:, np.argsort(x, kind="stable")], starts, axis=1), group_ids.ravel()


def _ranks(weights: Array, x: Array) -> Array:
    """Return the mean rank (R, N) of each image within each resample."""
    groups, group_ids = _group_weights(weights, x)
    return (groups.cumsum(1) - groups + (groups + 1) / 2)[:, group_ids]


def _kendall(weights: Array, x: Array, y: Array) -> Array:
    """Return Kendall's tau-b (R,); concordant minus discordant pairs are a quadratic form of the weights."""
    images = len(x)
    single = weights.astype(np.float32)
    concordance = np.zeros(len(weights))
    block = max(1, BLOCK // images)
    for start in range(0, images, block):
        rows = slice(start, start + block)
        signs = (np.sign(x[rows, None] - x) * np.sign(y[rows, None] - y)).astype(np.float32)
        concordance += (weights[:, rows] * (single @ signs.T)).sum(1)
    pairs = weights.sum(1) ** 2
    untied = [pairs - (_group_weights(weights, v)[0] ** 2).sum(1) for v in (x, y)]
    with np.errstate(invalid="ignore", divide="ignore"):
        return concordance / np.sqrt(untied[0] * untied[1])


def _percentiles(values: Array) -> tuple[float, float]:
    """Return both ends of the interval over the resamples in which the metric is defined."""
    values = values[np.isfinite(values)]
    if len(values) == 0:
        return float("nan"), float("nan")
    low, high = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)
