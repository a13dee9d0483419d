"""The first attempts of each part."""

import pytest

from tests.torture import numbers
from tests.torture.numbers import ODD, compare_metrics, train_on_odd_labels
from tests.torture.part import Outcome

FINISHED = [number for number, odd in enumerate(ODD) if not odd.error]  # whole trainings


def test_metrics_are_scipys(tmp_path, monkeypatch):
    monkeypatch.setattr(numbers, "INPUTS", 200)
    assert compare_metrics(0, tmp_path, tmp_path) == Outcome()


@pytest.mark.parametrize(
    "number",
    [pytest.param(n, id=odd.name, marks=[pytest.mark.slow] if n in FINISHED[:3] else []) for n, odd in enumerate(ODD)],
)
def test_odd_labels(number, tmp_path, monkeypatch):
    monkeypatch.setattr("main.print_report", lambda *_: None)
    assert train_on_odd_labels(number, tmp_path, tmp_path) == Outcome()
