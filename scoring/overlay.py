"""A picture beside itself with a map of what each place does to its score.

Lengths are pixels of the drawing and y is counted from the top, where nothing else is said. Neither pyplot nor any
setting of matplotlib is touched.
"""

import textwrap
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont, get_font
from matplotlib.patches import Rectangle
from PIL import Image

Array = np.ndarray
Box = tuple[float, float, float, float]

WIDTH, MARGIN, GAP = 1200, 24, 24
DPI = 100
FONT, BODY, TITLE = "DejaVu Sans", 17, 22  # matplotlib brings this font along
LINE = 25  # from one line of text to the next
TITLE_LETTERS, CAPTION_LETTERS = 84, 126  # that fit into a line
BAR_WIDTH, BAR_HEIGHT = 420, 18

LONGEST = 10  # sides of a picture as drawn differ by this factor at most; a longer one is squeezed, as by the network
STACKED = 2.2  # from this ratio of width to height on, panels stand one above the other
TALLEST = 640
NARROWEST = 340  # a column, for the heading of a narrow picture

BETTER, WORSE = (0, 114, 178), (213, 94, 0)  # blue and vermilion, which every kind of colour vision tells apart
# Source: Okabe and Ito, Color Universal Design, 2008
INK, QUIET = "#1a1a1a", "#555555"
ROBUST = 97  # percentile of the magnitudes at which colours are full: few bright spots must not pale the rest
AREA = 10  # colours stand for points per so many percent of what the network saw
STRONGEST = 0.8  # share of the colour there, so that the picture shines through
PALE = 0.45  # share of white in the grey picture under the colours
UNSEEN = 0.85  # the same outside of what the network saw
STRIPES, STRIPE = 10, 3  # pixels from one stripe to the next along a row, and of a stripe; where quality is lowered
STRIPE_SHADE = 0.55  # what a stripe at full strength leaves of the light


@dataclass(frozen=True)
class Layout:
    """Places of the two panels (left, top, width, height) and what stands below them."""

    panels: tuple[tuple[int, int, int, int], tuple[int, int, int, int]]
    bar: int
    caption: int
    height: int


def draw_overlay(
    picture: Image.Image,
    box: Box,
    values: Array,
    title: str,
    caption: str,
    higher_is_better: bool = True,
) -> Image.Image:
    """Draws the picture, and the same in grey under colours: blue where quality is raised, vermilion where lowered.

    Colours are full at the 97th percentile of the magnitudes, the same on both sides of zero; zero has no colour. Where
    quality is lowered there are stripes as well, so that the map can be read without colours.

    Args:
        picture: Any size; a small one is enlarged, one longer than 10 to 1 is squeezed to that.
        box: What the network saw: left, top, right, bottom in pixels of the picture.
        values: Map (H, W) over the box, points of MOS per pixel of the map, as `mos_map` makes it.
        title: One line, such as the file's name; a long one loses its middle.
        caption: Below, as many lines as it needs.
        higher_is_better: False where a positive value lowers quality.

    Returns:
        RGB, 1200 pixels wide.

    Raises:
        ValueError: A box that is empty or beyond the picture, values that are not a finite map.
    """
    _require_within(box, picture.size)
    picture = picture.convert("RGB")
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 2 or values.size == 0 or not np.isfinite(values).all():
        raise ValueError(f"values: a map (H, W) of finite numbers is drawn, got shape {values.shape}")
    density = values * values.size * AREA / 100
    limit = float(np.percentile(np.abs(density), ROBUST)) or float(np.abs(density).max())
    sign = 1 if higher_is_better else -1
    share = sign * density / limit if limit else density  # positive is better, full colour from 1 on

    lines = textwrap.wrap(caption, CAPTION_LETTERS)
    layout = lay_out(picture.size, len(lines))
    figure = Figure(figsize=(WIDTH / DPI, layout.height / DPI), dpi=DPI, facecolor="white")
    canvas = FigureCanvasAgg(figure)
    _write(figure, MARGIN, MARGIN, _shortened(title), size=TITLE, weight="bold")
    _draw_panels(figure, layout, picture, box, share)
    _draw_bar(figure, layout, limit, sign)
    for number, line in enumerate(lines):
        _write(figure, MARGIN, layout.caption + number * LINE, line, color=QUIET)
    canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")


def lay_out(size: tuple[int, int], caption_lines: int) -> Layout:
    """Places for a picture of a size (width, height): side by side, or one above the other where it is wide."""
    ratio = float(np.clip(size[0] / size[1], 1 / LONGEST, LONGEST))
    stacked = ratio > STACKED
    widest = WIDTH - 2 * MARGIN if stacked else (WIDTH - 2 * MARGIN - GAP) // 2
    width = round(min(widest, TALLEST * ratio))
    height = round(width / ratio)
    top = MARGIN + 3 * LINE  # below the title and the heading
    if stacked:
        first, second = ((MARGIN, y, width, height) for y in (top, top + height + GAP + LINE))
    else:
        step = max(width, NARROWEST) + GAP
        left = WIDTH // 2 - step + GAP // 2
        first, second = ((x, top, width, height) for x in (left, left + step))
    bar = second[1] + height + GAP
    caption = bar + BAR_HEIGHT + 3 * LINE
    return Layout((first, second), bar, caption, caption + caption_lines * LINE + MARGIN // 2)


def tint(grey: Array, share: Array) -> Array:
    """Grey levels 0..255 (H, W) under the colours of shares (H, W), full at -1 and 1, none at 0: (H, W, 3) of uint8."""
    share = np.clip(share, -1, 1)[..., None]  # (H, W, 1)
    strength = STRONGEST * np.abs(share)
    mixed = (1 - strength) * grey[..., None] + strength * np.where(share > 0, BETTER, WORSE)  # (H, W, 3)
    rows, columns = np.indices(grey.shape)
    striped = ((rows + columns) % STRIPES < STRIPE)[..., None]  # (H, W, 1)
    return np.rint(mixed * (1 - (1 - STRIPE_SHADE) * striped * np.maximum(-share, 0))).astype(np.uint8)


def _draw_panels(figure: Figure, layout: Layout, picture: Image.Image, box: Box, share: Array) -> None:
    """The picture, then the picture under the map; both with a frame around what the network saw."""
    (_, _, width, height), _ = layout.panels
    enlarged = width >= 2 * picture.width
    shown = picture.resize((width, height), Image.Resampling.NEAREST if enlarged else Image.Resampling.LANCZOS)
    across, down = width / picture.width, height / picture.height
    left, right = _pixels(box[0] * across, box[2] * across, width)
    top, bottom = _pixels(box[1] * down, box[3] * down, height)
    grey = np.asarray(shown.convert("L"), dtype=np.float64)
    fitted = Image.fromarray(share.astype(np.float32)).resize((right - left, bottom - top), Image.Resampling.BILINEAR)
    covered = tint(_pale(grey, UNSEEN), np.zeros_like(grey))  # (H, W, 3)
    covered[top:bottom, left:right] = tint(_pale(grey[top:bottom, left:right]), np.asarray(fitted))
    headings = ("What the network saw (in the frame)", "What raises and what lowers its score")
    for place, heading, content in zip(layout.panels, headings, (np.asarray(shown), covered), strict=True):
        _write(figure, place[0], place[1] - LINE, heading)
        axes = _axes(figure, layout, place)
        axes.imshow(content, extent=(0, width, height, 0), aspect="auto", interpolation="nearest")
        for colour, thickness in (("white", 3), (INK, 1)):
            frame = Rectangle((left, top), right - left, bottom - top, fill=False, edgecolor=colour)
            frame.set(linewidth=thickness, clip_on=False)
            axes.add_patch(frame)


def _draw_bar(figure: Figure, layout: Layout, limit: float, sign: int) -> None:
    """Colours and what they stand for, worse on the left."""
    left, below = (WIDTH - BAR_WIDTH) // 2, layout.bar + BAR_HEIGHT + 4
    axes = _axes(figure, layout, (left, layout.bar, BAR_WIDTH, BAR_HEIGHT))
    shares = np.tile(np.linspace(-1, 1, BAR_WIDTH), (BAR_HEIGHT, 1))
    axes.imshow(tint(np.full_like(shares, _pale(128)), shares), aspect="auto", interpolation="nearest")
    for share in (-1, 0, 1) if limit else (0,):
        text = f"{share * limit * sign:+.2g}".replace("-", "\N{MINUS SIGN}") if share else "0"
        _write(figure, left + (1 + share) / 2 * BAR_WIDTH, below, text, ha="center")
    unit = f"points of MOS per {AREA} % of the area in the frame"
    _write(figure, WIDTH / 2, below + LINE, unit, ha="center", color=QUIET)
    _write(figure, left - GAP / 2, layout.bar - 2, "lowers quality", ha="right", weight="bold")
    _write(figure, left + BAR_WIDTH + GAP / 2, layout.bar - 2, "raises quality", weight="bold")


def _pale(grey: Array | float, white: float = PALE) -> Array | float:
    """Grey levels mixed with white, so that colours over dark places can be told apart."""
    return (1 - white) * grey + white * 255


def _axes(figure: Figure, layout: Layout, place: tuple[int, int, int, int]) -> Axes:
    """Without ticks and spines, at (left, top, width, height)."""
    left, top, width, height = place
    bottom = 1 - (top + height) / layout.height
    axes = figure.add_axes((left / WIDTH, bottom, width / WIDTH, height / layout.height))
    axes.set_axis_off()
    return axes


def _write(figure: Figure, x: float, y: float, text: str, size: int = BODY, **look) -> None:
    """One line, its upper edge at y; a dollar sign stays one, and a letter that the font lacks becomes `?`."""
    known = get_font(findfont(FONT)).get_charmap()
    text = "".join(letter if ord(letter) in known else "?" for letter in text)
    height = figure.get_figheight() * DPI
    plain = {"va": "top", "family": FONT, "fontsize": size * 72 / DPI, "usetex": False, "parse_math": False}
    figure.text(x / WIDTH, 1 - y / height, text, **{"color": INK, "ha": "left", **plain, **look})


def _shortened(title: str) -> str:
    title = " ".join(title.split())
    half = TITLE_LETTERS // 2
    return title if len(title) <= TITLE_LETTERS else f"{title[:half]} … {title[-half + 3 :]}"


def _require_within(box: Box, size: tuple[int, int]) -> None:
    left, top, right, bottom = box
    if not (0 <= left < right <= size[0] and 0 <= top < bottom <= size[1]):
        raise ValueError(f"box: {tuple(box)} is not within a picture of {size[0]} x {size[1]} pixels")


def _pixels(start: float, end: float, most: int) -> tuple[int, int]:
    """Whole pixels from start to end, at least one, below `most`."""
    first = min(round(start), most - 1)
    return first, max(round(end), first + 1)
