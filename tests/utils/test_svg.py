"""Charts: well-formed, every mark in its place, text escaped."""

from xml.etree.ElementTree import fromstring

import numpy as np
import pytest

from utils.svg import BOTTOM, LEFT, RIGHT, TOP, Axis, Chart, bar_strip, group_ticks

ODD = "<b>&\"'</svg>.jpg"


def test_a_chart_is_well_formed_and_odd_text_is_text():
    chart = Chart(ODD, Axis(ODD, 0, 1), Axis("y", 0, 1))
    chart.points(np.linspace(0, 1, 30), np.linspace(0, 1, 30))
    chart.line((0, 1), (1, 0), "dark", ODD, dots=True)
    chart.bars([0.5, 0, 1], "middle", "bars")
    root = fromstring(chart.svg())
    assert root.get("role") == "img"
    assert [element.text for element in root[:2]] == [ODD, f"y over {ODD}: {ODD}, bars."]
    assert {ODD, "bars", "y", "0.0", "1.0"} <= {text.text for text in root.iter("text")}
    paths = {(path.get("class"), path.get("d")) for path in root.iter("path")}
    assert sum(d.count("h.01") for look, d in paths if look == "dots middle faint") == 30
    assert ("line dark", f"M{LEFT} {TOP}L{RIGHT} {BOTTOM}") in paths
    assert sorted(d.count("M") for look, d in paths if look == "bar middle") == [1, 2]  # the legend, the bars
    assert "b" not in {element.tag for element in root.iter()}


def test_a_line_has_gaps_where_it_is_not_defined_or_beyond_an_axis():
    chart = Chart("line", Axis("x", 0, 4), Axis("y", 0, 1))
    chart.line(np.arange(5), np.array([0, np.nan, 1, 2, 0.5]), "dark")
    (path,) = [mark.get("d") for mark in chart.marks]
    assert path == f"M{LEFT} {BOTTOM}M{(LEFT + RIGHT) // 2} {TOP}M{RIGHT} {(TOP + BOTTOM) // 2}"


@pytest.mark.parametrize(
    ("axis", "texts"),
    [
        (Axis("", 0, 1), ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]),
        (Axis("", -2.6, 2.6), ["−2", "−1", "0", "1", "2"]),
        (Axis("", 0.97, 1.03, whole=True), ["1"]),
        (Axis("", 0.9, 3.1, whole=True), ["1", "2", "3"]),
        (Axis("", 0, 320), ["0", "50", "100", "150", "200", "250", "300"]),
        (Axis("", 0, 2.1e-9), ["0", "5e−10", "1e−09", "1.5e−09", "2e−09"]),
        (Axis("", 0.02, 30, log=True), ["0.1", "1", "10"]),
        (Axis("", 1e-9, 10, log=True), ["1e-09", "1e-07", "1e-05", "0.001", "0.1", "10"]),
    ],
)
def test_ticks_are_round_and_within(axis, texts):
    values, shown = zip(*axis.ticks(), strict=True)
    assert list(shown) == texts
    assert all(axis.low <= value <= axis.high for value in values)


@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize("values", [[0.5], [0.1, 5, 20], [3, 3]])
def test_an_axis_holds_what_it_is_around(values, log):
    axis = Axis.around("", np.array(values), log=log)
    assert axis.low < min(values) <= max(values) < axis.high
    shares = axis.share(np.array(values))
    assert ((shares > 0) & (shares < 1)).all()


def test_bars_side_by_side_share_their_room():
    strip = fromstring(bar_strip({"outline": [1, 0.5], "middle": [0, 1]}, group_ticks(["a", ODD]), "t", ODD, (100, 10)))
    bars = [path.get("d") for path in strip.iter("path") if path.get("class").startswith("bar")]
    assert [path.count("z") for path in bars] == [2, 1]
    assert [text.text for text in strip.iter("text")] == ["a", ODD]
    assert strip.find("desc").text == ODD
