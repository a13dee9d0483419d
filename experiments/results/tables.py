"""The tiles and tables of a report, as text; an undefined number is a dash."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from datasets.scale import RatingScale
from experiments.results.lines import HYPOTHESIS_NOTE, SELECTION_NOTES, SOS_METRICS, SUMMARY, selection_note
from experiments.results.results import FinishedSplit, ScoredPart
from experiments.results.statistics import describe
from utils.metrics import BETTER, HIGHER, IN_UNITS, LOWER, as_numbers, metric_title
from utils.tables import DASH, mean_std, number

HEADLINE = ("srcc", "plcc", "rmse", "sos_srcc", "emd")
# keys of the noise ceiling by metric; the ceiling of PLCC is without the logistic fit
CEILING_KEYS = {"srcc": "mos_srcc", "plcc": "mos_plcc", "plcc_raw": "mos_plcc"}
CEILING_KEYS |= {name: name for name in ("sos_srcc", "sos_plcc", "emd")}
CEILINGS = {  # by prefix in metrics.json: name and meaning
    "": ("bootstrap", "what a perfect predictor would reach if the votes were the true distribution: optimistic"),
    "split_half_": ("split half", "the same, estimated from two halves of the voters"),
}
WITHOUT_FIT = "noise ceiling without the fit"
TILE_DIGITS = 3
OPTIMISTIC = "release"  # selection that uses the test labels


@dataclass(frozen=True)
class Tile:
    """One headline number, and lines below it, of which some may be empty: spread, unit, noise ceiling, a note."""

    heading: str
    value: str
    lines: list[str]


@dataclass(frozen=True)
class Row:
    """One row of a table: name, cells, a remark below the name and a mark beside it."""

    name: str
    cells: list[str]
    remark: str = ""
    mark: str = ""


@dataclass(frozen=True)
class Table:
    """A table of text with a note below; the first column has no heading."""

    title: str
    columns: list[str]
    rows: list[Row]
    note: str = ""


def mean_std_text(values: Sequence[float | None]) -> str:
    """Return mean and standard deviation of several values as text, or a single value."""
    mean, std, _ = describe(as_numbers(list(values)))
    return mean_std(mean, std)


def scale_unit(scale: RatingScale) -> str:
    """Return the unit of a rating scale, such as `points of 1 to 5`."""
    return f"points of {scale.low:g} to {scale.high:g}"


def metric_heading(metric: str) -> str:
    """Return the heading of a metric, such as `SRCC ↑`; the arrow shows the better direction."""
    arrow = {HIGHER: " ↑", LOWER: " ↓"}.get(BETTER.get(metric), "")
    return f"{metric_title(metric)}{arrow}"


def tiles(splits: Sequence[FinishedSplit], database_index: int | None) -> list[Tile]:
    """Return the headline of a database (index from 0), or of the mean over all."""
    tested = [split if database_index is None else split.tests[database_index] for split in splits]
    parts = [part for split in splits for part in split.tests] if database_index is None else tested
    made = []
    for name in [name for name in HEADLINE if database_index is not None or name not in IN_UNITS]:
        values = as_numbers([one.metrics.get(name) for one in tested])
        unit = scale_unit(parts[0].scale) if name in IN_UNITS else ""
        ceiling = "" if database_index is None else ceiling_text(name, parts)
        note = HYPOTHESIS_NOTE if name in SOS_METRICS and any(is_hypothetical(part) for part in parts) else ""
        lines = [_spread(name, values, parts), unit, ceiling, note]
        made.append(Tile(metric_heading(name), number(values.mean(), TILE_DIGITS), lines))
    return made


def ceiling_text(name: str, parts: Sequence[ScoredPart]) -> str:
    """Return both noise ceilings of a metric in words, averaged over parts; empty if they are unknown."""
    ceilings = {way: [_ceiling(part, name, start) for part in parts] for start, (way, _) in CEILINGS.items()}
    means = {way: as_numbers(values).mean() for way, values in ceilings.items()}
    if not np.isfinite(means["bootstrap"]):
        return ""
    both = ", ".join(f"{number(mean, TILE_DIGITS)} by {way}" for way, mean in means.items())
    return f"{WITHOUT_FIT if name == 'plcc' else 'noise ceiling'} {both}"


def resampled_units(parts: Sequence[ScoredPart]) -> str:
    """Return in words what the bootstrap draws: `the 12 references, each with all its images`."""
    drawn = []
    for part in parts:
        unit, count = part.units["unit"], part.units["count"]
        of = f" of {part.title}" if len(parts) > 1 else ""
        whole = "" if unit == "image" else ", each with all its images"
        one = f"one {unit.replace('_', ' ')}{of}, too few for an interval"
        drawn.append(one if count == 1 else f"the {count} {unit.replace('_', ' ')}s{of}{whole}")
    return "; ".join(drawn)


def is_hypothetical(part: ScoredPart) -> bool:
    """Return whether the SOS labels are computed from the MOS labels by the SOS hypothesis."""
    return part.origin["labels"]["sos"] == "hypothesis"


def selections_table(splits: Sequence[FinishedSplit], database_index: int | None) -> Table:
    """Return the metrics of every selection and the noise ceilings, for a database (from 0) or the mean over all."""
    parts = [] if database_index is None else [split.tests[database_index] for split in splits]
    by_split = [part.selections for part in parts] or [split.metrics["selections"] for split in splits]
    names = [name for name in SUMMARY if database_index is not None or name not in IN_UNITS]
    rows = []
    for selection in (name for name in by_split[0] if all(name in scores for scores in by_split)):
        cells = [mean_std_text([scores[selection].get(name) for scores in by_split]) for name in names]
        whole = splits[0].metrics["selections"][selection]
        remark = selection_note(selection, whole) if len(splits) == 1 else SELECTION_NOTES[selection]
        rows.append(Row(selection, cells, remark, "optimistic" if selection == OPTIMISTIC else ""))
    known = [part for part in parts if part.ceiling]
    for start, (way, remark) in CEILINGS.items() if known else ():
        cells = [mean_std_text([_ceiling(part, name, start) for part in known]) for name in names]
        rows.append(Row(f"noise ceiling, {way}", cells, f"{remark}; PLCC without the fit"))
    title = parts[0].title if parts else "Mean over the databases"
    hypothetical = any(is_hypothetical(part) for part in parts or [part for split in splits for part in split.tests])
    note = f"SOS SRCC: {HYPOTHESIS_NOTE}." if hypothetical else ""
    return Table(title, [metric_heading(name) for name in names], rows, note)


def all_metrics_table(part: ScoredPart) -> Table:
    """Return every metric after the last epoch in one split, with its interval and noise ceiling."""
    names = [name for name in part.metrics if name in BETTER or name.startswith("coverage")]
    rows = []
    for name in names:
        low, high = part.intervals.get(name) or (None, None)
        ceilings = [number(_ceiling(part, name, start)) for start in CEILINGS]
        cells = [number(part.metrics[name]), f"{number(low)} to {number(high)}", *ceilings]
        remarks = [scale_unit(part.scale)] if name in IN_UNITS else []
        remarks += [WITHOUT_FIT] if name == "plcc" and part.ceiling else []
        remarks += [HYPOTHESIS_NOTE] if name in SOS_METRICS and is_hypothetical(part) else []
        rows.append(Row(metric_heading(name), cells, "; ".join(remarks)))
    columns = ["last epoch", "95 % interval", *(f"noise ceiling, {way}" for way, _ in CEILINGS.values())]
    return Table(part.title, columns, rows, f"Intervals: over {resampled_units([part])}.")


def origins_table(splits: Sequence[FinishedSplit]) -> Table:
    """Return the sizes and hashes of the parts of each split, and the time and machine of its training."""
    rows = []
    for split in splits:
        for part in split.tests:
            sizes = [str(len(part.origin[name])) for name in ("train", "validation", "test")]
            hashes = [part.origin["hash"], part.origin["labels"]["hash"]]
            machine = split.metrics["environment"].get("machine", DASH)
            made = [str(len(split.log)), duration(split.metrics["seconds"]), machine]
            rows.append(Row(f"split {split.number}, {part.title}", [*sizes, *hashes, *made]))
    columns = ["training images", "validation", "test", "split hash", "labels hash", "epochs", "time", "machine"]
    return Table("Splits", columns, rows)


def duration(seconds: float | None) -> str:
    """Return a duration such as `2 h 5 min`, `3 min 20 s` or `12 s`."""
    if seconds is None:
        return DASH
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes_left = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes_left} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def _ceiling(part: ScoredPart, name: str, start: str) -> float | None:
    return part.ceiling.get(start + CEILING_KEYS[name]) if name in CEILING_KEYS else None


def _spread(name: str, values: np.ndarray, parts: Sequence[ScoredPart]) -> str:
    """Return the standard deviation over splits (S,), or for one split of one database the interval."""
    if len(values) > 1:
        std = values.std(ddof=1)
        return f"± {number(std, TILE_DIGITS)} over {len(values)} splits" if math.isfinite(std) else ""
    interval = parts[0].intervals.get(name) if len(parts) == 1 else None
    known = interval is not None and None not in interval
    return f"[{', '.join(number(end, TILE_DIGITS) for end in interval)}]" if known else ""
