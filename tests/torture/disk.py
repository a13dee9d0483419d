"""Disks that fail: at any operation of any script, full, read-only, without inodes, or gone."""

import errno
import json
import os
import re
import resource
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path

import pyarrow.parquet as pq
from PIL import Image

import inference
import main as training
from datasets.demo import write_demo
from datasets.readers import demo
from tests.conftest import make_koniq_table, quick_overrides, write_koniq
from tests.identical import assert_identical, assert_same_run, comparable
from tests.running import ROOT, train
from tests.torture.faults import Ended, Fault, install, may_mount, mounted, run_forked
from tests.torture.part import Outcome, Part
from tools import export, summarize
from utils.checkpoint import read_tensors
from utils.config import load_config

OPTIONS = [
    *("train.epochs=2", "train.save_steps=3", "train.keep=1", "dataset.cache=disk", "model.drop_path=0.3"),
    *("optim.lr=1e-3", "optim.ema_decay=0.9"),
]
HOLDS = "status 1 or 2, one line that names file, reason and next step; old files whole; repeated, ends bit-identical"
REMEDIES = ("again", "--resume", "use", "set", "free", "remove", "restore", "choose")  # words of next steps
ERRORS = (errno.EIO, errno.ENOSPC, errno.EROFS, errno.EDQUOT, errno.EACCES)
IMPORTED_LATE = ("scoring.command", "scoring.parquet", "scoring.maps", "scoring.gallery.page", "matplotlib.pyplot")
STREAMED = ("scores.csv", "scores.parquet.part.jsonl")  # written row by row, which docs/SCORING.md says
Files = dict[str, bytes]


@dataclass(frozen=True)
class Script:
    """A script that writes to a disk.

    Attributes:
        run: Runs it, given the disk, the folder of prepared files, and whether it is repeated after a fault.
        results: Returns what must be the same in the end, given the disk.
    """

    run: Callable[[Path, Path, bool], int]
    results: Callable[[Path], object]


def _train(disk: Path, prepared: Path, again: bool) -> int:
    return train(quick_overrides(prepared / "koniq10k", disk), *OPTIONS, *(["--resume"] if again else []))


def _evaluate(disk: Path, prepared: Path, _: bool) -> int:
    options = quick_overrides(prepared / "koniq10k", disk)
    config = str(ROOT / "configs" / "koniq10k.yaml")
    target = ["--config", config, *options, "--part", "all", "--output", str(disk / "evaluations")]
    return training.main(["--evaluate", str(_checkpoint(prepared)), *target])


def _score(disk: Path, prepared: Path, again: bool) -> int:
    images, outputs = _few_images(prepared), [str(disk / "scores.csv"), "--batch-size", "4"]
    others = ["--report", str(disk / "gallery.html"), "--map", str(disk / "maps"), *(["--resume"] if again else [])]
    fixed = ["--checkpoint", str(_checkpoint(prepared)), "--device", "cpu"]
    return inference.main([*images, *fixed, "--output", *outputs, *others])


def _parquet(disk: Path, prepared: Path, again: bool) -> int:
    images, output = str(prepared / "koniq10k" / "1024x768"), str(disk / "scores.parquet")
    fixed = ["--checkpoint", str(_checkpoint(prepared)), "--device", "cpu"]
    return inference.main([images, *fixed, "--output", output, *(["--resume"] if again else [])])


def _export(disk: Path, prepared: Path, again: bool) -> int:
    command = [str(_checkpoint(prepared)), "--output", str(disk / "best.safetensors")]
    return export.main([*command, *(["--overwrite"] if again else [])])


def _summarize(disk: Path, prepared: Path, _: bool) -> int:
    return summarize.main([str(_checkpoint(prepared).parents[1]), "--output", str(disk / "table.csv")])


def _demo(disk: Path, _: Path, again: bool) -> int:
    demo.write_demo = partial(write_demo, scenes=1)  # in the process of the script
    demo.DEMO.read(disk / "demo")
    return 0


def _few_images(prepared: Path) -> list[str]:
    return [str(prepared / "koniq10k" / "1024x768" / f"100{number}.jpg") for number in range(6)]


def _checkpoint(prepared: Path) -> Path:
    return prepared / "train" / "runs" / "quick" / "split_01" / "best.pt"


def _run_of(disk: Path) -> Path:
    return disk / "runs" / "quick" / "split_01"


def _bytes(pattern: str, disk: Path) -> Files:
    return {str(path.relative_to(disk)): path.read_bytes() for path in disk.glob(pattern) if path.is_file()}


def _metrics(disk: Path) -> object:
    paths = sorted((disk / "evaluations").rglob("metrics.json"))
    return [comparable(json.loads(path.read_text())) for path in paths], _bytes("evaluations/matrix.*", disk)


SCRIPTS = {
    "train": Script(_train, _run_of),
    "score": Script(_score, lambda disk: (_bytes("scores.csv", disk), _bytes("maps/*.png", disk))),
    "parquet": Script(_parquet, lambda disk: pq.read_table(disk / "scores.parquet").to_pylist()),
    "export": Script(_export, partial(_bytes, "best.safetensors")),
    "evaluate": Script(_evaluate, _metrics),
    "summarize": Script(_summarize, partial(_bytes, "table.csv")),
    "demo": Script(_demo, partial(_bytes, "demo/**/*")),
}


def prepare(folder: Path, names: Iterable[str] = SCRIPTS) -> None:
    """Run scripts on a sound disk, and count their operations."""
    for module in IMPORTED_LATE:
        import_module(module)  # once instead of in every process
    write_koniq(folder, make_koniq_table())
    for name in names:
        disk = folder / name
        disk.mkdir()
        before = partial(install, disk, Fault(0), folder / f"{name}.count")
        ended = run_forked(partial(SCRIPTS[name].run, disk, folder, False), folder, before)
        assert ended.status == 0, f"{name}: {ended.err}"


def operation(number: int, place: Path, prepared: Path) -> Outcome:
    """Let one operation of a script fail, or all from one on."""
    name = list(SCRIPTS)[number % len(SCRIPTS)]
    number //= len(SCRIPTS)
    count = int((prepared / f"{name}.count").read_text().split()[0])
    fault = Fault(1 + number * 37 % count, ERRORS[number % len(ERRORS)], lasting=number // len(ERRORS) % 2 == 1)
    disk = place / "disk"
    disk.mkdir()
    ended = run_forked(partial(SCRIPTS[name].run, disk, prepared, False), place, partial(install, disk, fault))
    return _judge(name, disk, prepared, ended, f"{name}, operation {fault.number} of {count}, {fault}")


def tmpfs(number: int, place: Path, prepared: Path) -> Outcome:
    """Run a script on a disk in memory that is too small, has too few inodes, becomes read-only, or goes."""
    name, kind = ("train", "score", "parquet", "export")[number % 4], number // 4 % 4
    disk, size = place / "disk", sum(path.stat().st_size for path in (prepared / name).rglob("*"))
    disk.mkdir()
    share = (number // 16 * 7 % 19 + 1) / 20  # of what the script needs
    options = (f"size={max(int(share * size), 4096)}", f"nr_inodes={3 + int(share * 12)}", "size=64m", "size=64m")[kind]
    script = partial(SCRIPTS[name].run, disk, prepared)
    if not may_mount(place):
        return Outcome(figure="skipped: only root may mount a disk")
    with mounted(disk, options):
        ended = run_forked(partial(script, False), place, partial(_break, disk, share, kind))
        if os.system(f"mount -o remount,size=64m,nr_inodes=10000,rw {disk} 2>/dev/null"):
            os.system(f"mount -t tmpfs tmpfs {disk}")  # it has gone with all that was on it
        return _judge(name, disk, prepared, ended, f"{name}, {('full', 'inodes', 'read-only', 'gone')[kind]}, {share}")


def _break(disk: Path, share: float, kind: int) -> None:
    """Arrange for the disk to become read-only, or to go, after a rename; files that are open stay so."""
    tempfile.tempdir = str(disk)
    if kind < 2:
        return
    number = 0
    last = max(1, int(share * 12))

    def after(function: Callable, *arguments, **options):
        nonlocal number
        result = function(*arguments, **options)
        number += 1
        if number == last:
            os.system(f"mount -o remount,ro {disk} 2>/dev/null" if kind == 2 else f"umount -l {disk} 2>/dev/null")
        return result

    os.mkdir, os.replace = partial(after, os.mkdir), partial(after, os.replace)


def limited(number: int, place: Path, prepared: Path) -> Outcome:
    """Run a script that may not write files larger than a limit."""
    name = ("train", "export", "score", "parquet")[number % 4]
    largest = max(path.stat().st_size for path in (prepared / name).rglob("*"))
    limit = int(largest * (number // 4 * 3 % 10 + 0.5) / 10)
    disk = place / "disk"
    disk.mkdir()

    def limit_size() -> None:
        tempfile.tempdir = str(disk)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    ended = run_forked(partial(SCRIPTS[name].run, disk, prepared, False), place, limit_size)
    return _judge(name, disk, prepared, ended, f"{name}, files of {limit} of {largest} bytes")


def _judge(name: str, disk: Path, prepared: Path, ended: Ended, what: str) -> Outcome:
    """Return what did not hold: of the message, the files left, and the result of a repetition on the mended disk."""
    defect = _bad_message(ended, disk) or _half_files(disk)
    (disk.parent / "again").mkdir()
    again = run_forked(partial(SCRIPTS[name].run, disk, prepared, True), disk.parent / "again")
    if again.status != 0:
        defect = defect or f"repeated: status {again.status}, {again.err.splitlines()[-1:]}"
    else:
        defect = defect or _difference(name, disk, prepared / name) or _half_files(disk) or _leftovers(disk)
    return Outcome(defect and f"{defect} ({what})")


def _bad_message(ended: Ended, disk: Path) -> str:
    lines = ended.err.splitlines()
    errors = [line for line in lines if line.startswith("error: ")]
    reports = [line for line in lines if line.startswith("warning: no report: ")]
    if "Traceback" in ended.err or "Exception ignored" in ended.err:
        return f"traceback: {lines[-1]}"
    if ended.status == 0:  # the fault came to nothing, or to a report that can be written later
        return f"status 0 and {errors}" if errors or len(reports) > 1 else ""
    if ended.status not in (1, 2) or len(errors) != 1 or not lines[-1].startswith("error: "):
        return f"status {ended.status}, errors {errors}, last line {lines[-1:]}"
    if str(disk) not in errors[0] or not re.search(rf"; .*({'|'.join(REMEDIES)})", errors[0]):
        return f"no file or next step: {errors[0]}"
    return ""


def _half_files(disk: Path) -> str:
    """Return the first file under its final name that is not whole."""
    for path in sorted(disk.rglob("*")):
        hidden = any(part.startswith(".") for part in path.relative_to(disk).parts)
        if hidden or path.is_dir() or path.name in STREAMED:
            continue
        try:
            _read(path)
        except Exception as error:
            return f"{path.name} is not whole: {error}"
    return ""


def _read(path: Path) -> None:
    if path.suffix in (".pt", ".safetensors"):
        read_tensors(path)
    elif path.suffix == ".json":
        json.loads(path.read_text())
    elif path.suffix == ".jsonl":
        [json.loads(line) for line in path.read_text().splitlines()]
    elif path.suffix == ".yaml":
        load_config(path)
    elif path.suffix == ".png":
        Image.open(path).load()
    elif path.suffix == ".parquet":
        pq.read_table(path)
    elif path.suffix in (".html", ".csv", ".tex", ".md"):
        assert path.read_text().endswith(("</html>", "</html>\n") if path.suffix == ".html" else "\n"), "no end"


def _difference(name: str, disk: Path, whole: Path) -> str:
    """Return how the end differs from that on a sound disk."""
    one, other = (SCRIPTS[name].results(folder) for folder in (whole, disk))
    try:
        if name != "train":
            assert one == other, "other results"
            return ""
        assert_same_run(one, other)
        logs = [(folder / "log.jsonl").read_text().splitlines() for folder in (one, other)]
        assert_identical(*(comparable([json.loads(line) for line in log]) for log in logs))
        names = [{path.name for path in folder.iterdir()} for folder in (one, other)]
        assert names[0] == names[1], f"files {names[0] ^ names[1]}"
    except AssertionError as error:
        return f"repeated: differs from an uninterrupted run: {error}"
    return ""


def _leftovers(disk: Path) -> str:
    found = [path.name for path in disk.rglob("*") if path.name.endswith((".tmp", ".deleted"))]
    return f"left: {found}" if found else ""


PARTS = (
    Part("disk_operations", "the n-th operation on a disk fails, in seven scripts", HOLDS, 210, operation, prepare),
    Part("disk_kinds", "a disk is full, without inodes, read-only, or gone", HOLDS, 48, tmpfs, prepare),
    Part("disk_limits", "a limit on the size of files", HOLDS, 16, limited, prepare),
)
