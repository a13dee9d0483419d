"""Checks of the labels of a database, row by row."""

import math
from collections.abc import Sequence
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
    found = []
    for rating in ratings:
        if rating.missing:
            found.append(Problem(MISSING, f"image {rating.image} does not exist", rating, False))
        earlier = first.setdefault(rating.image, rating)
        if earlier is not rating:
            text = f"{rating.image} is labelled twice, first at {earlier.source}"
            found.append(Problem("duplicate", text, rating, False))
        if not scale.low <= rating.mos <= scale.high:
            text = f"MOS {rating.mos:.10g} of {rating.image} is outside the scale {scale.describe()}"
            found.append(Problem("MOS outside the scale", text, rating, rating.open_ended))
        elif rating.sos is not None:
            found += _problems_of_sos(rating, scale)
        found += _problems_of_votes(rating, scale)
        if rating.note:
            found.append(Problem("contradiction", f"{rating.image}: {rating.note}", rating, True))
    return found


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


def _problems_of_votes(rating: Rating, scale: RatingScale) -> list[Problem]:
    """Return grades outside the scale, and a stated MOS or SOS that is off that of the votes by over half a bin."""
    found = []
    if rating.grades is not None and not (scale.low <= min(rating.grades) and max(rating.grades) <= scale.high):
        low, high = min(rating.grades), max(rating.grades)
        text = f"grades of {rating.image} range from {low:g} to {high:g}, outside the scale {scale.describe()}"
        found.append(Problem("grade outside the scale", text, rating, True))
    if rating.note or rating.counts is None or len(rating.counts) != scale.num_bins:
        return found  # the reader's own note is more precise
    dos = np.array(rating.counts) / sum(rating.counts)
    half_a_bin = (scale.bin_centers[-1] - scale.bin_centers[0]) / (scale.num_bins - 1) / 2
    for name, stated, voted in (("MOS", rating.mos, scale.mean(dos)), ("SOS", rating.sos, scale.std(dos))):
        if stated is not None and abs(stated - voted) > half_a_bin:
            text = f"stated {name} {stated:g} of {rating.image} contradicts its votes, which give {voted:.4g}"
            found.append(Problem("contradiction", text, rating, True))
    return found


def _problems_of_sos(rating: Rating, scale: RatingScale) -> list[Problem]:
    widest = (scale.high - scale.low) / math.sqrt(2)  # two voters at opposite ends
    if not 0 <= rating.sos <= widest * (1 + ROUNDING):
        text = f"SOS {rating.sos:g} of {rating.image} is impossible; on this scale it lies within 0 to {widest:g}"
        return [Problem("impossible SOS", text, rating, False)]
    most = largest_sos(rating.mos, rating.voters, scale)
    if rating.sos <= most * (1 + ROUNDING):
        return []
    text = f"SOS {rating.sos:g} of {rating.image} is above {most:g}, the largest possible for MOS {rating.mos:g}"
    return [Problem("impossible SOS", text, rating, True)]
