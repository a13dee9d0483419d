"""What may be wrong with the labels of a database, row by row."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from datasets.ratings import Rating
from datasets.scale import RatingScale
from utils.errors import MissingFileError, UserError, some_of

MISSING = "missing image"
ROUNDING = 1e-9  # relative, of a bound
SMALLEST_PANEL = 2  # assumed where the number of voters is not known
NAMED = 20  # missing images in one message
LISTED = "python tools/check_dataset.py --all lists all"


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with a row; `usable` rows are merely odd, and only `strict` refuses them."""

    kind: str
    text: str
    rating: Rating
    usable: bool

    def __str__(self) -> str:
        return f"{self.rating.source}: {self.text}"


def find_problems(ratings: Sequence[Rating], scale: RatingScale) -> list[Problem]:
    """Every problem of every row, in the order of the rows."""
    first: dict[str, Rating] = {}
    found = []
    for rating in ratings:
        if rating.missing:
            found.append(Problem(MISSING, f"there is no image {rating.image}", rating, False))
        earlier = first.setdefault(rating.image, rating)
        if earlier is not rating:
            text = f"{rating.image} was labelled before, at {earlier.source}"
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
    """The standard deviation (ddof 1) when all votes lie at the two ends of the scale; two voters if not known."""
    panel = max(voters or SMALLEST_PANEL, SMALLEST_PANEL)
    return math.sqrt(max((mos - scale.low) * (scale.high - mos), 0) * panel / (panel - 1))


def require_usable(problems: Sequence[Problem], images: int, root: object, strict: bool, allow_missing: bool) -> None:
    """Stops at problems that are not allowed: odd rows under `strict` alone, missing images unless `allow_missing`.

    Raises:
        MissingFileError: Images are missing.
        UserError: Another problem, with file, row and value.
    """
    missing = [problem.rating.image for problem in problems if problem.kind == MISSING]
    rest = [problem for problem in problems if problem.kind != MISSING and (strict or not problem.usable)]
    if rest:
        more = f"; {len(rest) - 1} more problems, {LISTED}" if len(rest) > 1 else ""
        raise UserError(f"{rest[0]}{more}")
    if len(missing) == images:
        raise MissingFileError(f"none of the {images} images is under {root}; the first would be {root}/{missing[0]}")
    if missing and (strict or not allow_missing):
        more = f"; {LISTED}" if len(missing) > NAMED else ""
        raise MissingFileError(
            f"{len(missing)} of {images} images are missing in {root}: {some_of(missing, NAMED)}{more}"
        )


def _problems_of_votes(rating: Rating, scale: RatingScale) -> list[Problem]:
    """Grades beyond the scale; a stated MOS or SOS further than half a bin from that of the votes beside it."""
    found = []
    if rating.grades is not None and not (scale.low <= min(rating.grades) and max(rating.grades) <= scale.high):
        text = f"grades of {rating.image} go from {min(rating.grades):g} to {max(rating.grades):g}, beyond the scale"
        found.append(Problem("grade outside the scale", text, rating, True))
    if rating.note or rating.counts is None or len(rating.counts) != scale.num_bins:
        return found  # a reader's own note says it better
    dos = np.array(rating.counts) / sum(rating.counts)
    half_a_bin = (scale.bin_centers[-1] - scale.bin_centers[0]) / (scale.num_bins - 1) / 2
    for name, stated, voted in (("MOS", rating.mos, scale.mean(dos)), ("SOS", rating.sos, scale.std(dos))):
        if stated is not None and abs(stated - voted) > half_a_bin:
            text = f"{name} {stated:g} of {rating.image} is stated, but that of its votes is {voted:.4g}"
            found.append(Problem("contradiction", text, rating, True))
    return found


def _problems_of_sos(rating: Rating, scale: RatingScale) -> list[Problem]:
    widest = (scale.high - scale.low) / math.sqrt(2)  # two voters at opposite ends
    if not 0 <= rating.sos <= widest * (1 + ROUNDING):
        text = f"SOS {rating.sos:g} of {rating.image} cannot be; on this scale it is 0 to {widest:g}"
        return [Problem("SOS that cannot be", text, rating, False)]
    most = largest_sos(rating.mos, rating.voters, scale)
    if rating.sos <= most * (1 + ROUNDING):
        return []
    text = f"SOS {rating.sos:g} of {rating.image} is more than opinions with MOS {rating.mos:g} can have: {most:g}"
    return [Problem("SOS that cannot be", text, rating, True)]
