"""Trainings that are killed and resumed: each ends like the one that was left alone."""

import json
import re
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from experiments.results.report import is_current
from tests.conftest import make_koniq_table, quick_overrides, write_koniq
from tests.identical import assert_identical, assert_same_run, comparable
from tests.running import train
from tests.test_resume import STATEFUL
from tests.torture.killing import Moment, Run, draw_moments, killed, survived
from tests.torture.part import Outcome, Part

PHASES = {  # by function
    "main.load_configs": "settings",
    "main.load_runs": "labels",
    "main.set_up": "set-up",
    "datasets.cache.DiskCache.fill": "cache",
    "main.TrainingState": "optimizer",
    "experiments.training.run_folder.RunFolder.begin": "begin of a split",
    "experiments.training.run_folder.RunFolder.restore": "restoring",
    "main.train_epoch": "epoch",
    "main.finish_epoch": "end of an epoch",
    "experiments.training.run_folder.RunFolder._save_checkpoint": "checkpoint",
    "experiments.training.run_folder.RunFolder._write_log": "log",
    "experiments.training.run_folder.write_events": "events",
    "main.predict_parts": "evaluation",
    "main.finish_split": "results",
    "main.print_report": "report",
}
EVENTS = ["logging.tensorboard=true"] if find_spec("tensorboard") else []
ONE_SPLIT = ["dataset.cache=disk", "train.save_steps=3", *EVENTS]
TWO_SPLITS = ["protocol.splits=2", "train.epochs=1", "train.workers=1"]
SETUPS = {"one": ONE_SPLIT, "two": TWO_SPLITS}
PROCESSES = {"processes": ["dataset.cache=disk", "train.save_steps=3"]}
RANDOM_NAMES = (r"_[0-9a-f]{8}(?=\.rows$)", r"(?<=tfevents\.).*")
HOLDS = "the resumed run ends bit for bit like one left alone; no leftover file or process; a signal is one line, 130"


def options_of(setup: list[str], data: Path, folder: Path) -> list[str]:
    return [*quick_overrides(data / "koniq10k", folder), *STATEFUL, *setup]


def prepare(folder: Path, setups: dict[str, list[str]] = SETUPS, count: int = 1) -> None:
    """Write a database, and train each setup on it without an interruption."""
    write_koniq(folder, make_koniq_table())
    if EVENTS and setups is SETUPS:
        import_module("torch.utils.tensorboard")  # here, so that the processes need not
    for name, setup in setups.items():
        (folder / name).mkdir()
        run = killed(partial(train, options_of(setup, folder, folder / name)), folder / name, PHASES, None, count)
        assert run.statuses == {0}, run.text
        (folder / f"{name}.json").write_text(json.dumps([run.seconds, run.changes]))


def attempt(
    number: int, folder: Path, prepared: Path, setups: dict[str, list[str]] = SETUPS, count: int = 1
) -> Outcome:
    """Kill a training, resume it to its end, and compare."""
    name = [*setups][number // 2 % len(setups)]
    seconds, changes = json.loads((prepared / f"{name}.json").read_text())
    options = options_of(setups[name], prepared, folder)

    def run(resume: bool, moment: Moment | None) -> Run:
        return killed(partial(train, options, *(["--resume"] if resume else [])), folder, PHASES, moment, count)

    phase = survived(run, draw_moments(number, seconds, changes, count), 0)
    check_same(folder / "runs", prepared / name / "runs")
    return Outcome(figure=phase)


def check_same(one: Path, other: Path) -> None:
    """Check that two folders of runs have the same files, and splits the same content."""
    assert files_in(one) == files_in(other), f"files differ: {sorted(files_in(one) ^ files_in(other))}"
    for split in one.glob("*/split_*"):
        beside = other / split.relative_to(one)
        assert_same_run(split, beside)
        for name in ("metrics.json", "log.jsonl", "split.json"):
            contents = [
                comparable([json.loads(text) for text in (path / name).read_text().splitlines()])
                if name == "log.jsonl"
                else comparable(json.loads((path / name).read_text()))
                for path in (split, beside)
            ]
            assert_identical(*contents, f"{split.name}/{name}")
        assert is_current(split.parent) or not is_current(beside.parent), "the report is old"
    for index in one.glob("cache/*.json"):
        rows = json.loads(index.read_text())
        assert len(rows["rows"]) * 40 * 40 * 3 == (index.parent / rows["pixels"]).stat().st_size


def files_in(folder: Path) -> set[str]:
    names = {str(path.relative_to(folder)) for path in folder.rglob("*")}
    return {re.sub("|".join(RANDOM_NAMES), "", name) for name in names}


ATTACK = "SIGKILL, SIGTERM or SIGINT in a training"
PARTS = (
    Part("train_crashes", f"{ATTACK} (one or two splits)", HOLDS, 60, attempt, prepare),
    Part(
        "processes_crashes",
        f"{ATTACK} of two processes, to one or both",
        HOLDS,
        20,
        partial(attempt, setups=PROCESSES, count=2),
        partial(prepare, setups=PROCESSES, count=2),
    ),
)
