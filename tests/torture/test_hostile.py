"""Files made to break the machine that reads them: each is refused, in a process with limits."""

import sys

import pytest
from PIL import Image

from tests.torture.hostile import KINDS, PARTS

LONG = ("checkpoints", "labels")  # seconds to write them; their kinds are tested one by one elsewhere


def cases():
    for number, kind in enumerate(KINDS):
        name = kind.__name__[1:]
        yield pytest.param(number, id=name, marks=[pytest.mark.slow] if name in LONG else [])


@pytest.mark.skipif(sys.platform != "linux", reason="limits of processes are those of Linux")
@pytest.mark.parametrize("number", list(cases()))
def test_hostile_files_are_refused(number, tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 2**28 // 3)  # Pillow's; scoring sets its own limit for the process
    assert PARTS[0].attempt(number, tmp_path, tmp_path).defect == ""
