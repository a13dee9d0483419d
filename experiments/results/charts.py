"""The charts of a report, with captions: curves over epochs, predictions and their errors.

N images, S splits, E epochs.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from datasets.scale import RatingScale
from experiments.results.lines import HYPOTHESIS_NOTE
from experiments.results.results import FinishedSplit, ScoredPart
from experiments.results.tables import CEILING_KEYS, is_hypothetical, metric_heading, scale_unit
from utils.metrics import CENTRAL, as_numbers, fit_logistic, logistic
from utils.svg import Axis, Chart
from utils.tables import number

TERMS = {"total": "ink", "dos": "dark dashed", "mos": "middle", "sos": "middle dotted", "rank": "dark dotted"}
RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
FEW_EPOCHS = 10  # up to this many epochs, each is marked by a dot
GROUPS, GROUP = 10, 5  # groups of a running mean, and images in each, at least
MARGIN = 0.03  # of an axis beyond the scale, as a share of its range
LOG_RATIO = 20  # of the largest to the smallest value of a logarithmic axis, so that it has a tick

Array = np.ndarray
Drawing = tuple[Chart, str]  # with its caption


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


def training_curves(splits: Sequence[FinishedSplit]) -> list[Drawing]:
    """Return the curves of loss, SRCC, EMD and learning rate; with several databases also the SRCC of each."""
    drawings = [
        _loss_curves(splits),
        _metric_curves(splits, "srcc", None),
        _metric_curves(splits, "emd", None),
        _rate_curve(splits),
    ]
    if len(splits[0].tests) > 1:
        drawings += [_metric_curves(splits, "srcc", index) for index in range(len(splits[0].tests))]
    thin = " Thin: each split; thick: their mean." if len(splits) > 1 else ""  # its place in each caption is {thin}
    return [(chart, caption.format(thin=thin)) for chart, caption in drawings]


def part_drawings(part: ScoredPart) -> list[Drawing]:
    """Return the charts of MOS, SOS, residuals and, if known, the PIT histogram."""
    pred, target = part.values("pred_mos"), part.values("target_mos")
    fit = fit_logistic(pred, target)
    mapped = pred if fit is None else logistic(pred, *fit)
    after = "after the logistic fit" if fit is not None else "without the logistic fit, which failed"
    metrics = {name: number(part.metrics.get(name)) for name in ("srcc", "plcc", "rmse", "sos_srcc", "sos_plcc")}
    hypothesis = f" {HYPOTHESIS_NOTE[0].upper()}{HYPOTHESIS_NOTE[1:]}." if is_hypothetical(part) else ""
    drawings = [
        (
            scatter("MOS", pred, target, part.scale, fit),
            f"Label against prediction, {len(pred)} test images. SRCC {metrics['srcc']}; {after}: PLCC "
            f"{metrics['plcc']}, RMSE {metrics['rmse']}.",
        ),
        (
            scatter("SOS", part.values("pred_sos"), part.values("target_sos"), part.scale),
            f"Label against prediction. SRCC {metrics['sos_srcc']}, PLCC {metrics['sos_plcc']}, without a fit."
            f"{hypothesis}",
        ),
        (
            residuals(mapped, target, part.scale),
            f"Prediction minus label, {after}. Any imperfect predictor falls from left to right, since it predicts "
            "towards the middle.",
        ),
    ]
    if part.pit is not None:
        drawings.append((pit(part.pit), _pit_caption(part)))
    return drawings


def _loss_curves(splits: Sequence[FinishedSplit]) -> Drawing:
    series = [Series(term, _over_epochs(splits, f"train.{term}"), look) for term, look in TERMS.items()]
    defined = [one for one in series if np.isfinite(one.values).any()]
    chart = curves("Loss", defined or series[:1], "training loss", axis="log")
    return chart, "Training loss and its unweighted terms.{thin}"


def _rate_curve(splits: Sequence[FinishedSplit]) -> Drawing:
    """Return the learning rate, scaled by a power of ten to keep the axis labels short."""
    rates = _over_epochs(splits, "lr")
    largest = np.nanmax(rates, initial=0)
    power = int(np.floor(np.log10(largest))) if largest > 0 else 0
    unit = f" (10{str(power).translate(RAISED)})" if power else ""
    series = [Series("learning rate", rates / 10.0**power)]
    chart = curves("Learning rate", series, f"learning rate{unit}", axis="from zero")
    return chart, "At the end of each epoch.{thin}"


def _metric_curves(splits: Sequence[FinishedSplit], metric: str, database_index: int | None) -> Drawing:
    """Return a metric on the test and validation part, for one database or the mean over all."""
    is_mean = database_index is None and len(splits[0].tests) > 1
    tests = [split.tests[database_index or 0] for split in splits]
    name = metric if database_index is None else f"databases.{tests[0].title}.{metric}"
    series = [Series("test", _over_epochs(splits, f"test.{name}"))]
    validation = _over_epochs(splits, f"validation.{name}")
    if np.isfinite(validation).any():
        series.append(Series("validation", validation, "middle dashed"))
    ceilings = as_numbers([test.ceiling.get(CEILING_KEYS[metric]) for test in tests])
    known = not is_mean and bool(np.isfinite(ceilings.mean()))
    axis = "from zero" if metric == "emd" else "linear"
    of = ", mean over the databases" if is_mean else "" if database_index is None else f", {tests[0].title}"
    heading = metric_heading(metric)
    ceiling = float(ceilings.mean()) if known else None
    chart = curves(f"{heading} by epoch{of}", series, heading, ceiling, axis)
    on = " and the ".join(one.name for one in series)
    estimate = " Noise ceiling of the test part by bootstrap, which is optimistic." if known else ""
    return chart, f"On the {on} part.{{thin}}{estimate}"


def _over_epochs(splits: Sequence[FinishedSplit], column: str) -> Array:
    """Return a column of the log of each split, (S, E), NaN where it is missing."""
    values = [split.log.get(column, pd.Series(dtype=np.float64)) for split in splits]
    epochs = max(len(split.log) for split in splits)
    return pd.concat(values, axis="columns").reindex(range(epochs)).to_numpy(dtype=np.float64).T


def _pit_caption(part: ScoredPart) -> str:
    covered = [
        f"{100 * value:.1f} % in the central {share} %"
        for share in CENTRAL
        if (value := part.metrics.get(f"coverage_{share}")) is not None
    ]
    coverage = f" Coverage, MOS labels within the predicted distribution: {', '.join(covered)}." if covered else ""
    return (
        "With perfect predictions, the PIT of single opinions is uniform. The MOS is a mean of many opinions and lies "
        f"near the middle of their distribution, so a peak in the middle is expected.{coverage}"
    )


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
