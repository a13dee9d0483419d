"""The photographs that come with the project, and their table."""

import re

import numpy as np
import pytest
from PIL import Image

from scoring.loading import SHIPPED_WEIGHTS, load_predictor
from tests.lite import lite_checkpoint
from tools.score_examples import PHOTOGRAPHS, damaged_versions, main

MOST_BYTES = 100_000
NAMES = ["astronaut", "cat", "coffee"]


def table(text: str) -> tuple[list[str], dict[str, list[float]]]:
    """The titles and the rows of a printed table, by photograph."""
    titles, _, *rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines()[2:]]
    return titles, {name: [float(score) for score in scores] for name, *scores in rows}


def test_each_photograph_is_scored_in_every_version(tmp_path, capsys):
    checkpoint = lite_checkpoint(tmp_path / "best.pt")
    assert main(["--checkpoint", str(checkpoint)]) == 0
    text = capsys.readouterr().out
    assert text.startswith("MOS predicted by best.pt, on a scale of 1 to 5, higher is better:\n\n")
    titles, rows = table(text)
    assert titles == ["photograph", "as it is", "blur, 3 pixels", "noise, 15%", "JPEG, quality 8"]
    assert list(rows) == NAMES
    predictor = load_predictor(checkpoint)
    for name, scores in rows.items():
        path = PHOTOGRAPHS / f"{name}.jpg"
        _, *damaged = damaged_versions(Image.open(path)).values()
        expected = [predictor(path).mos, *(predictor(image).mos for image in damaged)]
        assert scores == pytest.approx(expected, abs=0.006)
        assert max(scores) - min(scores) > 0.05


@pytest.mark.parametrize("name", NAMES)
def test_damage_is_what_its_title_says(name):
    """Measured on the pixels: the noise's deviation where nothing is clipped, and edges that blur removes."""
    image = Image.open(PHOTOGRAPHS / f"{name}.jpg")
    clean, blurred, noisy, compressed = (np.asarray(each, float) for each in damaged_versions(image).values())
    middle = (clean > 110) & (clean < 145)
    assert (noisy - clean)[middle].std() == pytest.approx(0.15 * 255, rel=0.03)
    edges = [np.abs(np.diff(each, axis=1)).mean() for each in (clean, blurred)]
    assert edges[1] < 0.6 * edges[0]
    assert 2 < np.abs(compressed - clean).mean() < 15
    blocks = np.abs(np.diff(compressed.mean(2), axis=1)).mean(0)  # steps between columns are largest between blocks
    assert blocks[7::8].mean() > 1.3 * np.delete(blocks, np.s_[7::8]).mean()


def test_they_are_small_and_their_licences_are_stated():
    page = (PHOTOGRAPHS / "README.md").read_text(encoding="utf-8")
    files = sorted(PHOTOGRAPHS.glob("*.jpg"))
    assert [path.stem for path in files] == NAMES
    for path in files:
        assert path.stat().st_size <= MOST_BYTES
        (row,) = [line for line in page.splitlines() if f"`{path.name}`" in line]
        assert re.search("CC0|public domain", row)
        width, height = Image.open(path).size
        assert f"{width} x {height}" in row


@pytest.mark.skipif(not SHIPPED_WEIGHTS.is_file(), reason="the weights are not in this checkout")
def test_the_shipped_weights_prefer_the_photographs_as_they_are(capsys):
    assert main([]) == 0
    for name, (clean, *damaged) in table(capsys.readouterr().out)[1].items():
        assert clean > max(damaged), name
