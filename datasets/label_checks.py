"""Checks of the labels of a database, row by row."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from datasets.ratings import Rating
from datasets.scale import RatingScale
from utils.errors import MissingFileError, UserError, some_of

MISSING = "missing image"
ROUNDING = 1e-9  # relative, of a bound
SMALLEST_PANEL = 2  # assumed if the number of voters is unknown
MAX_NAMED = 20  # missing images named in one message
ADVICE = "python tools/check_dataset.py --all lists them all"


@dataclass(frozen=True)
class Problem:
    """A problem of one row. A `usable` row is merely inconsistent and is only rejected under `strict`."""

    kind: str
    text: str
    rating: Rating
    usable: bool

    def __str__(self) -> str:
        return f"{self.rating.source}: {self.text}"


def find_problems(ratings: Sequence[Rating], scale: RatingScale) -> list[Problem]:
    """Return all problems of all rows, in the order of the rows."""
    first: dict[str, Rating] = {}
    return [
        Problem(kind, text, rating, usable)
        for rating in ratings
        for kind, text, usable in _row_problems(rating, first.setdefault(rating.image, rating), scale)
    ]


def largest_sos(mos: float, voters: int | None, scale: RatingScale) -> float:
    """Return the largest possible SOS (ddof 1) for a MOS, reached when all votes lie at the ends of the scale.

    Two voters are assumed if their number is unknown.
    """
    panel = max(voters or SMALLEST_PANEL, SMALLEST_PANEL)
    return math.sqrt(max((mos - scale.low) * (scale.high - mos), 0) * panel / (panel - 1))


def require_usable(problems: Sequence[Problem], images: int, root: object, strict: bool, allow_missing: bool) -> None:
    """Raise an error for problems that are not allowed.

    Inconsistent rows are rejected only under `strict`, missing images unless `allow_missing`.

    Raises:
        MissingFileError: Images are missing.
        UserError: Another problem; the message has file, row and value.
    """
    missing = [problem.rating.image for problem in problems if problem.kind == MISSING]
    rest = [problem for problem in problems if problem.kind != MISSING and (strict or not problem.usable)]
    if rest:
        more = f"; {len(rest) - 1} more problems, {ADVICE}" if len(rest) > 1 else ""
        raise UserError(f"{rest[0]}{more}")
    if len(missing) == images:
        raise MissingFileError(
            f"none of the {images} images exist under {root}; the first is expected at {root}/{missing[0]}"
        )
    if missing and (strict or not allow_missing):
        more = f"; {ADVICE}" if len(missing) > MAX_NAMED else ""
        raise MissingFileError(
            f"{len(missing)} of {images} images are missing in {root}: {some_of(missing, MAX_NAMED)}{more}"
        )


def _row_problems(rating: Rating, first: Rating, scale: RatingScale) -> Iterator[tuple[str, str, bool]]:
    """Yield kind, text and usability of each problem of a row; `first` is the first row with this image."""
    image, mos, sos = rating.image, rating.mos, rating.sos
    if rating.missing:
        yield MISSING, f"image {image} does not exist", False
    if first is not rating:
        yield "duplicate", f"{image} is labelled twice, first at {first.source}", False
    if not scale.low <= mos <= scale.high:
        text = f"MOS {mos:.10g} of {image} is outside the scale {scale.describe()}"
        yield "MOS outside the scale", text, rating.open_ended
    elif sos is not None:
        widest = (scale.high - scale.low) / math.sqrt(2)  # two voters at opposite ends
        most = largest_sos(mos, rating.voters, scale)
        if not 0 <= sos <= widest * (1 + ROUNDING):
            text = f"SOS {sos:g} of {image} is impossible; on this scale it lies within 0 to {widest:g}"
            yield "impossible SOS", text, False
        elif sos > most * (1 + ROUNDING):
            text = f"SOS {sos:g} of {image} is above {most:g}, the largest possible for MOS {mos:g}"
            yield "impossible SOS", text, True
    if rating.grades is not None and not scale.low <= min(rating.grades) <= max(rating.grades) <= scale.high:
        span = f"{min(rating.grades):g} to {max(rating.grades):g}"
        text = f"grades of {image} range from {span}, outside the scale {scale.describe()}"
        yield "grade outside the scale", text, True
    if rating.note:  # of the reader, which is more precise than a comparison with the votes
        yield "contradiction", f"{image}: {rating.note}", True
    elif rating.counts is not None and len(rating.counts) == scale.num_bins:
        dos = np.array(rating.counts) / sum(rating.counts)
        half_a_bin = (scale.bin_centers[-1] - scale.bin_centers[0]) / (scale.num_bins - 1) / 2
        for name, stated, voted in (("MOS", mos, scale.mean(dos)), ("SOS", sos, scale.std(dos))):
            if stated is not None and abs(stated - voted) > half_a_bin:
                text = f"stated {name} {stated:g} of {image} contradicts its votes, which give {voted:.4g}"
                yield "contradiction", text, True
