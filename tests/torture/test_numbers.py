"""The first attempts of each part."""

import pytest

from tests.torture.numbers import ODD, compare_metrics, train_on_odd_labels
from tests.torture.part import Outcome


def test_metrics_are_scipys(tmp_path):
    assert compare_metrics(0, tmp_path, tmp_path) == Outcome()


@pytest.mark.parametrize("number", range(len(ODD)), ids=[odd.name for odd in ODD])
def test_odd_labels(number, tmp_path, monkeypatch):
    monkeypatch.setattr("main.print_report", lambda *_: None)
    assert train_on_odd_labels(number, tmp_path, tmp_path) == Outcome()
