"""Figures of a report as SVG text: small, with the colours and the font of the page that they stand in.

N images, S splits, E epochs.
"""

import io
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import matplotlib as mpl
import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch
from matplotlib.path import Path
from matplotlib.ticker import MaxNLocator

from datasets.scale import RatingScale
from utils.metrics import logistic

SIZE = (4.9, 3.5)  # inches; a point is about a pixel on a phone
PLACE = (0.135, 0.155, 0.845, 0.735)  # of the axes: left, bottom, width, height
FONT_SIZE = 10.5
# drawn in colours that nothing else has, which become the page's
INK, QUIET, DARK, MIDDLE, LIGHT = "#010203", "#020304", "#030405", "#040506", "#050607"
COLOURS = {INK: "ink", QUIET: "quiet", DARK: "dark", MIDDLE: "middle", LIGHT: "light"}
LAYERS = 12  # a scatter is so many paths: where points of different ones overlap, it is darker
FEW_EPOCHS = 10  # up to so many are marked by dots: a line needs two that are defined
GROUPS, GROUP = 10, 5  # of a running mean: so many groups of so many images at least
SMALLEST = 1e-9  # top of an axis on which everything is zero
MARGIN = 0.03  # of an axis beyond the scale

Array = np.ndarray


@dataclass(frozen=True)
class Series:
    """One quantity over the epochs, in every split.

    Args:
        name: In the legend.
        values: (S, E), NaN where it is not defined.
        colour: One of the five.
        dashes: matplotlib's line style.
    """

    name: str
    values: Array
    colour: str = DARK
    dashes: str | tuple = "-"


def curves(
    key: str, series: Sequence[Series], label: str, ceiling: float | None = None, axis: str = "linear"
) -> Markup:
    """Lines over epochs: each split thin, their mean thick.

    Args:
        key: Different for every figure of a page.
        series: One or more.
        label: Of the vertical axis.
        ceiling: A level to compare with: the noise ceiling by bootstrap.
        axis: `linear`, `from zero`, or `log`: where all values are above zero and differ by a factor of 20 at least, so
            that a power of ten is among them.
    """
    with _figure(key) as (figure, axes):
        for one in series:
            _lines(axes, one)
        if ceiling is not None:
            axes.axhline(ceiling, color=INK, linestyle=":", linewidth=1, label=f"noise ceiling {ceiling:.3f}")
        axes.set(xlabel="epoch", ylabel=label)
        epochs = series[0].values.shape[1]
        axes.set_xlim(1 - 0.03 * epochs, epochs + 0.03 * epochs)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        finite = np.concatenate([one.values[np.isfinite(one.values)] for one in series])
        if len(finite) == 0:
            _say(axes, "not defined in any epoch")
        elif axis == "from zero":
            axes.set_ylim(0, 1.06 * max(finite.max(), SMALLEST))
        elif axis == "log" and finite.max() > 20 * finite.min() > 0:
            axes.set_yscale("log")
            axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
            axes.yaxis.set_minor_formatter(lambda *_: "")
        return _svg(figure, key)


def mos_scatter(key: str, pred: Array, target: Array, scale: RatingScale, fit: Array | None) -> Markup:
    """MOS labels (N,) over predicted MOS (N,), with the diagonal and the logistic fit, where there is one."""
    with _figure(key) as (figure, axes):
        _points(axes, pred, target)
        span = _span(scale, pred, target)
        axes.plot(span, span, color=INK, linestyle=":", linewidth=1, label="label = prediction")
        if fit is not None:
            line = np.linspace(pred.min(), pred.max(), 100)
            axes.plot(line, logistic(line, *fit), color=DARK, linewidth=2.2, label="logistic fit")
        unit = points_of(scale)
        axes.set(xlim=span, ylim=span, xlabel=f"predicted MOS ({unit})", ylabel="MOS label (points)")
        return _svg(figure, key)


def sos_scatter(key: str, pred: Array, target: Array, scale: RatingScale) -> Markup:
    """SOS labels (N,) over predicted SOS (N,), with the diagonal."""
    with _figure(key) as (figure, axes):
        _points(axes, pred, target)
        most = max(pred.max(), target.max(), MARGIN * (scale.high - scale.low)) * (1 + 2 * MARGIN)
        axes.plot((0, most), (0, most), color=INK, linestyle=":", linewidth=1, label="label = prediction")
        unit = points_of(scale)
        axes.set(xlim=(0, most), ylim=(0, most), xlabel=f"predicted SOS ({unit})", ylabel="SOS label (points)")
        return _svg(figure, key)


def residuals(key: str, mapped: Array, target: Array, scale: RatingScale) -> Markup:
    """Mapped prediction less MOS label (N,), over the label, with the running mean."""
    residual = mapped - target
    with _figure(key) as (figure, axes):
        _points(axes, target, residual)
        axes.axhline(0, color=INK, linestyle=":", linewidth=1, label="no error")
        order = np.argsort(target, kind="stable")
        groups = np.array_split(order, min(GROUPS, max(1, len(order) // GROUP)))
        if len(groups) > 1:
            means = np.array([(target[group].mean(), residual[group].mean()) for group in groups])
            axes.plot(*means.T, color=DARK, linewidth=2.2, marker="o", markersize=4, label="running mean")
        most = max(np.abs(residual).max(), MARGIN * (scale.high - scale.low)) * (1 + 2 * MARGIN)
        axes.set(xlim=_span(scale, target), ylim=(-most, most))
        axes.set(xlabel=f"MOS label ({points_of(scale)})", ylabel="prediction − label (points)")
        return _svg(figure, key)


def pit(key: str, shares: Sequence[float]) -> Markup:
    """Share of images in each tenth of PIT, with the line of uniformity."""
    count = len(shares)
    with _figure(key) as (figure, axes):
        axes.bar((np.arange(count) + 0.5) / count, shares, 0.9 / count, color=MIDDLE, label="test images")
        axes.axhline(1 / count, color=INK, linestyle=":", linewidth=1.4, label="uniform")
        axes.set(xlim=(0, 1), xlabel="share of the predicted distribution below the MOS label")
        axes.set(ylabel="share of images", xticks=np.linspace(0, 1, 6))
        return _svg(figure, key)


def points_of(scale: RatingScale) -> str:
    """`points of 1 to 5`."""
    return f"points of {scale.low:g} to {scale.high:g}"


@contextmanager
def _figure(key: str) -> Iterator[tuple[Figure, Axes]]:
    """An empty figure, without what the user's matplotlibrc says."""
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": key, "font.size": FONT_SIZE})
        mpl.rcParams["path.simplify"] = False  # it would take points for strokes of no length
        figure = Figure(figsize=SIZE)
        axes = figure.add_axes(PLACE)
        axes.spines[["top", "right"]].set_visible(False)
        axes.spines[["left", "bottom"]].set_color(QUIET)
        axes.grid(color=LIGHT, linewidth=0.6)
        axes.set_axisbelow(True)
        axes.tick_params(which="both", length=0, pad=6, labelcolor=QUIET)
        axes.xaxis.label.set_color(INK)
        axes.yaxis.label.set_color(INK)
        yield figure, axes


def _points(axes: Axes, x: Array, y: Array) -> None:
    """A scatter as a few paths of zero-length strokes with round ends: a tenth of what markers take."""
    diameter = float(np.sqrt(np.clip(4000 / len(x), 4, 20)))
    layers = min(LAYERS, len(x))
    for layer in range(layers):
        dots = np.repeat(np.column_stack([x[layer::layers], y[layer::layers]]), 2, axis=0)  # (2 n, 2)
        path = Path(dots, np.tile([Path.MOVETO, Path.LINETO], len(dots) // 2))
        look = {"edgecolor": MIDDLE, "facecolor": "none", "linewidth": diameter, "alpha": 0.55}
        axes.add_artist(PathPatch(path, capstyle="round", snap=False, gid="points", **look))


def _lines(axes: Axes, series: Series) -> None:
    epochs = np.arange(1, series.values.shape[1] + 1)
    few = {"marker": "o", "markersize": 3} if len(epochs) <= FEW_EPOCHS else {}
    look = {"color": series.colour, "linestyle": series.dashes, **few}
    if len(series.values) == 1:
        axes.plot(epochs, series.values[0], linewidth=1.8, label=series.name, **look)
        return
    for values in series.values:
        axes.plot(epochs, values, linewidth=0.8, alpha=0.5, **look)
    axes.plot(epochs, series.values.mean(0), linewidth=2, label=series.name, **look)


def _span(scale: RatingScale, *values: Array) -> tuple[float, float]:
    """From the lowest to the highest score, wider where values are beyond, with a margin."""
    low, high = (extreme([end, *map(extreme, values)]) for extreme, end in ((min, scale.low), (max, scale.high)))
    room = MARGIN * (high - low)
    return low - room, high + room


def _say(axes: Axes, text: str) -> None:
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", color=QUIET)


def _svg(figure: Figure, key: str) -> Markup:
    """The figure as an element of a page: no header, no ids but unique ones, no fonts, and variables for colours."""
    (axes,) = figure.axes
    if axes.get_legend_handles_labels()[0]:
        legend = {"loc": "lower left", "bbox_to_anchor": (-0.01, 0.98), "ncols": 4, "columnspacing": 1.2}
        axes.legend(frameon=False, labelcolor=INK, handlelength=1.8, handletextpad=0.5, borderpad=0.2, **legend)
    file = io.StringIO()
    figure.savefig(file, format="svg", transparent=True, metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    svg = file.getvalue()
    width, height = (round(72 * length, 1) for length in SIZE)
    content = svg[svg.index("</defs>") + len("</defs>") : svg.rindex("</svg>")]  # what is before is a style sheet
    used = set(re.findall(r'(?:xlink:href="|url\()#([^")]+)', content))
    content = re.sub(r' id="([^"]+)"', lambda found: f' id="{key}-{found[1]}"' if found[1] in used else "", content)
    content = re.sub(r'xlink:href="#|url\(#', lambda found: found[0].removeprefix("xlink:") + f"{key}-", content)
    content = re.sub(r"font: [^;\"]*?([\d.]+px)[^;\"]*", r"font-size: \1", content)  # as older matplotlibs write it
    content = re.sub(r"font-family: [^;\"]*; | transform=\"rotate\(-0 [^)]*\)\"|<g/>", "", content)
    content = re.sub(r' d="([^"]*)"', lambda found: f' d="{_short_path(found[1])}"', content)
    content = re.sub(r"<!--.*?-->|\n\s*", lambda found: "" if found[0][0] == "<" else " ", content)
    for colour, name in COLOURS.items():
        content = content.replace(colour, f"var(--{name})")
    return Markup(f'<svg viewBox="0 0 {width} {height}" aria-hidden="true">{content.strip()}</svg>')


def _short_path(path: str) -> str:
    """The same path in tenths of a point, dots as short strokes."""
    path = re.sub(r"\d+\.\d+", lambda number: f"{float(number[0]):.1f}".removesuffix(".0"), " ".join(path.split()))
    return re.sub(r"M (\S+ \S+) L \1(?= M|$)", r"M\1h.01", path)
