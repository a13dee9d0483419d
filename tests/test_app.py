"""app.py: what it says of a machine or a command with which it cannot show the page."""

import subprocess
import sys

import pytest

from app import main
from tests.running import ROOT
from utils import installation


def test_missing_packages_are_named(monkeypatch, capsys):
    monkeypatch.setattr(installation, "find_spec", lambda name: None if name == "gradio" else object())
    with pytest.raises(SystemExit, match="2"):
        main([])
    error = capsys.readouterr().err
    assert error.startswith("error: not installed for ")
    assert error.endswith(": gradio; run `pip install -r requirements-app.txt`\n")


def test_a_checkpoint_that_does_not_exist(tmp_path):
    pytest.importorskip("gradio")
    command = [sys.executable, "app.py", "--checkpoint", str(tmp_path / "no.pt")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"error: checkpoint {tmp_path / 'no.pt'} does not exist\n"
