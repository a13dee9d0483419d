"""What processes that belong together do together, and how they end."""

import os
import signal
import sys
import time
from functools import partial

import pytest
import torch

from tests.processes import results, run_processes
from utils.distributed import (
    any_process,
    barrier,
    broadcast_from_main,
    gathered,
    in_turns,
    is_main,
    main_process_only,
    rank,
    sum_over_processes,
)
from utils.errors import MachineError, UserError
from utils.processes import process_group


def test_in_one_process_nothing_happens(tmp_path):
    assert (is_main(), any_process(True), any_process(False), gathered([1, 2]), broadcast_from_main(3)) == (
        True,
        True,
        False,
        [1, 2],
        3,
    )
    values = torch.ones(2)
    assert sum_over_processes(values) is values
    with process_group(), in_turns():
        main_process_only((tmp_path / "file").write_text)("text", encoding="utf-8")
    assert (tmp_path / "file").read_text() == "text"


def test_what_is_agreed_on_is_the_same_in_all(tmp_path):
    def together() -> list:
        barrier()
        gathered_items = gathered([f"{rank()}{letter}" for letter in "abc"[: rank()]])
        total = sum_over_processes(torch.tensor([1.0, rank()]))
        return [
            gathered_items,
            broadcast_from_main(rank()),
            any_process(rank() == 2),
            any_process(False),
            total.tolist(),
        ]

    assert results(together, tmp_path, 3) == [[["1a", "2a", "2b"], 0, True, False, [3.0, 3.0]]] * 3


def test_the_first_comes_first_and_writes_alone(tmp_path):
    written = tmp_path / "written"

    def turns() -> list[bool]:
        with in_turns():
            before = written.exists()
            time.sleep(0.2)
            written.touch()
        main_process_only((tmp_path / f"by_{rank()}").touch)(exist_ok=False)
        return [before, (tmp_path / "by_0").exists(), (tmp_path / "by_1").exists()]

    assert results(turns, tmp_path) == [[False, True, False], [True, True, False]]


def script(fail) -> int:
    with process_group():
        print("said once")
        print("and once there", file=sys.stderr)
        fail()
        barrier()  # where the others wait for the one that has failed
    return 0


def fail_in(number: int, error: BaseException) -> None:
    if rank() == number:
        raise error


@pytest.mark.parametrize("number", [0, 1])
@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (UserError("photo.jpg\nis no picture"), 2, r"error: photo.jpg\nis no picture"),
        (MachineError("the disk is full"), 1, "error: the disk is full"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_an_error_in_one_ends_all_in_one_line(number, error, status, line, tmp_path):
    first, second = run_processes(partial(script, partial(fail_in, number, error)), tmp_path)
    assert (first.status, second.status) == (status, status)
    assert (first.out, first.err) == ("said once\n", f"and once there\n{line}\n")
    assert (second.out, second.err) == ("", "")


def test_the_same_error_in_all_is_said_once(tmp_path):
    def fail() -> None:
        raise UserError("a key is mistyped")

    first, second = run_processes(partial(script, fail), tmp_path)
    assert (first.status, second.status) == (2, 2)
    assert first.err.count("a key is mistyped") == 1
    assert second.err == ""


@pytest.mark.parametrize("number", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_a_process_that_is_killed_ends_the_others_without_a_traceback(number, tmp_path):
    """Process 0 hosts the store, so that nothing can be agreed on without it."""
    ended = run_processes(partial(script, lambda: rank() == number and os.kill(os.getpid(), signal.SIGKILL)), tmp_path)
    assert (ended[number].status, ended[1 - number].status) == (-signal.SIGKILL, 1)
    if number == 1:
        line = ended[0].err.splitlines()[1:]
        assert len(line) == 1
        assert line[0].startswith("error: another process has died (")
        assert line[0].endswith("; --resume continues a training from what is saved")
    assert "Traceback" not in ended[1].err  # torch itself warns that the store has gone


def test_what_was_not_foreseen_shows_where_it_was(tmp_path):
    first, second = run_processes(partial(script, partial(fail_in, 1, ZeroDivisionError("by zero"))), tmp_path)
    assert (first.status, second.status) == (1, 1)
    assert first.err.splitlines()[1:] == ["error in process 1 (of 0 to 1): ZeroDivisionError: by zero"]
    assert second.err.startswith("Traceback")
    assert "fail_in" in second.err
