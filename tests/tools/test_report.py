"""tools/report.py as its user runs it."""

import subprocess
import sys

import pytest

from tests.running import ROOT
from tools.report import main


def test_a_report_is_built_anew(run, capsys):
    report = run.parent / "report.html"
    report.write_text("old")
    capsys.readouterr()
    assert main([str(run.parent)]) == 0
    assert capsys.readouterr().out == f"report: {report}\n"
    assert report.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")


def test_no_run_is_a_mistake(capsys):
    with pytest.raises(SystemExit, match="2"):
        main([])
    assert "the following arguments are required: RUN" in capsys.readouterr().err


def test_a_mistake_is_one_line_and_status_2(tmp_path):
    command = [sys.executable, ROOT / "tools" / "report.py", "nowhere"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == "error: nowhere is not a folder; name the folder of a run, such as checkpoint/demo\n"
    assert list(tmp_path.iterdir()) == []
