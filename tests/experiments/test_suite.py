"""Several configs as a suite: skipped, resumed, interrupted, failing, and the command line that names them."""

import json
import os
import signal
import subprocess
import sys

import pytest
import torch

from experiments.results import report
from experiments.suite import is_override
from experiments.training.run_folder import RunFolder
from main import main, parse_arguments
from tests.running import ROOT
from utils.errors import MissingFileError, UserError

NAMES = ("one", "two", "three")
# main.py that is killed when it has saved a second split's last epoch, and before it writes what became of it
KILLED = """
import os, signal, sys
from main import main
from experiments.training.run_folder import RunFolder

def save_and_die(self, config, state):
    save(self, config, state)
    if self.path.name == "split_02":
        os.kill(os.getpid(), signal.SIGKILL)

save, RunFolder.save = RunFolder.save, save_and_die
main(sys.argv[1:])
"""


@pytest.fixture
def suite(quick, tmp_path):
    """Three configs that differ in the weight of the memory, and the command line that runs them."""
    for number, name in enumerate(NAMES):
        (tmp_path / f"{name}.yaml").write_text(
            f"extends: {ROOT}/configs/koniq10k.yaml\nrun:\n  name: {name}\nmodel:\n  memory_weight: 0.{number + 1}\n"
        )
    rest = [text for text in quick if not text.startswith("run.name")]
    return ["--config", str(tmp_path / "*.yaml"), *rest, "train.epochs=1", "protocol.splits=2"]


def tables(tmp_path):
    """What a table is made of: the metrics of every split, without its duration."""
    found = {}
    for path in sorted((tmp_path / "runs").glob("*/split_*/metrics.json")):
        metrics = json.loads(path.read_text())
        del metrics["seconds"]
        found[path.parent.relative_to(tmp_path / "runs")] = metrics
    return found


def interrupt_once(patch):
    """Interrupt a training when it first saves; a second time would end it, and the process of the tests."""
    save, told = RunFolder.save, []

    def save_and_interrupt(self, config, state):
        save(self, config, state)
        if not told:
            told.append(True)
            signal.raise_signal(signal.SIGINT)

    patch.setattr(RunFolder, "save", save_and_interrupt)


def test_a_pattern_runs_all_and_then_nothing(suite, tmp_path, capsys):
    twice = [suite[0], str(tmp_path / "one.yaml"), *suite[1:]]  # named beside the pattern that fits it
    assert main(twice) == 0
    assert {path.parts[0] for path in tables(tmp_path)} == set(NAMES)
    written = {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").rglob("last.pt")}
    assert len(written) == 6
    capsys.readouterr()
    assert main(suite) == 0
    assert {path: path.stat().st_mtime_ns for path in written} == written
    assert "epoch 1/1" not in capsys.readouterr().out


@pytest.mark.slow
def test_killed_interrupted_and_started_again_it_ends_in_the_same_tables(suite, tmp_path, monkeypatch):
    assert main([*suite, f"run.root={tmp_path / 'whole' / 'runs'}"]) == 0
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", KILLED, *suite]
    assert subprocess.call(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL) == -signal.SIGKILL
    assert len(tables(tmp_path)) == 1
    for _ in range(2):  # each in the next run or split
        with monkeypatch.context() as patch:
            interrupt_once(patch)
            assert main(suite) == 130
        assert len(tables(tmp_path)) < 6
    assert main(suite) == 0
    assert tables(tmp_path) == tables(tmp_path / "whole")


def test_a_run_that_fails_does_not_stop_the_others(suite, tmp_path):
    (tmp_path / "two.yaml").write_text(
        f"extends: {ROOT}/configs/koniq10k.yaml\nrun:\n  name: two\nmodel:\n  stages: [9]\n"
    )
    with pytest.raises(UserError, match=r"1 of 3 runs failed: two: .*stages"):
        main(suite)
    assert {path.parts[0] for path in tables(tmp_path)} == {"one", "three"}


@pytest.mark.parametrize(
    ("error", "message", "traceback"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried"), r"two: out of memory .*smaller train\.batch_size", False),
        (RuntimeError("cuDNN error"), "two: RuntimeError: cuDNN error", True),
    ],
)
def test_whatever_a_run_fails_of_the_others_go_on(error, message, traceback, suite, tmp_path, monkeypatch, capsys):
    begin = RunFolder.begin

    def fail_in_two(self, *arguments):
        if self.path.parent.name == "two":
            raise error
        begin(self, *arguments)

    monkeypatch.setattr(RunFolder, "begin", fail_in_two)
    with pytest.raises(UserError, match=f"1 of 3 runs failed: {message}"):
        main([*suite, "protocol.splits=1"])
    assert {path.parts[0] for path in tables(tmp_path)} == {"one", "three"}
    assert ("Traceback" in capsys.readouterr().err) == traceback


def test_a_suite_that_overwrites_says_how_to_go_on_when_interrupted(suite, tmp_path, monkeypatch, capsys):
    few = [*suite, "protocol.splits=1"]
    assert main(few) == 0
    old = tables(tmp_path)
    with monkeypatch.context() as patch:
        interrupt_once(patch)
        assert main([*few, "--overwrite"]) == 130
    output = capsys.readouterr().out
    assert "the same command without --overwrite continues it; unchanged: three, two; to restart them, run" in output
    assert main(few) == 0
    assert tables(tmp_path) == old


def test_identical_configs_count_once(suite, tmp_path, capsys):
    again = tmp_path / "again"
    again.mkdir()
    (again / "one.yaml").write_text((tmp_path / "one.yaml").read_text())
    assert main(["--config", str(tmp_path / "one.yaml"), str(again / "one.yaml"), *suite[2:]]) == 0
    assert capsys.readouterr().out.count("split 1 is finished") == 1


def test_other_settings_under_an_old_name_are_refused_before_anything_runs(suite, tmp_path):
    main([suite[0], str(tmp_path / "two.yaml"), *suite[2:]])
    with pytest.raises(UserError, match=r"started with other settings: optim\.lr"):
        main([*suite, "optim.lr=1e-3"])
    assert {path.parts[0] for path in tables(tmp_path)} == {"two"}


def test_mistakes(suite, tmp_path):
    with pytest.raises(UserError, match=r"more than one config writes to .*runs/same"):
        main([*suite, "run.name=same"])
    with pytest.raises(MissingFileError, match="no file matches"):
        main(["--config", str(tmp_path / "no*.yaml")])


def test_interrupted_in_the_last_step_of_a_run_the_next_does_not_begin(suite, tmp_path, monkeypatch):
    finish = RunFolder.finish

    def finish_and_interrupt(self, *results):
        finish(self, *results)
        if self.path.name == "split_02":
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(RunFolder, "finish", finish_and_interrupt)
    assert main(suite) == 130
    assert {path.parts[0] for path in tables(tmp_path)} == {"one"}
    assert not (tmp_path / "runs" / "three").exists()
    assert not (tmp_path / "runs" / "two").exists()


@pytest.mark.with_report
def test_a_report_that_cannot_be_written_costs_no_split(suite, tmp_path, capsys):
    (tmp_path / "runs" / "two" / "report.html").mkdir(parents=True)
    assert main([suite[0], str(tmp_path / "two.yaml"), *suite[2:]]) == 0
    assert len(tables(tmp_path)) == 2
    assert "warning: no report: " in capsys.readouterr().err


@pytest.mark.with_report
def test_a_report_that_fails_unforeseen_costs_no_split(suite, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(report, "render", lambda *_: 1 / 0)
    assert main([suite[0], str(tmp_path / "two.yaml"), *suite[2:], "protocol.splits=1"]) == 0
    error = capsys.readouterr().err
    assert "Traceback" in error
    assert "warning: no report: division by zero; to try again: python tools/report.py " in error


def test_overrides_may_follow_config_and_the_last_one_counts(tmp_path, monkeypatch):
    args = parse_arguments(["--config", "a.yaml", "b.yaml", "optim.lr=1", "--split", "2", "optim.lr=2"])
    assert (args.config, args.overrides, args.split) == (["a.yaml", "b.yaml"], ["optim.lr=1", "optim.lr=2"], 2)
    assert is_override("dataset.0.root=/data/a.yaml")
    (tmp_path / "lr=1.yaml").touch()
    monkeypatch.chdir(tmp_path)
    assert not is_override("lr=1.yaml")
    assert not is_override("--output=x")
