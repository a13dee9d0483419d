"""The figures of a report with what is to be said of them.

N images, S splits, E epochs.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from experiments.results import charts
from experiments.results.charts import Series
from experiments.results.lines import HYPOTHESIS_NOTE
from experiments.results.results import FinishedSplit, ScoredPart
from experiments.results.tables import CEILING_OF, heading_of, is_hypothetical
from utils.metrics import CENTRAL, as_numbers, fit_logistic, logistic
from utils.svg import Chart
from utils.tables import number

TERMS = {"total": "ink", "dos": "dark dashed", "mos": "middle", "sos": "middle dotted"}
RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")

Array = np.ndarray


@dataclass(frozen=True)
class Drawing:
    """A chart and its caption."""

    chart: Chart
    caption: str


def training_curves(splits: Sequence[FinishedSplit]) -> list[Drawing]:
    """Loss, SRCC, EMD and learning rate; where SRCC is a mean over databases, that of each as well."""
    thin = " Thin: each split; thick: their mean." if len(splits) > 1 else ""
    drawings = [
        _loss_curves(splits, thin),
        _metric_curves(splits, "srcc", None, thin),
        _metric_curves(splits, "emd", None, thin),
        _rate_curve(splits, thin),
    ]
    if len(splits[0].tests) > 1:
        drawings += [_metric_curves(splits, "srcc", number_of, thin) for number_of in range(len(splits[0].tests))]
    return drawings


def part_drawings(part: ScoredPart) -> list[Drawing]:
    """MOS, SOS, residuals and, where it is known, the PIT histogram."""
    pred, target = part.values("pred_mos"), part.values("target_mos")
    fit = fit_logistic(pred, target)
    mapped = pred if fit is None else logistic(pred, *fit)
    after = "after the logistic fit" if fit is not None else "without a fit, which failed or was not possible"
    metrics = {name: number(part.metrics.get(name)) for name in ("srcc", "plcc", "rmse", "sos_srcc", "sos_plcc")}
    hypothesis = f" {HYPOTHESIS_NOTE[0].upper()}{HYPOTHESIS_NOTE[1:]}." if is_hypothetical(part) else ""
    drawings = [
        Drawing(
            charts.scatter("MOS", pred, target, part.scale, fit),
            f"Label over prediction, {len(pred)} test images. SRCC {metrics['srcc']}; {after}: PLCC {metrics['plcc']}, "
            f"RMSE {metrics['rmse']}.",
        ),
        Drawing(
            charts.scatter("SOS", part.values("pred_sos"), part.values("target_sos"), part.scale),
            f"Label over prediction. SRCC {metrics['sos_srcc']}, PLCC {metrics['sos_plcc']}, without a fit."
            f"{hypothesis}",
        ),
        Drawing(
            charts.residuals(mapped, target, part.scale),
            f"Prediction less label, {after}. Falling from left to right is what any imperfect predictor does: "
            "it keeps to the middle.",
        ),
    ]
    if part.pit is not None:
        drawings.append(Drawing(charts.pit(part.pit), _pit_caption(part)))
    return drawings


def _loss_curves(splits: Sequence[FinishedSplit], thin: str) -> Drawing:
    values = {term: _over_epochs(splits, lambda record, term=term: record.get("train", {}).get(term)) for term in TERMS}
    series = [Series(term, values[term], TERMS[term]) for term in TERMS if np.isfinite(values[term]).any()]
    chart = charts.curves("Loss", series or [Series("total", values["total"])], "training loss", axis="log")
    return Drawing(chart, f"Joint loss of training and its unweighted terms.{thin}")


def _rate_curve(splits: Sequence[FinishedSplit], thin: str) -> Drawing:
    """In a power of ten, so that the numbers at the axis are short."""
    rates = _over_epochs(splits, lambda record: record.get("lr"))
    largest = np.nanmax(rates, initial=0)
    power = int(np.floor(np.log10(largest))) if largest > 0 else 0
    unit = f" (10{str(power).translate(RAISED)})" if power else ""
    series = [Series("learning rate", rates / 10.0**power)]
    chart = charts.curves("Learning rate", series, f"learning rate{unit}", axis="from zero")
    return Drawing(chart, f"At the end of each epoch.{thin}")


def _metric_curves(splits: Sequence[FinishedSplit], metric: str, number_of: int | None, thin: str) -> Drawing:
    """Test and validation part, of one database, or the mean over all."""
    is_mean = number_of is None and len(splits[0].tests) > 1
    tests = [split.tests[number_of or 0] for split in splits]
    title = tests[0].title if number_of is not None else None

    def pick(part: str) -> Callable[[dict], float | None]:
        def value(record: dict[str, Any]) -> float | None:
            of_part = record.get(part) or {}
            return (of_part if title is None else of_part.get("databases", {}).get(title, {})).get(metric)

        return value

    series = [Series("test", _over_epochs(splits, pick("test")))]
    validation = _over_epochs(splits, pick("validation"))
    if np.isfinite(validation).any():
        series.append(Series("validation", validation, "middle dashed"))
    ceilings = as_numbers([test.ceiling.get(CEILING_OF[metric]) for test in tests])
    ceiling = float(ceilings.mean()) if not is_mean else np.nan
    axis = "from zero" if metric == "emd" else "linear"
    known = np.isfinite(ceiling)
    of = f", {title}" if title is not None else ", mean over the databases" if is_mean else ""
    name = f"{heading_of(metric)} by epoch{of}"
    chart = charts.curves(name, series, heading_of(metric), ceiling if known else None, axis)
    on = " and the ".join(one.name for one in series)
    estimate = " Noise ceiling of the test part: by bootstrap, which is optimistic." if known else ""
    return Drawing(chart, f"On the {on} part.{thin}{estimate}")


def _over_epochs(splits: Sequence[FinishedSplit], pick: Callable[[dict], float | None]) -> Array:
    """(S, E), NaN where there is no value."""
    values = np.full((len(splits), max(len(split.log) for split in splits)), np.nan)
    for row, split in zip(values, splits, strict=True):
        row[: len(split.log)] = as_numbers([pick(record) for record in split.log])
    return values


def _pit_caption(part: ScoredPart) -> str:
    covered = [
        f"{100 * value:.1f} % in the central {share} %"
        for share in CENTRAL
        if (value := part.metrics.get(f"coverage_{share}")) is not None
    ]
    coverage = f" Coverage, MOS labels within the predicted distribution: {', '.join(covered)}." if covered else ""
    return (
        "Single opinions would be uniform under a perfect prediction. The MOS is a mean of many and lies near the "
        f"middle of their distribution, so a peak in the middle is as it should be.{coverage}"
    )
