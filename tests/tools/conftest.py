"""Runs to summarise."""

import pytest

from tests.tools.made_runs import OURS, RMSE, THEIRS, write_run


@pytest.fixture
def runs(tmp_path):
    """A folder with two runs on KonIQ-10k over the same six splits, and a file that is no run."""
    write_run(tmp_path, "ours_full", [{"srcc": s, "rmse": r, "jsd": s / 10} for s, r in zip(OURS, RMSE, strict=True)])
    write_run(tmp_path, "theirs", [{"srcc": s, "rmse": 0.3 - s / 10, "jsd": 0.1} for s in THEIRS])
    (tmp_path / "README.md").write_text("no run")
    return tmp_path
