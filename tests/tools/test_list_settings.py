"""The page of all keys is current and complete."""

import pytest

from tests.running import ROOT
from tools.list_settings import main
from utils.config import flatten
from utils.errors import UserError
from utils.settings import Config

PAGE = ROOT / "docs" / "CONFIGURATION.md"


def test_the_page_is_current(tmp_path):
    copy = tmp_path / "page.md"
    copy.write_text(PAGE.read_text(encoding="utf-8"), encoding="utf-8")
    assert main(["--write", str(copy)]) == 0
    advice = "run `python tools/list_settings.py --write docs/CONFIGURATION.md`"
    assert copy.read_text(encoding="utf-8") == PAGE.read_text(encoding="utf-8"), advice


def test_every_key_has_a_meaning(capsys):
    assert main([]) == 0
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| `")]
    keys = {row.split("`")[1] for row in rows}
    config = Config().model_dump(exclude={"dataset"}) | {"dataset": Config().dataset[0].model_dump() | {"scale": None}}
    assert keys == flatten(config).keys()
    assert all(len(row.split(" | ")[-1].split()) > 2 for row in rows)  # words and the closing bar


def test_rows(capsys):
    assert main([]) == 0
    output = capsys.readouterr().out
    assert "| `model.memory_weight` | number | `0.001` | ≥ 0 and ≤ 1 |" in output
    assert "| `optim.ema_decay` | number or `null` | `null` | > 0 and < 1 |" in output
    assert "| `train.precision` | choice | `fp32` | `fp32`, `tf32`, `bf16` |" in output
    assert "| `scale.bin_centers` | list of numbers | `[1, 2, 3, 4, 5]` |" in output


def test_a_page_without_marks_is_refused(tmp_path):
    (tmp_path / "page.md").write_text("no marks")
    with pytest.raises(UserError, match="no mark <!-- settings -->"):
        main(["--write", str(tmp_path / "page.md")])
