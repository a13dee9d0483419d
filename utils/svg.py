"""Charts as SVG elements of an HTML page: text stays text, and colours are variables of `page.css`.

A `look` is one or more classes of that style sheet: `ink`, `dark` or `middle` for the colour, `dashed`, `dotted` or
`thin` for a line, `reference` for a line to compare with, `outline` for a bar.

N points, K bars.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from xml.etree.ElementTree import Element, SubElement, tostring

import numpy as np
from markupsafe import Markup

WIDTH, HEIGHT = 360, 252  # of a chart, in drawing units: about a pixel on a phone
LEFT, RIGHT, TOP, BOTTOM = 50, 352, 24, 214  # of the area between the axes
NARROW = "fijlrt =."  # characters
NARROW_WIDTH, OTHER_WIDTH = 3.8, 6.5  # approximate widths of characters, to place the legend's entries
KEY, KEY_GAP, ENTRY_GAP = 18, 5, 13  # widths in the legend
MOST_TICKS, MOST_DECIMALS = 7, 4  # per axis; of a tick's number
LAYERS = 12  # paths of a scatter: overlapping points of different paths look darker
ROOM, LOG_ROOM = 0.04, 1.3  # beyond the values on an axis: share of their range, factor
ROUNDING = 1e-9  # share of an axis by which a value may be outside
BAR_FILL = 0.8  # filled share of the width of a bar or group of bars
FEW, SOME = 6, 4  # up to FEW groups of bars all have a label, else about SOME

Array = np.ndarray


@dataclass(frozen=True)
class Axis:
    """A range with a label. `log` needs `low` above zero; `whole` places ticks only at integers."""

    label: str
    low: float
    high: float
    log: bool = False
    whole: bool = False

    @classmethod
    def around(cls, label: str, values: Array, log: bool = False) -> "Axis":
        """Return the axis that contains all values (N,), at least one, with room at both ends."""
        low, high = float(values.min()), float(values.max())
        if log:
            return cls(label, low / LOG_ROOM, high * LOG_ROOM, log=True)
        room = ROOM * (high - low) or abs(high) / 2 or 1.0
        return cls(label, low - room, high + room)

    def share(self, values: Array) -> Array:
        """Return the position of each value (N,) on the axis, from 0 to 1; NaN if it is outside or NaN."""
        values, low, high = np.asarray(values, dtype=float), self.low, self.high
        if self.log:
            values, low, high = np.log10(values), np.log10(low), np.log10(high)
        shares = (values - low) / (high - low)
        return np.where((shares > -ROUNDING) & (shares < 1 + ROUNDING), shares, np.nan)

    def ticks(self) -> list[tuple[float, str]]:
        """Return round numbers within the range, and their labels."""
        if self.log:
            powers = range(int(np.floor(np.log10(self.low))), int(np.ceil(np.log10(self.high))) + 1)
            every = -(-len(powers) // MOST_TICKS)
            values = [10.0**power for power in powers[::every]]
            return [(value, f"{value:g}") for value in values if self.low <= value <= self.high]
        rough = (self.high - self.low) / MOST_TICKS
        power = 10.0 ** np.floor(np.log10(rough))
        step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * (1 - ROUNDING))
        step = max(step, 1.0) if self.whole else step
        decimals = max(0, -int(np.floor(np.log10(step) + ROUNDING)))
        first, last = np.ceil(self.low / step - ROUNDING), np.floor(self.high / step + ROUNDING)
        values = np.arange(first, last + 1) * step
        style = f".{decimals}f" if decimals <= MOST_DECIMALS else "g"
        return [(float(value), f"{value + 0.0:{style}}".replace("-", "−")) for value in values]


@dataclass
class Chart:
    """A chart with two axes, marks between them, and a legend above.

    Args:
        title: Name of the chart, for screen readers.
        x: Horizontal axis.
        y: Vertical axis.
    """

    title: str
    x: Axis
    y: Axis
    marks: list[Element] = field(default_factory=list)
    legend: list[tuple[str, str, str]] = field(default_factory=list)  # `line` or `bar`, look and name
    note: str = ""  # in the middle

    def line(self, x: Array, y: Array, look: str, name: str = "", dots: bool = False) -> None:
        """Draw a line through points (N,), with gaps where a point is NaN or outside; `dots` marks each point."""
        places = self._places(x, y)
        self._mark("line", look, _line(places), name)
        if dots:
            self._mark("dots", look, _dots(places))

    def level(self, value: float, look: str, name: str) -> None:
        """Draw a horizontal line from end to end."""
        self.line((self.x.low, self.x.high), (value, value), look, name)

    def points(self, x: Array, y: Array) -> None:
        """Draw a scatter of points (N,), smaller for more points."""
        places, layers = self._places(x, y), min(LAYERS, len(x))
        for layer in range(layers):
            self._mark("dots", "middle faint", _dots(places[layer::layers]))
            self.marks[-1].set("style", "stroke-width:" + _text(np.sqrt(np.clip(4000 / len(x), 4, 20))))

    def bars(self, heights: Sequence[float], look: str, name: str) -> None:
        """Draw bars (K,) of equal width over the whole horizontal axis."""
        tops = (BOTTOM - TOP) * self.y.share(heights)
        self._mark("bar", look, _bars(tops, LEFT, (RIGHT - LEFT) / len(heights), BOTTOM), name)

    def svg(self) -> Markup:
        """Return the chart as an SVG element."""
        named = f": {', '.join(name for *_, name in self.legend)}" if self.legend else ""
        root = _root(self.title, f"{self.y.label} over {self.x.label}{named}.", WIDTH, HEIGHT)
        self._draw_axes(root)
        root.extend(self.marks)
        SubElement(root, "path", {"class": "axis", "d": f"M{LEFT} {TOP}V{BOTTOM}H{RIGHT}"})
        self._draw_legend(root)
        if self.note:
            _write(root, self.note, (LEFT + RIGHT) / 2, (TOP + BOTTOM) / 2)
        return Markup(tostring(root, encoding="unicode"))

    def _places(self, x: Array, y: Array) -> Array:
        """Return the positions of points (N, 2), in drawing units."""
        horizontal = LEFT + (RIGHT - LEFT) * self.x.share(x)
        return np.column_stack([horizontal, BOTTOM - (BOTTOM - TOP) * self.y.share(y)])

    def _mark(self, kind: str, look: str, path: str, name: str = "") -> None:
        self.marks.append(Element("path", {"class": f"{kind} {look}", "d": path}))
        self.legend += [(kind, look, name)] if name else []

    def _draw_axes(self, root: Element) -> None:
        grid = SubElement(root, "path", {"class": "grid"})
        lines = []
        for value, text in self.x.ticks():
            place = LEFT + (RIGHT - LEFT) * float(self.x.share(value))
            lines.append(f"M{_text(place)} {TOP}V{BOTTOM}")
            _write(root, text, place, BOTTOM + 15)
        for value, text in self.y.ticks():
            place = BOTTOM - (BOTTOM - TOP) * float(self.y.share(value))
            lines.append(f"M{LEFT} {_text(place)}H{RIGHT}")
            _write(root, text, LEFT - 6, place + 3.7, **{"text-anchor": "end"})
        grid.set("d", "".join(lines))
        _write(root, self.x.label, (LEFT + RIGHT) / 2, BOTTOM + 33, **{"class": "label"})
        middle = (TOP + BOTTOM) / 2
        _write(root, self.y.label, 10, middle, **{"class": "label", "transform": f"rotate(-90 10 {_text(middle)})"})

    def _draw_legend(self, root: Element) -> None:
        start = float(LEFT)
        for kind, look, name in self.legend:
            path = _bar(start, 16, KEY, 8) if kind == "bar" else f"M{_text(start)} 12h{KEY}"
            SubElement(root, "path", {"class": f"{kind} {look}", "d": path})
            _write(root, name, start + KEY + KEY_GAP, 15.7, **{"class": "label", "text-anchor": "start"})
            width = sum(NARROW_WIDTH if character in NARROW else OTHER_WIDTH for character in name)
            start += KEY + KEY_GAP + width + ENTRY_GAP


def bar_strip(
    series: Mapping[str, Sequence[float]],
    ticks: Sequence[tuple[float, str]],
    title: str,
    description: str,
    size: tuple[float, float] = (120, 36),
    span: tuple[float, float, float] | None = None,
) -> Markup:
    """Return bars on a line, without a vertical axis.

    Args:
        series: Heights (K,) from 0 to 1, by look; several series stand side by side.
        ticks: Positions of labels below the line, from 0 at the left to K at the right, and their texts.
        title: Name of the chart.
        description: Description of the chart in words.
        size: Width and height of the bars, in drawing units.
        span: Low end, point and high end of an interval below the line, in the units of `ticks`.
    """
    width, height = size
    count = len(next(iter(series.values())))
    step = width / count
    below = height + (9 if span else 2)
    root = _root(title, description, width, below + 12)
    for number, (look, heights) in enumerate(series.items()):
        path = _bars(height * np.asarray(heights, dtype=float), 0, step, height, number, len(series))
        SubElement(root, "path", {"class": f"bar {look}", "d": path})
    SubElement(root, "path", {"class": "axis", "d": f"M0 {_text(height + 0.5)}H{_text(width)}"})
    if span:
        low, middle, high = (place * step for place in span)
        ends = f"M{_text(low)} {_text(height + 4)}v4m0-2H{_text(high)}m0-2v4"
        SubElement(root, "path", {"class": "axis", "d": ends})
        SubElement(root, "circle", {"class": "here", "cx": _text(middle), "cy": _text(height + 6), "r": "2.8"})
    for place, text in ticks:
        _write(root, text, place * step, below + 10.5)
    return Markup(tostring(root, encoding="unicode"))


def group_ticks(names: Sequence[str]) -> list[tuple[float, str]]:
    """Return labels below the middle of each group of bars, or below some of them if there are many."""
    every = 1 if len(names) <= FEW else -(-len(names) // SOME)
    return [(k + 0.5, names[k]) for k in range(0, len(names), every)]


def _root(title: str, description: str, width: float, height: float) -> Element:
    root = Element("svg", {"class": "chart", "role": "img", "viewBox": f"0 0 {_text(width)} {_text(height)}"})
    SubElement(root, "title").text = title
    SubElement(root, "desc").text = description
    return root


def _write(root: Element, text: str, x: float, y: float, **attributes: str) -> None:
    SubElement(root, "text", {"x": _text(x), "y": _text(y), **attributes}).text = text


def _text(number: float) -> str:
    """Return a coordinate rounded to tenths, finer than visible."""
    return f"{number:.1f}".removesuffix(".0")


def _line(places: Array) -> str:
    drawn = np.isfinite(places).all(axis=1)
    pens = np.where(np.append(False, drawn[:-1]), "L", "M")
    return "".join(f"{pen}{_text(x)} {_text(y)}" for pen, (x, y) in zip(pens[drawn], places[drawn], strict=True))


def _dots(places: Array) -> str:
    """Return very short strokes, whose round ends make dots; the path is a tenth of the size of circles."""
    return "".join(f"M{_text(x)} {_text(y)}h.01" for x, y in places[np.isfinite(places).all(axis=1)])


def _bars(heights: Array, left: float, step: float, ground: float, number: int = 0, count: int = 1) -> str:
    """Return bar `number` of each group of `count` bars; bars without height are omitted."""
    width = step * BAR_FILL / count
    start = left + step * (1 - BAR_FILL) / 2 + number * width
    inset = 0.03 * step if count > 1 else 0
    places = [(start + k * step + inset, height) for k, height in enumerate(heights) if height > 0]
    return "".join(_bar(place, ground, width - 2 * inset, height) for place, height in places)


def _bar(x: float, ground: float, width: float, height: float) -> str:
    return f"M{_text(x)} {_text(ground)}v{_text(-height)}h{_text(width)}V{_text(ground)}z"
