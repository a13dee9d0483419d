"""Confidence intervals of the metrics by bootstrap over units of images, without a loop over resamples.

R resamples, N images, U units, G groups of equal values. A resample is how often it draws each image: a row of weights
(R, N).
"""

from collections.abc import Hashable, Iterator, Sequence

import numpy as np

from utils.metrics import fit_logistic, logistic, per_image_metrics

Array = np.ndarray

RESAMPLES = 1000
LEVEL = 0.95
CHUNK = 4_000_000  # numbers in one array of weights
BLOCK = 8_000_000  # numbers in one array of signs


def confidence_intervals(
    pred: dict[str, Array],
    target: dict[str, Array],
    centers: Array,
    units: Sequence[Hashable] | None = None,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> dict[str, tuple[float, float]]:
    """Percentile intervals of 95 % for every metric of `utils.metrics.split_metrics`, by name.

    The logistic fit of `plcc` and `rmse` is made once, on all images, and kept: an interval says what other images of
    the same kind would change, not what another fit would.

    Args:
        pred: `mos` (N,), `sos` (N,) and, if it has the bins of the labels, `dos` (N, K), lowest score first.
        target: The same, with `dos`.
        centers: Score of each bin (K,), rising.
        units: Of each image (N,) what is drawn with all its images, such as the scene; None: each image is a unit.
            Versions of one scene are alike, so that drawing single images would promise too much. Of few units, below
            20 or so, the intervals are still somewhat too narrow.
        seed: Of the draws.
        resamples: How many.

    Returns:
        Both ends; `(nan, nan)` where a metric is not defined, and for all of them where there is only one unit.

    Source: Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13; Davison and Hinkley, Bootstrap
        Methods and their Application, 1997, section 3.8 (whole groups).
    """
    pred_mos, target_mos, pred_sos, target_sos = (
        np.asarray(side[key], dtype=np.float64) for key in ("mos", "sos") for side in (pred, target)
    )
    fitted = fit_logistic(pred_mos, target_mos)
    mapped = pred_mos if fitted is None else logistic(pred_mos, *fitted)
    images = per_image_metrics(pred["dos"], target, centers) if "dos" in pred else {}
    drawn: dict[str, list[Array]] = {}
    unit_of = _numbered(range(len(pred_mos)) if units is None else units)
    for weights in _resamples(unit_of, resamples, np.random.default_rng(seed)):
        values = {
            **_of_mos(weights, pred_mos, mapped, target_mos),
            "sos_srcc": _pearson(weights, _ranks(weights, pred_sos), _ranks(weights, target_sos)),
            "sos_plcc": _pearson(weights, pred_sos, target_sos),
            **{name: _mean(weights, of_images) for name, of_images in images.items()},
        }
        for name, of_chunk in values.items():
            drawn.setdefault(name, []).append(of_chunk)
    if unit_of.max() == 0:
        return dict.fromkeys(drawn, (float("nan"), float("nan")))
    return {name: _percentiles(np.concatenate(chunks)) for name, chunks in drawn.items()}


def _of_mos(weights: Array, pred: Array, mapped: Array, target: Array) -> dict[str, Array]:
    """Metrics of MOS (R,) from predictions (N,), the same after the logistic fit, and labels."""
    return {
        "srcc": _pearson(weights, _ranks(weights, pred), _ranks(weights, target)),
        "plcc": _pearson(weights, mapped, target),
        "krcc": _kendall(weights, pred, target),
        "rmse": np.sqrt(_mean(weights, (mapped - target) ** 2)),
        "plcc_raw": _pearson(weights, pred, target),
        "rmse_raw": np.sqrt(_mean(weights, (pred - target) ** 2)),
    }


def _numbered(units: Sequence[Hashable]) -> Array:
    """The unit of each image as a number (N,), in the order in which the units first come."""
    numbers: dict[Hashable, int] = {}
    return np.array([numbers.setdefault(unit, len(numbers)) for unit in units])


def _resamples(unit_of: Array, resamples: int, generator: np.random.Generator) -> Iterator[Array]:
    """Weights (r, N) of all resamples, in chunks that fit into memory; images of one unit (N,) have the same."""
    units = int(unit_of.max()) + 1
    chunk = max(1, CHUNK // len(unit_of))
    for start in range(0, resamples, chunk):
        count = min(chunk, resamples - start)
        drawn = generator.integers(0, units, (count, units)) + np.arange(count)[:, None] * units
        of_units = np.bincount(drawn.ravel(), minlength=count * units).reshape(count, units)
        yield of_units.take(unit_of, axis=1).astype(np.float64)


def _mean(weights: Array, x: Array) -> Array:
    """Mean (R,) of values (N,), or of (R, N) where each resample has its own."""
    return (weights @ x if x.ndim == 1 else (weights * x).sum(1)) / weights.sum(1)


def _pearson(weights: Array, x: Array, y: Array) -> Array:
    """Pearson's correlation (R,) of (N,) or (R, N) values; NaN where a resample is constant."""
    x, y = (v - (v.mean() if v.ndim == 1 else _mean(weights, v)[:, None]) for v in (x, y))
    mean_x, mean_y = _mean(weights, x), _mean(weights, y)
    spread = [np.maximum(_mean(weights, v**2) - mean**2, 0) for v, mean in ((x, mean_x), (y, mean_y))]
    negligible = [s <= 1e-12 * _mean(weights, v**2) for s, v in zip(spread, (x, y), strict=True)]
    with np.errstate(invalid="ignore", divide="ignore"):
        correlation = (_mean(weights, x * y) - mean_x * mean_y) / np.sqrt(spread[0] * spread[1])
    return np.where(negligible[0] | negligible[1], np.nan, np.clip(correlation, -1, 1))


def _group_weights(weights: Array, x: Array) -> tuple[Array, Array]:
    """How often a resample draws each distinct value, (R, G), smallest first; and the group of each image, (N,)."""
    _, group_of, sizes = np.unique(x, return_inverse=True, return_counts=True)
    starts = np.cumsum(sizes) - sizes
    return np.add.reduceat(weights[:, np.argsort(x, kind="stable")], starts, axis=1), group_of.ravel()


def _ranks(weights: Array, x: Array) -> Array:
    """Mean rank (R, N) of each image within each resample."""
    groups, group_of = _group_weights(weights, x)
    return (groups.cumsum(1) - groups + (groups + 1) / 2)[:, group_of]


def _kendall(weights: Array, x: Array, y: Array) -> Array:
    """Kendall's tau-b (R,): concordant less discordant pairs are a quadratic form of the weights."""
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
    """Both ends of the interval, over the resamples in which the metric is defined."""
    values = values[np.isfinite(values)]
    if len(values) == 0:
        return float("nan"), float("nan")
    low, high = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)
