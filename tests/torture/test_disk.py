"""The first few disks that fail, and the first damaged checkpoints; `python -m tests.torture` tries hundreds."""

import errno
from functools import partial
from pathlib import Path

import pytest

from tests.running import copy_run
from tests.torture import bits, disk
from tests.torture.faults import Fault, install, may_mount, run_forked
from utils.files import write_text


@pytest.fixture(scope="module")
def prepared(_trained, tmp_path_factory) -> Path:
    """What two scripts that need the run of other tests leave on a sound disk."""
    folder = tmp_path_factory.mktemp("prepared")
    copy_run(_trained, folder / "train")
    disk.prepare(folder, ("export", "summarize"))
    return folder


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("main.print_report", lambda *_: None)
        disk.prepare(folder, ("train",))
    return folder


@pytest.mark.parametrize("number", [3, 5])
def test_an_operation_of_the_disk_that_fails(number, prepared, tmp_path):
    assert disk.operation(number, tmp_path, prepared).defect == ""


@pytest.mark.parametrize("number", [3, 11, *(pytest.param(number, marks=pytest.mark.slow) for number in (7, 15))])
def test_a_disk_that_is_full_or_without_inodes_or_read_only_or_gone(number, prepared, tmp_path):
    (tmp_path / "mount").mkdir()
    if not may_mount(tmp_path / "mount"):
        pytest.skip("only root may mount a disk, and not in every container")
    assert disk.tmpfs(number, tmp_path, prepared).defect == ""


def test_a_limit_on_the_size_of_files(prepared, tmp_path):
    assert disk.limited(1, tmp_path, prepared).defect == ""


@pytest.mark.slow
@pytest.mark.parametrize(("attack", "number"), [(disk.operation, 7), (disk.operation, 35), (disk.limited, 0)])
def test_a_training_on_a_disk_that_fails(attack, number, trained, tmp_path):
    assert attack(number, tmp_path, trained).defect == ""


def test_the_fault_is_met_and_told(tmp_path):
    """The harness itself: a fault that never comes would be no test."""

    def write_three() -> int:
        for name in "abc":
            write_text(tmp_path / name, name)
        return 0

    for fault, left in ((Fault(2), 0), (Fault(10), 1), (Fault(15, errno.ENOSPC, lasting=True), 2), (Fault(0), 3)):
        for path in tmp_path.iterdir():
            path.unlink()
        ended = run_forked(write_three, tmp_path.parent, partial(install, tmp_path, fault))
        assert ended.status == (0 if left == 3 else 1), ended.err
        assert ended.err.count("cannot be written: ") == (left < 3)
        assert len(list(tmp_path.iterdir())) == left


@pytest.mark.slow
@pytest.mark.parametrize("part", bits.PARTS, ids=lambda part: part.name)
def test_damaged_checkpoints(part, tmp_path):
    """tests/utils/test_checksum.py does it among the quick tests, with smaller files."""
    (tmp_path / "prepared").mkdir()
    part.prepare(tmp_path / "prepared")
    for number in range(len(bits.FILES)):
        assert part.attempt(number, tmp_path, tmp_path / "prepared").defect == ""
