"""Files made to break the machine that reads them: each is refused, in a process with limits."""

import pytest

from tests.torture.hostile import KINDS, PARTS


@pytest.mark.parametrize("number", range(len(KINDS)), ids=[kind.__name__[1:] for kind in KINDS])
def test_hostile_files_are_refused(number, tmp_path):
    assert PARTS[0].attempt(number, tmp_path, tmp_path).defect == ""
