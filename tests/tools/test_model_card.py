"""tools/model_card.py as its user runs it; what it writes is tested in tests/experiments/model_card/."""

from pathlib import Path

import pytest

from tests.running import run_as_script
from tools import model_card


def test_the_defaults_are_the_shipped_file_and_its_evaluations(tmp_path, monkeypatch, capsys):
    weights = tmp_path / "richiqa_lite.safetensors"
    monkeypatch.setattr("scoring.loading.SHIPPED_WEIGHTS", weights)
    for path in (weights, tmp_path / "photo.png"):
        path.write_text("")
    calls = []
    monkeypatch.setattr(model_card, "write_card", lambda *given: calls.append(given) or Path("figure.png"))
    assert model_card.main([str(tmp_path / "photo.png"), "--output", str(tmp_path / "card.md")]) == 0
    folder = Path("checkpoint/evaluations/richiqa_lite")
    assert calls == [(weights, [folder], [str(tmp_path / "photo.png")], tmp_path / "card.md", None)]
    assert capsys.readouterr().out == f"written to {tmp_path / 'card.md'} and figure.png\n"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([], "name photographs, folders, patterns or a --list"),
        (["--list", "nowhere.txt"], "error: --list: nowhere.txt does not exist"),
        (["photo.png", "--evaluations", "nowhere"], "error: --evaluations: nowhere contains no metrics.json"),
    ],
)
def test_mistakes_are_one_line_and_status_2(given, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert run_as_script(monkeypatch, "tools/model_card.py", "--checkpoint", "a.pt", *given, "--output", "card.md") == 2
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
