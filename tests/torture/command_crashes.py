"""Commands as users type them, killed and resumed: their start-up, splits in parallel, and scoring on Ray."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path

from scoring.defaults import SOME_FAILED
from tests.conftest import make_koniq_table, write_koniq
from tests.processes import Ended
from tests.running import ROOT
from tests.scoring.scored import rows_of
from tests.torture import score_crashes, train_crashes
from tests.torture.killing import AFTER_END, SECONDS, SIGNALS, Moment, Run, check, draw_moments, send, survived, wait
from tests.torture.part import Outcome, Part

LEFT = 120  # seconds in which processes of a command that was killed end: Ray's notice it, splits at their next line
MARK = "RICHIQA_TORTURE"  # variable that the processes of a command inherit
TRAININGS = {
    "one": train_crashes.ONE_SPLIT,
    "two": train_crashes.TWO_SPLITS,
    "parallel": [*train_crashes.TWO_SPLITS, "protocol.parallel_splits=2"],
}
OUTPUTS = ("rows.csv", "rows/", "rows.parquet", "rows.jsonl")
Command = Sequence[str]


def run_command(command: Command, moment: Moment | None, duration: float) -> Run:
    """Run one of the scripts, and send it a signal; until it handles signals, time does not count."""
    mark, ray = uuid.uuid4().hex, tempfile.mkdtemp(prefix="ray")
    variables = {MARK: mark, "OMP_NUM_THREADS": "1", "RAY_TMPDIR": ray, "RAY_BACKEND_LOG_LEVEL": "error"}
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        process = subprocess.Popen(
            [sys.executable, *command],
            cwd=ROOT,
            env={**os.environ, **variables},
            stdout=out,
            stderr=err,
            start_new_session=True,
        )
        wait(lambda: process.poll() is not None or _handles_signals(process.pid))
        begun, phase = time.monotonic(), AFTER_END
        try:
            process.wait(moment.seconds if moment else SECONDS)
        except subprocess.TimeoutExpired:
            if moment:
                send(moment, process.pid, process.pid)
                phase = f"quarter {1 + int(4 * moment.seconds / duration)}"
        process.wait(SECONDS)
        seconds = time.monotonic() - begun
        wait(lambda: not marked(mark), LEFT, "a process is left")
        texts = [(file.seek(0), file.read())[1] for file in (out, err)]
    shutil.rmtree(ray, ignore_errors=True)
    return Run([Ended(process.returncode, *texts)], phase, seconds, 0)


def marked(mark: str) -> list[int]:
    """Return the processes that inherited a mark from their command."""
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            if f"{MARK}={mark}".encode() in path.read_bytes():
                found.append(int(path.parent.name))
        except OSError:  # it has ended since
            continue
    return found


def _handles_signals(process: int) -> bool:
    """Return whether a script has begun to handle SIGTERM, which Python leaves to the system."""
    try:
        status = Path(f"/proc/{process}/status").read_text()
    except OSError:
        return False
    caught = int(status.partition("SigCgt:")[2].split()[0], 16)
    return bool(caught >> 14 & 1)  # SIGTERM is 15, and bits count from 1


def attempt(
    number: int,
    folder: Path,
    duration: float,
    command: Command,
    finished: int,
    compare: Callable[[], None],
) -> Outcome:
    """Kill a command, resume it to its end, and compare."""

    def run(resume: bool, moment: Moment | None) -> Run:
        return run_command([*command, *(["--resume"] if resume else [])], moment, duration)

    phase = survived(run, draw_moments(number, duration, 0), finished)
    compare()
    return Outcome(figure=phase)


def training_of(name: str, data: Path, folder: Path) -> Command:
    options = train_crashes.options_of(TRAININGS[name], data, folder)
    return ["main.py", "--config", "configs/koniq10k.yaml", *options]


def prepare_trainings(folder: Path) -> None:
    """Write a database, and train on it without an interruption."""
    write_koniq(folder, make_koniq_table())
    for name in TRAININGS:
        (folder / name).mkdir()
        run = run_command(training_of(name, folder, folder / name), None, 1)
        check(run, None, 0)
        (folder / f"{name}.json").write_text(json.dumps(run.seconds))


def attempt_training(number: int, folder: Path, prepared: Path) -> Outcome:
    name = [*TRAININGS][number // len(SIGNALS) % len(TRAININGS)]  # each with every signal
    duration = json.loads((prepared / f"{name}.json").read_text())
    compare = partial(train_crashes.check_same, folder / "runs", prepared / name / "runs")
    return attempt(number, folder, duration, training_of(name, prepared, folder), 0, compare)


def scoring_of(output: str, data: Path, folder: Path) -> Command:
    images = [str(data / f"photos_{score_crashes.IMAGES}"), "--checkpoint", str(data / "network.pt")]
    return [
        "inference.py",
        *images,
        "--engine",
        "ray",
        "--workers",
        "2",
        "--device",
        "cpu",
        "--output",
        f"{folder}/{output}",
    ]


def prepare_scorings(folder: Path) -> None:
    """Write what is scored, and score it with the local engine and on Ray without an interruption."""
    score_crashes.write_pictures(folder)
    (folder / "whole").mkdir()
    run = run_command(scoring_of("rows.csv", folder, folder / "whole"), None, 1)
    check(run, None, SOME_FAILED)
    (folder / "whole.json").write_text(json.dumps(run.seconds))


def attempt_scoring(number: int, folder: Path, prepared: Path) -> Outcome:
    output = OUTPUTS[number // 3 % len(OUTPUTS)]
    duration = json.loads((prepared / "whole.json").read_text())

    def compare() -> None:
        rows, whole = (
            sorted(map(_plain, rows_of(path))) for path in (folder / output, prepared / "whole" / "rows.csv")
        )
        assert len(rows) == len(set(rows)) == score_crashes.IMAGES, f"{len(rows)} rows of {len(set(rows))} kinds"
        assert rows == whole, "rows differ"
        assert {path.name for path in folder.iterdir()} == {output.rstrip("/")}

    return attempt(number, folder, duration, scoring_of(output, prepared, folder), SOME_FAILED, compare)


def _plain(row: dict) -> str:
    return json.dumps({name: None if value == "" else value for name, value in row.items()})


ATTACK = "SIGKILL, SIGTERM or SIGINT, also to children"
TRAIN = Part(
    "train_command_crashes",
    f"{ATTACK}, of `python main.py` (one split, two, two in parallel)",
    train_crashes.HOLDS,
    21,
    attempt_training,
    prepare_trainings,
)
RAY = Part(
    "ray_crashes",
    f"{ATTACK}, of `inference.py --engine ray` (CSV, JSON lines, Parquet, a folder)",
    "the resumed run has each row once, the same as alone; no leftover; a signal is one line, status 130",
    20,
    attempt_scoring,
    prepare_scorings,
)
PARTS = (TRAIN, RAY) if find_spec("ray") else (TRAIN,)
