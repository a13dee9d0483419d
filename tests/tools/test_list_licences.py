"""Licences of what is installed."""

from email.message import Message
from types import SimpleNamespace

import pytest

from tests.test_requirements import requirements
from tools.list_licences import ROOT, licence, main, required_by


def test_every_requirement_and_what_it_requires_is_listed(capsys):
    assert main([]) == 0
    listed = {line.split(" | ")[0].removeprefix("| ") for line in capsys.readouterr().out.splitlines()}
    assert {each.name.replace("_", "-") for each in requirements(ROOT / "requirements.txt")} <= listed
    assert {"pydantic-core", "RichIQA-Lite"} <= listed
    assert "pytest" not in listed


def test_files_that_a_file_refers_to(tmp_path):
    (tmp_path / "a.txt").write_text("-r b.txt\n# a comment\n\nray[data]>=2,<3\n")
    (tmp_path / "b.txt").write_text("numpy>=1\n")
    assert required_by(tmp_path / "a.txt") == ["ray", "numpy"]


@pytest.mark.parametrize(
    ("stated", "expected"),
    [
        ([("License-Expression", "MIT"), ("License", "see file")], "MIT"),
        ([("Classifier", "License :: OSI Approved :: MIT License"), ("License", "see file")], "MIT License"),
        ([("Classifier", "Programming Language :: Python"), ("License", "BSD")], "BSD"),
        ([("License", "Copyright 2026\nAll of the text")], "not stated"),
        ([], "not stated"),
    ],
)
def test_what_a_package_states(stated, expected):
    metadata = Message()
    for name, value in stated:
        metadata[name] = value
    assert licence(SimpleNamespace(metadata=metadata)) == expected
