"""Every script where little is as usual: another folder, the C locale, no home, no terminal, long and odd paths."""

import os
import subprocess
import sys
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import torch
from PIL import Image

from models import build_model
from tests.databases import write_database
from tests.torture.part import Outcome, Part
from utils.checkpoint import save_checkpoint
from utils.config import config_from_dict
from utils.settings import ModelSettings

ROOT = Path(__file__).parents[2]
ODD = "a folder with blänks & signs, 写真"
LONGEST = 200  # characters of the paths
QUICK = (
    *("model.backbone=cvt_nano", "model.pretrained=none", "transform.resize=40", "transform.crop=32"),
    *("train.epochs=1", "train.batch_size=4", "train.workers=0", "train.device=cpu", "protocol.splits=1"),
)
SETTINGS = {"model": {"backbone": "cvt_nano"}, "transform": {"resize": 40, "crop": 32}}
UNSET = ("HOME", "TERM", "LANG", "LANGUAGE", "PYTHONUTF8", "PYTHONIOENCODING", "XDG_CACHE_HOME", "COLUMNS", "USER")
RESERVED = {"con", "prn", "aux", "nul"} | {f"{port}{number}" for port in ("com", "lpt") for number in range(1, 10)}
FORBIDDEN = set('<>:"\\|?*') | set(map(chr, range(32)))  # in names on Windows
# what each script is given, in a folder with the database, a checkpoint, a photograph and a page with marks
COMMANDS: dict[str, Sequence[str]] = {
    "inference.py": ("photo ü.png", "con.png", "--checkpoint", "tiny.pt", "--output", "scöres.csv", "--map", "mäps"),
    "main.py": (
        "dataset.name=koniq10k",
        "dataset.root=koniq",
        "run.name=größe",
        "run.root=runs",
        "protocol.unit=auto",
        *QUICK,
    ),
    "app.py": ("--help",),
    "benchmarks/run.py": ("--help",),
    "tools/ablate_head.py": ("--help",),
    "tools/check_dataset.py": ("--dataset", "koniq10k", "--root", "koniq", "--picture", "bild ü.png"),
    "tools/compare_labels.py": ("--help",),
    "tools/draw_architecture.py": ("--output", "drawing ü.svg"),
    "tools/export.py": ("tiny.pt", "--output", "tiny ü.safetensors"),
    "tools/list_licences.py": ("requirements ü.txt",),
    "tools/list_settings.py": ("--write", "page ü.md"),
    "tools/model_card.py": ("--help",),
    "tools/report.py": ("--help",),
    "tools/robustness.py": ("photo ü.png", "--checkpoint", "tiny.pt", "--output", "röbust.md"),
    "tools/score_examples.py": ("--checkpoint", "tiny.pt"),
    "tools/summarize.py": ("--help",),
}
AFTER = ("tools/summarize.py", "tools/report.py")  # get the run of main.py


def odd_folder(folder: Path) -> Path:
    """Return a new folder below `folder` whose path is long, with blanks and letters that are not ASCII."""
    place = folder / ODD
    place = place / ("x" * max(1, LONGEST - len(str(place)) - 1))
    place.mkdir(parents=True)
    return place


def fill(place: Path) -> None:
    """Write what the commands are given."""
    write_database("koniq10k", place / "koniq")
    for name in ("photo ü.png", "con.png"):
        Image.effect_noise((60, 48), 50).convert("RGB").save(place / name)
    (place / "requirements ü.txt").write_text("numpy>=1\n", encoding="utf-8")
    (place / "page ü.md").write_text("<!-- settings -->\n<!-- end -->\n", encoding="utf-8")
    torch.manual_seed(0)
    config = config_from_dict(SETTINGS, "made").model_dump(mode="json")
    state = build_model(ModelSettings(backbone="cvt_nano")).state_dict()
    save_checkpoint(place / "tiny.pt", {"model": state, "config": config, "scale": config["scale"]})


def environment() -> dict[str, str]:
    """Return an environment without a home, a terminal or a locale that knows more than ASCII."""
    kept = {name: value for name, value in os.environ.items() if name not in UNSET and not name.startswith("LC_")}
    return {**kept, "LC_ALL": "C", "OMP_NUM_THREADS": "1"}


def run_oddly(number: int, folder: Path, prepared: Path) -> Outcome:
    """Run a script in such a place; it must succeed, write what it says there, and names that every system takes."""
    script = list(COMMANDS)[number % len(COMMANDS)]
    place = odd_folder(folder)
    fill(place)
    commands = [(script, COMMANDS[script])]
    if script == "main.py":
        commands += [(after, ("runs/größe",)) for after in AFTER]
    before = snapshot(ROOT)
    for name, arguments in commands:
        done = subprocess.run(
            [sys.executable, str(ROOT / name), *arguments],
            **{"cwd": place, "env": environment(), "stdin": subprocess.DEVNULL, "capture_output": True},
            start_new_session=True,
            check=False,
        )
        said = done.stderr.decode("utf-8", "replace")
        if done.returncode != 0:
            return Outcome(f"{name}: exit status {done.returncode}: {said.splitlines()[-1:]}")
        missing = [argument for argument in after_output(arguments) if not (place / argument).exists()]
        if missing:
            return Outcome(f"{name}: {missing} not written where it was started")
    if snapshot(ROOT) != before:
        return Outcome(f"{script}: wrote into the folder of the code")
    unsafe = [path.name for path in place.rglob("*") if not safe_on_windows(path.name)]
    unsafe = [name for name in unsafe if name != "con.png"]  # which it was given
    return Outcome(f"{script}: {unsafe[0]!r} is no name on Windows" if unsafe else "")


def after_output(arguments: Sequence[str]) -> list[str]:
    """Return the files that a command is told to write."""
    return [value for option, value in pairwise(arguments) if option in ("--output", "--write", "--picture", "--map")]


def snapshot(root: Path) -> set[str]:
    """Return the files beside the code and in its folders of outputs and documents."""
    return {str(path) for pattern in ("*", "docs/*", "checkpoint/*", "configs/*") for path in root.glob(pattern)}


def safe_on_windows(name: str) -> bool:
    """Return whether a file may have this name on Windows."""
    reserved = name.partition(".")[0].rstrip().lower() in RESERVED
    return not (reserved or FORBIDDEN & set(name) or name[-1] in ". ")


PARTS = (
    Part(
        "portability",
        f"each script is run elsewhere: LC_ALL=C, no HOME, no terminal, paths of {LONGEST} characters with blanks and "
        "letters that are not ASCII",
        "exit status 0, outputs where they are named, nothing beside the code, names that Windows takes",
        *(len(COMMANDS), run_oddly),
    ),
)
