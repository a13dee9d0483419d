"""The first scripts in an odd place, and that none is forgotten."""

import pytest

from tests.torture.part import run_part
from tests.torture.portability import COMMANDS, PARTS, ROOT, safe_on_windows


@pytest.mark.slow
def test_the_first_script_runs_in_an_odd_place(tmp_path):
    assert [result.defect for result in run_part(PARTS[0], tmp_path, 1)] == [""]


@pytest.mark.slow
def test_every_script_runs_in_an_odd_place(tmp_path):
    assert {result.defect for result in run_part(PARTS[0], tmp_path, PARTS[0].count)} == {""}


def test_every_script_is_run():
    scripts = [path for pattern in ("*.py", "tools/*.py", "benchmarks/*.py") for path in ROOT.glob(pattern)]
    ours = {str(path.relative_to(ROOT)) for path in scripts if "run_script(" in path.read_text(encoding="utf-8")}
    assert ours == COMMANDS.keys()


@pytest.mark.parametrize("name", ["con", "Con.txt", "aux.a.b", "a.", "a ", "a:b", "a\nb", "LPT9", "nul .png"])
def test_names_that_windows_refuses(name):
    assert not safe_on_windows(name)
    assert safe_on_windows(f"_{name.replace(':', '_').split()[0]}_")
