"""The charts of a report: curves over epochs, predictions and their errors.

N images, S splits, E epochs.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from datasets.scale import RatingScale
from utils.metrics import logistic
from utils.svg import Axis, Chart

FEW_EPOCHS = 10  # up to this many epochs, each is marked by a dot
GROUPS, GROUP = 10, 5  # groups of a running mean, and images in each, at least
MARGIN = 0.03  # of an axis beyond the scale, as a share of its range
LOG_RATIO = 20  # of the largest to the smallest value of a logarithmic axis, so that it has a tick

Array = np.ndarray


@dataclass(frozen=True)
class Series:
    """One quantity over the epochs, in every split.

    Args:
        name: Name in the legend.
        values: Values (S, E), NaN where undefined.
        look: Colour and dashes, see `utils.svg`.
    """

    name: str
    values: Array
    look: str = "dark"


def curves(
    title: str, series: Sequence[Series], label: str, ceiling: float | None = None, axis: str = "linear"
) -> Chart:
    """Return lines over epochs: each split thin, their mean thick.

    Args:
        title: Name of the chart.
        series: One or more series.
        label: Label of the vertical axis.
        ceiling: Level for comparison: the noise ceiling by bootstrap.
        axis: `linear`, `from zero` or `log`; `log` needs values above zero that differ by a factor of 20 or more.
    """
    values = np.concatenate([one.values.ravel() for one in series] + ([] if ceiling is None else [np.array([ceiling])]))
    count = series[0].values.shape[1]
    x = Axis("epoch", 1 - MARGIN * count, count + MARGIN * count, whole=True)
    chart = Chart(title, x, _value_axis(label, values[np.isfinite(values)], axis))
    epochs, dots = np.arange(1, count + 1), count <= FEW_EPOCHS
    for one in series:
        if len(one.values) > 1:
            for split_values in one.values:
                chart.line(epochs, split_values, f"{one.look} thin", dots=dots)
        chart.line(epochs, one.values.mean(0), one.look, one.name, dots=dots)
    if ceiling is not None:
        chart.level(ceiling, "reference", f"noise ceiling {ceiling:.3f}")
    if not any(np.isfinite(one.values).any() for one in series):
        chart.note = "not defined in any epoch"
    return chart


def scatter(quantity: str, pred: Array, target: Array, scale: RatingScale, fit: Array | None = None) -> Chart:
    """Return labels (N,) against predictions (N,) of `MOS` or `SOS`, with the diagonal and any logistic fit."""
    most = max(pred.max(), target.max(), MARGIN * (scale.high - scale.low)) * (1 + 2 * MARGIN)
    span = _span(scale, pred, target) if quantity == "MOS" else (0, most)
    x = Axis(f"predicted {quantity} ({scale_unit(scale)})", *span)
    chart = Chart(quantity, x, Axis(f"{quantity} label (points)", *span))
    chart.points(pred, target)
    chart.line(span, span, "reference", "label = prediction")
    if fit is not None:
        line = np.linspace(pred.min(), pred.max(), 100)
        chart.line(line, logistic(line, *fit), "dark", "logistic fit")
    return chart


def residuals(mapped: Array, target: Array, scale: RatingScale) -> Chart:
    """Return mapped prediction minus MOS label (N,), against the label, with the running mean."""
    residual = mapped - target
    most = max(np.abs(residual).max(), MARGIN * (scale.high - scale.low)) * (1 + 2 * MARGIN)
    x = Axis(f"MOS label ({scale_unit(scale)})", *_span(scale, target))
    chart = Chart("Residuals of MOS", x, Axis("prediction − label (points)", -most, most))
    chart.points(target, residual)
    chart.level(0, "reference", "no error")
    groups = np.array_split(np.argsort(target, kind="stable"), min(GROUPS, max(1, len(target) // GROUP)))
    if len(groups) > 1:
        means = np.array([(target[group].mean(), residual[group].mean()) for group in groups])
        chart.line(*means.T, "dark", "running mean", dots=True)
    return chart


def pit(shares: Sequence[float]) -> Chart:
    """Return the share of images in each tenth of the PIT, with the line of uniformity."""
    top = 1.06 * max(*shares, 1 / len(shares))
    x = Axis("share of the predicted distribution below the MOS label", 0, 1)
    chart = Chart("PIT histogram", x, Axis("share of images", 0, top))
    chart.bars(shares, "middle", "test images")
    chart.level(1 / len(shares), "reference", "uniform")
    return chart


def scale_unit(scale: RatingScale) -> str:
    """Return the unit of a rating scale, such as `points of 1 to 5`."""
    return f"points of {scale.low:g} to {scale.high:g}"


def _value_axis(label: str, finite: Array, kind: str) -> Axis:
    if len(finite) == 0:
        return Axis(label, 0, 1)
    if kind == "from zero":
        return Axis(label, 0, 1.06 * (finite.max() or 1))
    return Axis.around(label, finite, log=kind == "log" and finite.max() > LOG_RATIO * finite.min() > 0)


def _span(scale: RatingScale, *values: Array) -> tuple[float, float]:
    """Return the range of the scale, extended to the values, with a margin."""
    low, high = (extreme([end, *map(extreme, values)]) for extreme, end in ((min, scale.low), (max, scale.high)))
    room = MARGIN * (high - low)
    return low - room, high + room
