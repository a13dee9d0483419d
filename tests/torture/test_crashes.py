"""A few kills of training and scoring, and what the attack itself notices."""

import os
import signal
import subprocess
import time
from collections import Counter
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from tests.torture import command_crashes, killing, score_crashes, train_crashes
from tests.torture.killing import AFTER_END, SIGNALS, Moment, check, draw_moments, killed
from tests.torture.part import Part, run_part


def defects(part: Part, folder: Path, count: int) -> list[str]:
    return [result.defect for result in run_part(part, folder, count) if result.defect]


@pytest.mark.slow
def test_five_trainings(tmp_path):
    small = {"small": ["dataset.cache=disk", "train.save_steps=3", "train.epochs=1"]}
    part = train_crashes.PARTS[0]
    part = replace(part, attempt=partial(part.attempt, setups=small), prepare=partial(part.prepare, setups=small))
    assert defects(part, tmp_path, 5) == []


def test_three_scorings(tmp_path, monkeypatch):
    monkeypatch.setattr(score_crashes, "SETUPS", {name: score_crashes.SETUPS[name] for name in ("csv", "parquet")})
    assert defects(score_crashes.PARTS[0], tmp_path, 3) == []


@pytest.mark.slow
@pytest.mark.parametrize("part", [train_crashes.PARTS[1], *command_crashes.PARTS], ids=lambda part: part.name)
def test_processes_and_commands(part, tmp_path):
    assert defects(part, tmp_path, 3) == []


def test_moments_fall_everywhere():
    moments = [draw_moments(number, 8.0, 5) for number in range(600)]
    first = [some[0] for some in moments]
    assert first == [draw_moments(number, 8.0, 5)[0] for number in range(600)]
    assert Counter(moment.number for moment in first) == dict.fromkeys(SIGNALS, 200)
    assert {moment.change for moment in first} == {None, 1, 2, 3, 4, 5}
    times = [moment.seconds for moment in first if moment.change is None]
    assert 250 < len(times) < 350
    assert Counter(int(seconds) for seconds in times).keys() == set(range(8))
    assert {len(some) for some in moments} == {1, 2, 3}


def write_three(folder: Path) -> int:
    for name in "abc":
        (folder / name).write_text(name)
    return 0


@pytest.mark.parametrize(("change", "left"), [(1, set()), (2, {"a"}), (3, {"a", "b"}), (4, {"a", "b", "c"})])
def test_a_signal_can_be_sent_at_each_change_of_a_file(change, left, tmp_path):
    run = killed(partial(write_three, tmp_path), tmp_path, {}, Moment(signal.SIGKILL, 0, change))
    assert {path.name for path in tmp_path.iterdir()} == left
    assert run.statuses == ({-signal.SIGKILL} if change < 4 else {0})
    assert run.phase == ("between" if change < 4 else AFTER_END)
    assert run.changes == min(change, 3)


def sleeping() -> int:
    time.sleep(60)
    return 0


def call_sleeping() -> int:
    return sleeping()


def test_the_phase_at_a_signal_is_told(tmp_path):
    phases = {"tests.torture.test_crashes.sleeping": "sleep"}
    moment = Moment(signal.SIGTERM, 0.2, victim=None)
    run = killed(call_sleeping, tmp_path, phases, moment)
    check(run, moment, 0)
    assert (run.statuses, run.phase, run.text) == ({130}, "sleep", "interrupted\n")


def leave_a_process() -> int:
    subprocess.Popen(["sleep", "2"])
    return 0


def fail() -> int:
    raise ZeroDivisionError


def test_what_is_left_or_said_is_noticed(tmp_path, monkeypatch):
    monkeypatch.setattr(killing, "ALONE", 0.2)
    with pytest.raises(AssertionError, match="a process is left"):
        killed(leave_a_process, tmp_path, {})
    moment = Moment(signal.SIGINT, 0.5)
    with pytest.raises(AssertionError, match=r"(?s)status \{1\} after Moment.*ZeroDivisionError"):
        check(killed(fail, tmp_path, {}), moment, 0)
    with pytest.raises(AssertionError, match="interrupted is said 0 times"):
        check(killed(lambda: 130, tmp_path, {}), moment, 0)
    with pytest.raises(AssertionError, match=r"status \{0\} at the end"):
        check(killed(lambda: 0, tmp_path, {}), None, 3)
    check(killed(lambda: os.kill(os.getpid(), signal.SIGKILL), tmp_path, {}), Moment(signal.SIGKILL, 0.5), 0)
