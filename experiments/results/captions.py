"""What a report draws of its splits, with captions; charts.py draws it.

N images, S splits, E epochs.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from experiments.results import charts
from experiments.results.charts import Series
from experiments.results.lines import HYPOTHESIS_NOTE
from experiments.results.results import FinishedSplit, ScoredPart
from experiments.results.tables import CEILING_KEYS, is_hypothetical, metric_heading
from utils.metrics import CENTRAL, as_numbers, fit_logistic, logistic
from utils.svg import Chart
from utils.tables import number

TERMS = {"total": "ink", "dos": "dark dashed", "mos": "middle", "sos": "middle dotted"}
RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")

Array = np.ndarray
Drawing = tuple[Chart, str]  # with its caption


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
    thin = " Thin: each split; thick: their mean." if len(splits) > 1 else ""
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
            charts.scatter("MOS", pred, target, part.scale, fit),
            f"Label against prediction, {len(pred)} test images. SRCC {metrics['srcc']}; {after}: PLCC "
            f"{metrics['plcc']}, RMSE {metrics['rmse']}.",
        ),
        (
            charts.scatter("SOS", part.values("pred_sos"), part.values("target_sos"), part.scale),
            f"Label against prediction. SRCC {metrics['sos_srcc']}, PLCC {metrics['sos_plcc']}, without a fit."
            f"{hypothesis}",
        ),
        (
            charts.residuals(mapped, target, part.scale),
            f"Prediction minus label, {after}. Any imperfect predictor falls from left to right, since it predicts "
            "towards the middle.",
        ),
    ]
    if part.pit is not None:
        drawings.append((charts.pit(part.pit), _pit_caption(part)))
    return drawings


def _loss_curves(splits: Sequence[FinishedSplit]) -> Drawing:
    series = [Series(term, _over_epochs(splits, f"train.{term}"), look) for term, look in TERMS.items()]
    defined = [one for one in series if np.isfinite(one.values).any()]
    chart = charts.curves("Loss", defined or series[:1], "training loss", axis="log")
    return chart, "Training loss and its unweighted terms.{thin}"


def _rate_curve(splits: Sequence[FinishedSplit]) -> Drawing:
    """Return the learning rate, scaled by a power of ten to keep the axis labels short."""
    rates = _over_epochs(splits, "lr")
    largest = np.nanmax(rates, initial=0)
    power = int(np.floor(np.log10(largest))) if largest > 0 else 0
    unit = f" (10{str(power).translate(RAISED)})" if power else ""
    series = [Series("learning rate", rates / 10.0**power)]
    chart = charts.curves("Learning rate", series, f"learning rate{unit}", axis="from zero")
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
    chart = charts.curves(f"{heading} by epoch{of}", series, heading, ceiling, axis)
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
