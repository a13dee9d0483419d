"""Quality maps: for each scored image, a drawing of it beside the areas that raise and lower its MOS.

Unless noted, lengths are pixels of the drawing and y counts from the top. pyplot and matplotlib's settings stay
unchanged.
"""

import hashlib
import re
import textwrap
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont, get_font
from matplotlib.patches import Rectangle
from PIL import Image

from models.attribution import contributions, mos_map
from scoring.predictor import SMALLER_BATCH, Prediction, Predictor, Prepared
from scoring.records import RowBuilder
from utils.files import make_folder, write_atomically
from utils.memory import enough_memory

Array = np.ndarray
Box = tuple[float, float, float, float]

SIDE = 1200  # long side of the drawn picture in pixels
DEVICE = re.compile(r"(con|prn|aux|nul|(com|lpt)\d)(\.|$)", re.IGNORECASE)  # on Windows
DIGITS = 8  # hash digits that distinguish images with the same name
CAPTION = (
    "First-order contributions by position in the network's feature maps. A position depends on more of the image than "
    "its own area: the map shows where the network encodes what it uses, not which pixels are to blame."
)

WIDTH, MARGIN, GAP = 1200, 24, 24
DPI = 100
FONT, BODY, TITLE = "DejaVu Sans", 17, 22  # this font comes with matplotlib
LINE = 25  # line height
TITLE_LETTERS, CAPTION_LETTERS = 84, 126  # letters per line
BAR_WIDTH, BAR_HEIGHT = 420, 18

MAX_ASPECT = 10  # between the sides of a drawn picture; longer pictures are squeezed, as for the network
STACKED_ASPECT = 2.2  # wider pictures have their panels one above the other
MAX_HEIGHT = 640
MIN_WIDTH = 340  # of a column, so that the heading of a narrow picture fits

BETTER, WORSE = (0, 114, 178), (213, 94, 0)  # blue and vermilion, distinct for every kind of colour vision
# Source: Okabe and Ito, Color Universal Design, 2008
INK, QUIET = "#1a1a1a", "#555555"
FULL_PERCENTILE = 97  # of the magnitudes, at which colours are full: a few extremes must not pale the rest
AREA = 10  # percent of the network's input that the colour bar's unit refers to
MAX_OPACITY = 0.8  # of the colours, so that the picture shows through
PALE = 0.45  # fraction of white in the grey picture under the colours
OUTSIDE_PALE = 0.85  # the same outside of the network's input
STRIPE_PERIOD, STRIPE_WIDTH = 10, 3  # pixels along a row, where quality is lowered
STRIPE_SHADE = 0.55  # brightness of a stripe at full strength


class MapWriter:
    """Write a quality map of each scored image to a folder.

    Raises:
        UserError: The folder cannot be created.
    """

    def __init__(self, folder: str, predictor: Predictor, row_builder: RowBuilder):
        make_folder(folder)
        self.folder = Path(folder)
        self.predictor = predictor
        self.row_builder = row_builder
        predictor.preview_side = SIDE

    def __call__(self, path: str, prediction: Prediction, prepared: Prepared) -> None:
        scale, name = self.predictor.scale, self.row_builder.name(path)
        box, values = quality_map(self.predictor, prepared)
        title = f"{Path(name).name}: MOS {prediction.mos:.2f} ({scale.describe()})"
        drawing = draw_overlay(prepared.preview, box, values, title, CAPTION, scale.higher_is_better)
        write_atomically(self.folder / map_name(name), partial(drawing.save, format="PNG", optimize=True))


@torch.inference_mode()
def quality_map(predictor: Predictor, prepared: Prepared) -> tuple[Box, Array]:
    """Return the network's input in pixels of the preview, and the map (H, W) of it in points of MOS per pixel.

    Raises:
        MachineError: The device does not have enough memory.
    """
    scale, preview = predictor.scale, prepared.preview
    with enough_memory(SMALLER_BATCH):
        view = prepared.views[:1].to(predictor.device)  # (1, 3, H, W)
        split_logits = contributions(predictor.model, view)
        values = mos_map(split_logits, scale.bin_centers, tuple(view.shape[2:]))[0].cpu().numpy()  # (H, W)
    left, top, right, bottom = predictor.preprocess.box
    return (left * preview.width, top * preview.height, right * preview.width, bottom * preview.height), values


def map_name(path: str) -> str:
    """Return a readable file name, unique to the path: `photo.jpg.1b2c3d4e.png` for `holiday/photo.jpg`.

    Every system takes it: `con.png` becomes `_con.png.1b2c3d4e.png`, since Windows keeps such names for devices.
    """
    readable = re.sub(r"[^\w.+-]", "_", Path(path).name).encode()[:100].decode("utf-8", "ignore")
    if DEVICE.match(readable):
        readable = f"_{readable}"
    return f"{readable}.{hashlib.sha256(path.encode()).hexdigest()[:DIGITS]}.png"


@dataclass(frozen=True)
class Layout:
    """Position of the two panels (left, top, width, height), and of the bar and the caption below them."""

    panels: tuple[tuple[int, int, int, int], tuple[int, int, int, int]]
    bar: int
    caption: int
    height: int


def draw_overlay(
    picture: Image.Image, box: Box, values: Array, title: str, caption: str, higher_is_better: bool = True
) -> Image.Image:
    """Draw the picture next to a grey copy with colours: blue raises quality, vermilion lowers it.

    Colours are full at the 97th percentile of the magnitudes, symmetric around zero, which has no colour. Areas that
    lower quality are also striped, so that the map can be read without colours.

    Args:
        picture: Picture of any size; a small one is enlarged, one longer than 10 to 1 is squeezed.
        box: Input of the network: left, top, right, bottom in pixels of the picture.
        values: Map (H, W) of the box from `mos_map`, in points of MOS per pixel of the map.
        title: One line, such as the file name; a long title is shortened in the middle.
        caption: Text below, wrapped to several lines.
        higher_is_better: False if a positive value lowers quality.

    Returns:
        An RGB image, 1200 pixels wide.
    """
    picture = picture.convert("RGB")
    share, limit = colour_shares(values, higher_is_better)

    lines = textwrap.wrap(caption, CAPTION_LETTERS)
    layout = lay_out(picture.size, len(lines))
    figure = Figure(figsize=(WIDTH / DPI, layout.height / DPI), dpi=DPI, facecolor="white")
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, WIDTH), ylim=(layout.height, 0))
    axes.set_axis_off()
    _write(axes, MARGIN, MARGIN, _shortened(title), size=TITLE, weight="bold")
    _draw_panels(axes, layout, picture, box, share)
    _draw_bar(axes, layout.bar, limit, 1 if higher_is_better else -1)
    for number, line in enumerate(lines):
        _write(axes, MARGIN, layout.caption + number * LINE, line, color=QUIET)
    canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")


def lay_out(size: tuple[int, int], caption_lines: int) -> Layout:
    """Return the layout for a picture size (width, height): side by side, or stacked if the picture is wide."""
    ratio = float(np.clip(size[0] / size[1], 1 / MAX_ASPECT, MAX_ASPECT))
    stacked = ratio > STACKED_ASPECT
    widest = WIDTH - 2 * MARGIN if stacked else (WIDTH - 2 * MARGIN - GAP) // 2
    width = round(min(widest, MAX_HEIGHT * ratio))
    height = round(width / ratio)
    top = MARGIN + 3 * LINE  # below the title and the heading
    if stacked:
        first, second = ((MARGIN, y, width, height) for y in (top, top + height + GAP + LINE))
    else:
        step = max(width, MIN_WIDTH) + GAP
        left = WIDTH // 2 - step + GAP // 2
        first, second = ((x, top, width, height) for x in (left, left + step))
    bar = second[1] + height + GAP
    caption = bar + BAR_HEIGHT + 3 * LINE
    return Layout((first, second), bar, caption, caption + caption_lines * LINE + MARGIN // 2)


def colour_shares(values: Array, higher_is_better: bool) -> tuple[Array, float]:
    """Return the share of the full colours (H, W), positive where quality is raised, and the value with full colour.

    Args:
        values: Map (H, W), in points of MOS per pixel.
        higher_is_better: False if a positive value lowers quality.

    Returns:
        The shares, beyond -1 and 1 at the extremes; the value in points of MOS per 10 % of the area.
    """
    density = values.astype(np.float64) * values.size * AREA / 100
    limit = float(np.percentile(np.abs(density), FULL_PERCENTILE)) or float(np.abs(density).max())
    sign = 1 if higher_is_better else -1
    return (sign * density / limit if limit else density), limit


def covered(picture: Image.Image, box: Box, share: Array) -> tuple[Array, tuple[int, int, int, int]]:
    """Return the grey picture under the colours of a map, as uint8 (H, W, 3), and its box in whole pixels.

    Args:
        picture: RGB picture.
        box: Input of the network in it.
        share: Shares of the full colours of the box, from `colour_shares`.
    """
    left, right = _pixels(box[0], box[2], picture.width)
    top, bottom = _pixels(box[1], box[3], picture.height)
    grey = np.asarray(picture.convert("L"), dtype=np.float64)
    fitted = Image.fromarray(share.astype(np.float32)).resize((right - left, bottom - top), Image.Resampling.BILINEAR)
    coloured = tint(_pale(grey, OUTSIDE_PALE), np.zeros_like(grey))  # (H, W, 3)
    coloured[top:bottom, left:right] = tint(_pale(grey[top:bottom, left:right]), np.asarray(fitted))
    return coloured, (left, top, right, bottom)


def tint(grey: Array, share: Array) -> Array:
    """Colour grey levels from 0 to 255 (H, W) by shares (H, W), from -1 to 1; return uint8 (H, W, 3)."""
    share = np.clip(share, -1, 1)[..., None]  # (H, W, 1)
    strength = MAX_OPACITY * np.abs(share)
    mixed = (1 - strength) * grey[..., None] + strength * np.where(share > 0, BETTER, WORSE)  # (H, W, 3)
    rows, columns = np.indices(grey.shape)
    striped = ((rows + columns) % STRIPE_PERIOD < STRIPE_WIDTH)[..., None]  # (H, W, 1)
    return np.rint(mixed * (1 - (1 - STRIPE_SHADE) * striped * np.maximum(-share, 0))).astype(np.uint8)


def _draw_panels(axes: Axes, layout: Layout, picture: Image.Image, box: Box, share: Array) -> None:
    """Draw the picture, then the picture under the map, both with a frame around the network's input."""
    (_, _, width, height), _ = layout.panels
    enlarged = width >= 2 * picture.width
    shown = picture.resize((width, height), Image.Resampling.NEAREST if enlarged else Image.Resampling.LANCZOS)
    across, down = width / picture.width, height / picture.height
    scaled = (box[0] * across, box[1] * down, box[2] * across, box[3] * down)
    coloured, (left, top, right, bottom) = covered(shown, scaled, share)
    headings = ("Input of the network (in the frame)", "Areas that raise and lower the score")
    for (x, y, _, _), heading, content in zip(layout.panels, headings, (np.asarray(shown), coloured), strict=True):
        _write(axes, x, y - LINE, heading)
        _show(axes, x, y, content)
        for colour, thickness in (("white", 3), (INK, 1)):
            frame = Rectangle((x + left, y + top), right - left, bottom - top, fill=False, edgecolor=colour)
            frame.set(linewidth=thickness, clip_on=False)
            axes.add_patch(frame)


def _draw_bar(axes: Axes, top: int, limit: float, sign: int) -> None:
    """Draw the colour bar with its labels, worse on the left."""
    left, below = (WIDTH - BAR_WIDTH) // 2, top + BAR_HEIGHT + 4
    shares = np.tile(np.linspace(-1, 1, BAR_WIDTH), (BAR_HEIGHT, 1))
    _show(axes, left, top, tint(np.full_like(shares, _pale(128)), shares))
    for share in (-1, 0, 1) if limit else (0,):
        text = f"{share * limit * sign:+.2g}".replace("-", "\N{MINUS SIGN}") if share else "0"
        _write(axes, left + (1 + share) / 2 * BAR_WIDTH, below, text, ha="center")
    unit = f"points of MOS per {AREA} % of the area in the frame"
    _write(axes, WIDTH / 2, below + LINE, unit, ha="center", color=QUIET)
    _write(axes, left - GAP / 2, top - 2, "lowers quality", ha="right", weight="bold")
    _write(axes, left + BAR_WIDTH + GAP / 2, top - 2, "raises quality", weight="bold")


def _pale(grey: Array | float, white: float = PALE) -> Array | float:
    """Mix grey levels with white, so that colours are distinct over dark areas."""
    return (1 - white) * grey + white * 255


def _show(axes: Axes, x: int, y: int, content: Array) -> None:
    """Draw an image (H, W, 3), one pixel for each of its own."""
    height, width, _ = content.shape
    axes.imshow(content, extent=(x, x + width, y + height, y), aspect="auto", interpolation="nearest")


def _write(axes: Axes, x: float, y: float, text: str, size: int = BODY, **style) -> None:
    """Write one line with its upper edge at y; `$` is literal, and a letter missing from the font becomes `?`."""
    known = get_font(findfont(FONT)).get_charmap()
    text = "".join(letter if ord(letter) in known else "?" for letter in text)
    plain = {"va": "top", "family": FONT, "fontsize": size * 72 / DPI, "usetex": False, "parse_math": False}
    axes.text(x, y, text, **{"color": INK, "ha": "left", **plain, **style})


def _shortened(title: str) -> str:
    title = " ".join(title.split())
    half = TITLE_LETTERS // 2
    return title if len(title) <= TITLE_LETTERS else f"{title[:half]} … {title[-half + 3 :]}"


def _pixels(start: float, end: float, most: int) -> tuple[int, int]:
    """Round to whole pixels from start to end, at least one, below `most`."""
    first = min(round(start), most - 1)
    return first, max(round(end), first + 1)
