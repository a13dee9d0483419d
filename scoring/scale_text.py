"""Rating scales as text, as the command line takes them and records carry them."""

from datasets.scale import RatingScale
from utils.errors import UserError
from utils.settings import ScaleSettings

LOWER = ":lower"  # ends the text of a scale on which lower is better


def parse_scale(text: str) -> RatingScale:
    """`LOW,HIGH` (five equal bins) or `LOW,HIGH:C1,C2,...` (bin centres) as a rating scale; `acr` is 1,5:1,2,3,4,5.

    With `:lower` at the end, lower is better.

    Raises:
        UserError: Another form.
    """
    if text == "acr":
        return RatingScale.from_settings(ScaleSettings())
    ends, _, centers = text.removesuffix(LOWER).partition(":")
    try:
        low, high = (float(end) for end in ends.split(","))
        step = (high - low) / 5
        named = [float(center) for center in centers.split(",")] if centers else []
    except ValueError as error:
        raise UserError(
            f"--scale: {text!r} is no rating scale; write acr, LOW,HIGH for five equal bins, such as 0,100, or "
            "LOW,HIGH:C1,C2,... with the score of each bin, such as 1,5:1,2,3,4,5"
        ) from error
    centers = tuple(named or (low + (k + 0.5) * step for k in range(5)))
    return RatingScale(low, high, centers, higher_is_better=not text.endswith(LOWER))


def scale_text(scale: RatingScale) -> str:
    """The text that `parse_scale` reads: `1,5:1,2,3,4,5`."""
    low, high, *centers = (_shortest(score) for score in (scale.low, scale.high, *scale.bin_centers))
    return f"{low},{high}:{','.join(centers)}{'' if scale.higher_is_better else LOWER}"


def _shortest(score: float) -> str:
    """A number in as few digits as tell it exactly."""
    return f"{score:g}" if float(f"{score:g}") == score else repr(score)
