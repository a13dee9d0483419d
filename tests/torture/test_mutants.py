"""The list of mutants fits the code."""

import pytest

from tests.torture.mutants import MUTANTS, ROOT, Mutant, mutant_is_noticed


@pytest.mark.parametrize("mutant", MUTANTS, ids=[mutant.name.replace(" ", "_") for mutant in MUTANTS])
def test_what_a_mutant_changes_is_there_once(mutant):
    assert (ROOT / mutant.file).read_text(encoding="utf-8").count(mutant.before) == 1
    assert all((ROOT / test).exists() for test in mutant.tests.split())


def test_a_fault_that_no_test_sees_is_a_defect(tmp_path, monkeypatch):
    project = tmp_path / "project"
    project.mkdir()
    (project / "doubling.py").write_text("def double(x):\n    return 2 * x\n")
    (project / "test_code.py").write_text("import doubling\n\ndef test_it():\n    assert doubling.double(2) == 4\n")
    faults = (("seen", "2 * x", "3 * x"), ("unseen", "2 * x", "x + 2"))
    mutants = [Mutant(name, "doubling.py", before, after, "test_code.py") for name, before, after in faults]
    monkeypatch.setattr("tests.torture.mutants.MUTANTS", mutants)
    defects = [mutant_is_noticed(number, tmp_path / str(number), project).defect for number in range(2)]
    assert defects == ["", "unseen: not noticed by test_code.py"]
