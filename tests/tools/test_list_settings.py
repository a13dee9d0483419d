"""The page of all keys is current and complete."""

import pytest

from tests.running import ROOT
from tools.list_settings import main
from utils.errors import UserError
from utils.settings import Config
from utils.settings_reference import MEANINGS, SECTIONS, setting_schemas

PAGE = ROOT / "docs" / "CONFIGURATION.md"


def test_the_page_is_current(tmp_path):
    copy = tmp_path / "page.md"
    copy.write_text(PAGE.read_text(encoding="utf-8"), encoding="utf-8")
    assert main(["--write", str(copy)]) == 0
    advice = "run `python tools/list_settings.py --write docs/CONFIGURATION.md`"
    assert copy.read_text(encoding="utf-8") == PAGE.read_text(encoding="utf-8"), advice


def test_every_key_has_a_meaning_and_no_other_has():
    assert {key for key, _ in setting_schemas()} == MEANINGS.keys()
    assert Config.model_fields.keys() == SECTIONS.keys()


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
