"""The first attempts at load, of few images, rows, runs and databases."""

import pytest

from tests.torture.load import load_parts
from tests.torture.part import run_part
from tests.torture.visitors import crowd

IMAGES, ROWS, RUNS, UNION = load_parts(images=200, rows=500, runs=3, databases=2)


@pytest.mark.parametrize(
    "part",
    [IMAGES, *(pytest.param(part, marks=pytest.mark.slow) for part in (RUNS, ROWS, UNION))],
    ids=lambda part: part.name,
)
def test_everything_holds(part, tmp_path):
    results = run_part(part, tmp_path, 1)
    assert [result.defect for result in results] == [""]
    assert results[0].figure


def test_two_visitors(tmp_path):
    pytest.importorskip("gradio")
    outcome = crowd(0, tmp_path, tmp_path, visitors=2, duration=2)
    assert outcome.defect == ""
    assert outcome.figure.startswith(tuple("123456789"))
