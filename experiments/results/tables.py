"""The numbers of a report, as texts in tiles and tables; what is not defined is a dash."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from experiments.results.charts import points_of
from experiments.results.lines import HYPOTHESIS_NOTE, OF_SOS, SELECTION_NOTES, SUMMARY, explained
from experiments.results.results import FinishedSplit, ScoredPart
from utils.metrics import BETTER, HIGHER, IN_UNITS, as_numbers, title_of
from utils.tables import DASH, mean_std, number

HEADLINE = ("srcc", "plcc", "rmse", "sos_srcc", "emd")
# the ceiling of PLCC is without the logistic fit
CEILING_OF = {"srcc": "mos_srcc", "plcc": "mos_plcc", "plcc_raw": "mos_plcc"}
CEILING_OF |= {name: name for name in ("sos_srcc", "sos_plcc", "emd")}
CEILINGS = {  # by the start of their names in metrics.json, what they are called and worth
    "": ("bootstrap", "what a perfect predictor would reach if the votes on file were the truth: optimistic"),
    "split_half_": ("split half", "the same, estimated from two halves of the voters"),
}
WITHOUT_FIT = "noise ceiling without the fit"
TILE_DIGITS = 3
OPTIMISTIC = "release"  # the selection that looks at the test labels


@dataclass(frozen=True)
class Tile:
    """One number for a first look, what it varies by, estimates of what could be reached, and what limits it."""

    name: str
    arrow: str
    value: str
    spread: str
    ceiling: str
    unit: str
    note: str = ""


@dataclass(frozen=True)
class Row:
    """One row of a table, with a remark under its name; `mark` is set beside that."""

    name: str
    cells: list[str]
    remark: str = ""
    mark: str = ""


@dataclass(frozen=True)
class Table:
    """Texts under headings, the first column has none; below them a note."""

    title: str
    columns: list[str]
    rows: list[Row]
    note: str = ""


def spread_of(values: Sequence[float | None]) -> str:
    """One value as it is, of several the mean and the standard deviation."""
    array = as_numbers(list(values))
    return mean_std(array.mean(), array.std(ddof=1) if len(array) > 1 else math.nan)


def heading_of(metric: str) -> str:
    """`SRCC ↑`: with the way in which it is better."""
    return f"{title_of(metric)} {_arrow(metric)}".rstrip()


def tiles(splits: Sequence[FinishedSplit], number_of: int | None) -> list[Tile]:
    """The headline of database `number_of` (from 0), or of the mean over all."""
    tested = [split if number_of is None else split.tests[number_of] for split in splits]
    parts = [part for split in splits for part in split.tests] if number_of is None else tested
    made = []
    for name in [name for name in HEADLINE if number_of is not None or name not in IN_UNITS]:
        values = as_numbers([one.metrics.get(name) for one in tested])
        ceiling = "" if number_of is None else ceiling_of(name, parts)
        unit = points_of(parts[0].scale) if name in IN_UNITS else ""
        note = HYPOTHESIS_NOTE if name in OF_SOS and any(is_hypothetical(part) for part in parts) else ""
        shown = number(values.mean(), TILE_DIGITS)
        made.append(Tile(title_of(name), _arrow(name), shown, _spread(name, values, parts), ceiling, unit, note))
    return made


def ceiling_of(name: str, parts: Sequence[ScoredPart]) -> str:
    """Both noise ceilings of a metric, mean over parts, in words; empty where they are not known."""
    known = [as_numbers([_ceiling(part, name, start) for part in parts]) for start in CEILINGS]
    if not np.isfinite(known[0].mean()):
        return ""
    both = (
        f"{number(of_one.mean(), TILE_DIGITS)} by {way}"
        for of_one, (way, _) in zip(known, CEILINGS.values(), strict=True)
    )
    return f"{WITHOUT_FIT if name == 'plcc' else 'noise ceiling'} {', '.join(both)}"


def units_of(parts: Sequence[ScoredPart]) -> str:
    """What the intervals of these parts were drawn by: `the 12 references, each with all its images`."""
    drawn = []
    for part in parts:
        unit, count = part.units["unit"], part.units["count"]
        of = f" of {part.title}" if len(parts) > 1 else ""
        whole = "" if unit == "image" else ", each with all its images"
        one = f"one {unit.replace('_', ' ')}{of}, which gives none"
        drawn.append(one if count == 1 else f"the {count} {unit.replace('_', ' ')}s{of}{whole}")
    return "; ".join(drawn)


def is_hypothetical(part: ScoredPart) -> bool:
    """Whether the SOS labels are made of the MOS labels, by the SOS hypothesis."""
    return part.origin["labels"]["sos"] == "hypothesis"


def selections_table(splits: Sequence[FinishedSplit], number_of: int | None) -> Table:
    """Every way of selection, of database `number_of` (from 0), or of the mean over all; last the noise ceilings."""
    parts = [] if number_of is None else [split.tests[number_of] for split in splits]
    by_split = [part.selections for part in parts] or [split.metrics["selections"] for split in splits]
    names = [name for name in SUMMARY if number_of is not None or name not in IN_UNITS]
    rows = []
    for selection in (name for name in by_split[0] if all(name in of_split for of_split in by_split)):
        cells = [spread_of([of_split[selection].get(name) for of_split in by_split]) for name in names]
        whole = splits[0].metrics["selections"][selection]
        remark = explained(selection, whole) if len(splits) == 1 else SELECTION_NOTES[selection]
        rows.append(Row(selection, cells, remark, "optimistic" if selection == OPTIMISTIC else ""))
    title = parts[0].title if parts else "Mean over the databases"
    hypothetical = any(is_hypothetical(part) for part in parts or [part for split in splits for part in split.tests])
    note = f"SOS SRCC: {HYPOTHESIS_NOTE}." if hypothetical else ""
    return Table(title, [heading_of(name) for name in names], [*rows, *_ceiling_rows(parts, names)], note)


def all_metrics_table(part: ScoredPart) -> Table:
    """Every metric of the last epoch in one split, with its interval and, where there is one, its ceiling."""
    names = [name for name in part.metrics if name in BETTER or name.startswith("coverage")]
    rows = []
    for name in names:
        low, high = part.intervals.get(name) or (None, None)
        ceilings = [number(_ceiling(part, name, start)) for start in CEILINGS]
        cells = [number(part.metrics[name]), f"{number(low)} to {number(high)}", *ceilings]
        remarks = [points_of(part.scale)] if name in IN_UNITS else []
        remarks += [WITHOUT_FIT] if name == "plcc" and part.ceiling else []
        remarks += [HYPOTHESIS_NOTE] if name in OF_SOS and is_hypothetical(part) else []
        rows.append(Row(heading_of(name), cells, "; ".join(remarks)))
    ceilings = [f"noise ceiling, {way}" for way, _ in CEILINGS.values()]
    return Table(part.title, ["last epoch", "95 % interval", *ceilings], rows, f"Intervals: over {units_of([part])}.")


def origins_table(splits: Sequence[FinishedSplit]) -> Table:
    """How large the parts of each split are, which they are, and what training took."""
    rows = []
    for split in splits:
        for part in split.tests:
            sizes = [str(len(part.origin[name])) for name in ("train", "validation", "test")]
            hashes = [part.origin["hash"], part.origin["labels"]["hash"]]
            made = [str(len(split.log)), duration(split.metrics["seconds"]), _machine(split)]
            rows.append(Row(f"split {split.number}, {part.title}", [*sizes, *hashes, *made]))
    columns = ["training images", "validation", "test", "split hash", "labels hash", "epochs", "time", "machine"]
    return Table("Splits", columns, rows)


def duration(seconds: float | None) -> str:
    """`2 h 5 min`, `3 min 20 s` or `12 s`."""
    if seconds is None:
        return DASH
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes_left = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes_left} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def _ceiling(part: ScoredPart, name: str, start: str) -> float | None:
    return part.ceiling.get(start + CEILING_OF[name]) if name in CEILING_OF else None


def _ceiling_rows(parts: Sequence[ScoredPart], names: Sequence[str]) -> list[Row]:
    known = [part for part in parts if part.ceiling]
    rows = []
    for start, (way, remark) in CEILINGS.items() if known else ():
        cells = [spread_of([_ceiling(part, name, start) for part in known]) for name in names]
        rows.append(Row(f"noise ceiling, {way}", cells, f"{remark}; PLCC without the fit"))
    return rows


def _spread(name: str, values: np.ndarray, parts: Sequence[ScoredPart]) -> str:
    """Standard deviation over splits (S,); of one split of one database, the interval."""
    if len(values) > 1:
        std = values.std(ddof=1)
        return f"± {number(std, TILE_DIGITS)} over {len(values)} splits" if math.isfinite(std) else ""
    interval = parts[0].intervals.get(name) if len(parts) == 1 else None
    known = interval is not None and None not in interval
    return f"[{', '.join(number(end, TILE_DIGITS) for end in interval)}]" if known else ""


def _arrow(metric: str) -> str:
    return ("↑" if BETTER[metric] == HIGHER else "↓") if metric in BETTER else ""


def _machine(split: FinishedSplit) -> str:
    return split.metrics["environment"].get("machine", DASH)
