"""Rating scales as text, on the command line and in score rows."""

from datasets.scale import RatingScale
from utils.errors import UserError
from utils.settings import ScaleSettings

LOWER = ":lower"  # suffix of a scale on which lower is better


def parse_scale(text: str) -> RatingScale:
    """Parse `LOW,HIGH` (five equal bins), `LOW,HIGH:C1,C2,...` (bin centres) or `acr` (1,5:1,2,3,4,5).

    The suffix `:lower` means that lower is better.

    Raises:
        UserError: The text has another form.
    """
    if text == "acr":
        return RatingScale.from_settings(ScaleSettings())
    ends, _, centers = text.removesuffix(LOWER).partition(":")
    try:
        low, high = (float(end) for end in ends.split(","))
        step = (high - low) / 5
        given = [float(center) for center in centers.split(",")] if centers else []
    except ValueError as error:
        raise UserError(
            f"--scale: {text!r} is not a rating scale; write acr, LOW,HIGH for five equal bins, such as 0,100, or "
            "LOW,HIGH:C1,C2,... with the score of each bin, such as 1,5:1,2,3,4,5"
        ) from error
    centers = tuple(given or (low + (k + 0.5) * step for k in range(5)))
    return RatingScale(low, high, centers, higher_is_better=not text.endswith(LOWER))


def scale_text(scale: RatingScale) -> str:
    """Return a scale as text for `parse_scale`, such as `1,5:1,2,3,4,5`."""
    low, high, *centers = (_shortest(score) for score in (scale.low, scale.high, *scale.bin_centers))
    return f"{low},{high}:{','.join(centers)}{'' if scale.higher_is_better else LOWER}"


def _shortest(score: float) -> str:
    """Return the shortest text that represents a number exactly."""
    return f"{score:g}" if float(f"{score:g}") == score else repr(score)
