"""tools/report.py as its user runs it."""

import pytest

from tests.running import run_as_script
from tools.report import main


def test_a_report_is_built_again(run, capsys):
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


def test_a_mistake_is_one_line_and_status_2(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert run_as_script(monkeypatch, "tools/report.py", "nowhere") == 2
    error = "error: nowhere is not a folder; name the folder of a run, such as checkpoint/demo\n"
    assert capsys.readouterr().err == error
    assert list(tmp_path.iterdir()) == []
