"""The figure of the network is current, and follows the network."""

from xml.etree import ElementTree

from tests.running import ROOT
from tools.draw_architecture import draw, main
from utils.settings import Config, ModelSettings, ScaleSettings


def words(svg: str) -> set[str]:
    return {each.text for each in ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")}


def test_the_figure_is_current(tmp_path):
    assert main(["--output", str(tmp_path / "figure.svg")]) == 0
    figure = ROOT / "docs" / "architecture.svg"
    assert (tmp_path / "figure.svg").read_bytes() == figure.read_bytes(), "run `python tools/draw_architecture.py`"


def test_shapes_are_those_of_the_network():
    assert {"64 × 96 × 96", "192 × 48 × 48", "384 × 24 × 24", "640 → 5", "256 × 5"} <= words(draw(Config()))
    scale = ScaleSettings(low=1, high=7, bin_centers=(1, 2, 3, 4, 5, 6, 7))
    config = Config(model=ModelSettings(backbone="cvt_nano"), scale=scale)
    assert {"32 × 96 × 96", "224 → 7", "256 × 7", "7 logits"} <= words(draw(config))
