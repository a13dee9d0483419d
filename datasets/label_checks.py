"""Checks of the labels of a database, row by row."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from datasets.labels import fit_sos_a, vote_moments
from datasets.ratings import Rating
from datasets.scale import ROUNDING, RatingScale
from utils.errors import MissingFileError, UserError, some_of

MISSING, DAMAGED = "missing image", "unreadable image"
SMALLEST_PANEL = 2  # assumed if the number of voters is unknown
SMALLEST_A = 0.02  # of the SOS hypothesis; CSIQ, the lowest of the databases here, has 0.066
SMALLEST_SHARE = 0.1  # of the scale that the MOS of a database take up
FEW = 10  # images, of which less can be said
MAX_NAMED = 20  # unreadable images named in one message
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
        for rating, voted in zip(ratings, vote_moments(ratings, scale), strict=True)
        for kind, text, usable in _row_problems(rating, first.setdefault(rating.image, rating), voted, scale)
    ]


def largest_sos(mos: float, voters: int | None, scale: RatingScale) -> float:
    """Return the largest possible SOS (ddof 1) for a MOS, reached when all votes lie at the ends of the scale.

    Two voters are assumed if their number is unknown.
    """
    panel = max(voters or SMALLEST_PANEL, SMALLEST_PANEL)
    return math.sqrt(max((mos - scale.low) * (scale.high - mos), 0) * panel / (panel - 1))


def find_doubts(ratings: Sequence[Rating], scale: RatingScale) -> list[str]:
    """Return warnings about labels that are possible, but seem to be in another unit than the scale."""
    found = []
    usual = [rating for rating in ratings if scale.low <= rating.mos <= scale.high]
    mos = [rating.mos for rating in usual]
    if len(mos) >= FEW and max(mos) - min(mos) < SMALLEST_SHARE * (scale.high - scale.low):
        found.append(
            f"the MOS lie within {min(mos):.4g} to {max(mos):.4g}, a small part of the scale {scale.describe()}; are "
            "they in another unit?"
        )
    stated = [r for r in usual if r.sos is not None and not r.sos_from_votes and scale.low < r.mos < scale.high]
    if len(stated) >= FEW:
        a = fit_sos_a([rating.mos for rating in stated], [rating.sos for rating in stated], scale)
        if a < SMALLEST_A:
            found.append(
                f"the SOS are smaller than those of any panel on the scale {scale.describe()} (a of the SOS hypothesis "
                f"is {a:.2g}, usually 0.05 to 0.25); are they in another unit than the MOS, or standard errors?"
            )
    return found


def require_usable(problems: Sequence[Problem], images: int, root: object, strict: bool, omit: bool) -> None:
    """Raise an error for problems that are not allowed.

    Inconsistent rows are rejected only under `strict`, missing and damaged images unless `omit`.

    Raises:
        MissingFileError: Images are missing.
        UserError: Another problem; the message has file, row and value.
    """
    missing = [problem.rating.image for problem in problems if problem.kind == MISSING]
    damaged = [problem for problem in problems if problem.kind == DAMAGED]
    unreadable = (MISSING, DAMAGED)
    rest = [problem for problem in problems if problem.kind not in unreadable and (strict or not problem.usable)]
    if rest:
        more = f"; {len(rest) - 1} more problems, {ADVICE}" if len(rest) > 1 else ""
        raise UserError(f"{rest[0]}{more}")
    if len(missing) == images:
        raise MissingFileError(
            f"none of the {images} images exist under {root}; the first is expected at {root}/{missing[0]}"
        )
    refused = "" if strict else "; dataset.unreadable=omit leaves them out"
    if missing and (strict or not omit):
        more = f"; {ADVICE}" if len(missing) > MAX_NAMED else ""
        more += f"; damaged: {len(damaged)}" if damaged else ""
        raise MissingFileError(
            f"{len(missing)} of {images} images are missing in {root}: {some_of(missing, MAX_NAMED)}{more}{refused}"
        )
    if len(missing) + len(damaged) == images or (damaged and (strict or not omit)):
        more = f" and {len(damaged) - 1} more, {ADVICE}" if len(damaged) > 1 else ""
        raise UserError(f"{len(damaged)} of {images} images are damaged: {damaged[0]}{more}{refused}")


def _row_problems(
    rating: Rating, first: Rating, voted: tuple[float, float] | None, scale: RatingScale
) -> Iterator[tuple[str, str, bool]]:
    """Yield kind, text and usability of each problem of a row.

    `first` is the first row with this image, `voted` the mean and standard deviation of its votes.
    """
    image, mos, sos = rating.image, rating.mos, rating.sos
    if rating.missing:
        yield MISSING, f"image {image} does not exist", False
    if rating.damage:
        yield DAMAGED, rating.damage, False
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
            yield "impossible SOS", f"{text}; is it in another unit?", False
        elif sos > most * (1 + ROUNDING):
            text = f"SOS {sos:g} of {image} is above {most:g}, the largest possible for MOS {mos:g}"
            yield "impossible SOS", text, True
    grades = list(map(scale.without_rounding, rating.grades or ()))
    if grades and not scale.low <= min(grades) <= max(grades) <= scale.high:
        span = f"{min(rating.grades):g} to {max(rating.grades):g}"
        text = f"grades of {image} range from {span}, outside the scale {scale.describe()}"
        yield "grade outside the scale", text, True
    if rating.note:  # of the reader, which is more precise than a comparison with the votes
        yield "contradiction", f"{image}: {rating.note}", True
    elif voted is not None:
        half_a_bin = (scale.bin_centers[-1] - scale.bin_centers[0]) / (scale.num_bins - 1) / 2
        for name, stated, of_votes in zip(("MOS", "SOS"), (mos, sos), voted, strict=True):
            if stated is not None and abs(stated - of_votes) > half_a_bin:
                text = f"stated {name} {stated:g} of {image} contradicts its votes, which give {of_votes:.4g}"
                yield "contradiction", text, True
