"""One kind of attack, repeated; its results, kept so that a long run can be interrupted and continued."""

import json
import shutil
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True)
class Outcome:
    """What came out of one attempt.

    Attributes:
        defect: What broke, in one line; empty if everything held.
        figure: What was measured, such as the slope of memory, for the table; empty if nothing was.
    """

    defect: str = ""
    figure: str = ""


@dataclass(frozen=True)
class Part:
    """One kind of attack.

    Attributes:
        name: Also that of its file of results.
        attack: What is done, for the table.
        holds: What must hold then, for the table.
        count: Attempts of the long version.
        attempt: The attack, from its number, which decides all that is random in it, an empty folder, and the folder
            that was prepared. A raised exception is a defect.
        prepare: Fills an empty folder once for all attempts, which must not change it.
        inputs: Inputs that one attempt tries.
    """

    name: str
    attack: str
    holds: str
    count: int
    attempt: Callable[[int, Path, Path], Outcome]
    prepare: Callable[[Path], None] | None = None
    inputs: int = 1


@dataclass(frozen=True)
class Result:
    """One line of a file of results."""

    number: int
    defect: str
    figure: str
    seconds: float


def read_results(part: Part, folder: Path) -> list[Result]:
    """Return the attempts of a part that are recorded in `folder`; a line that was cut short is none."""
    path = folder / f"{part.name}.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return [Result(**json.loads(line)) for line in lines if line.endswith("}")]


def run_part(part: Part, folder: Path, count: int) -> list[Result]:
    """Make the attempts of a part that are not recorded in `folder` yet, up to `count`; return all that are.

    Only what an attempt with a defect left is kept, in `folder/NAME_NUMBER`.
    """
    done = {result.number for result in read_results(part, folder)}
    numbers = [number for number in range(count) if number not in done]
    prepared = folder / f"{part.name}_prepared"
    if numbers and part.prepare:
        shutil.rmtree(prepared, ignore_errors=True)
        prepared.mkdir(parents=True)
        part.prepare(prepared)
    for number in numbers:
        place = folder / f"{part.name}_{number}"
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        result = _attempt(part, number, place, prepared)
        with (folder / f"{part.name}.jsonl").open("a", encoding="utf-8") as file:
            file.write("\n" + json.dumps(asdict(result)))  # after a line that may have been cut short
        if result.defect:
            print(f"{part.name} {number}: {result.defect}", flush=True)
        else:
            shutil.rmtree(place, ignore_errors=True)
    shutil.rmtree(prepared, ignore_errors=True)
    return read_results(part, folder)


def _attempt(part: Part, number: int, place: Path, prepared: Path) -> Result:
    start = time.perf_counter()
    try:
        outcome = part.attempt(number, place, prepared)
    except Exception as error:
        (place / "traceback.txt").write_text(traceback.format_exc(), encoding="utf-8")
        outcome = Outcome(defect=f"{type(error).__name__}: {str(error).partition(chr(10))[0]}")
    return Result(number, outcome.defect, outcome.figure, round(time.perf_counter() - start, 1))
