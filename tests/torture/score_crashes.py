"""Scoring that is killed and resumed: its rows are those of a run that was left alone, each once."""

import json
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from inference import main
from models import build_model
from scoring.defaults import SOME_FAILED
from tests.scoring.scored import SETTINGS, rows_of
from tests.torture.killing import Moment, Run, draw_moments, killed, survived
from tests.torture.part import Outcome, Part
from utils.checkpoint import save_checkpoint
from utils.config import config_from_dict
from utils.settings import ModelSettings

PHASES = {  # by function
    "scoring.command.build_predictor": "network",
    "scoring.output.Output.done": "reading what is done",
    "scoring.predictor.Predictor.predict": "batch",
    "scoring.output.Output._write": "rows",
    "scoring.maps.MapWriter.__call__": "map",
    "scoring.parquet.write_parquet": "table",
    "scoring.gallery.page.RunGallery.write": "gallery",
}
IMAGES = 48
MAPPED = 4  # images of the setups that draw maps, which take long
SETUPS = {  # options and images
    "csv": (["--output", "rows.csv", "--report", "page.html"], IMAGES),
    "jsonl": (["--output", "rows.jsonl", "--batch-size", "5", "--panel", "25"], IMAGES),
    "json": (["--output", "rows.json", "--keep", "mos_01 > .5", "--batch-size", "5"], IMAGES),
    "parquet": (["--output", "rows.parquet", "--report", "page.html", "--batch-size", "3"], IMAGES),
    "map": (["--output", "rows.csv", "--map", "maps"], MAPPED),
}
HOLDS = "the resumed run ends with the same files, byte for byte; no leftover; a signal is one line, status 130"


def write_pictures(folder: Path) -> None:
    """Write a network, and pictures, some of them damaged."""
    torch.manual_seed(0)
    config = config_from_dict(SETTINGS, "test").model_dump(mode="json")
    state = build_model(ModelSettings(backbone="cvt_nano")).state_dict()
    save_checkpoint(folder / "network.pt", {"model": state, "config": config, "scale": config["scale"]})
    for count in (IMAGES, MAPPED):
        rng = np.random.default_rng(count)
        (folder / f"photos_{count}").mkdir()
        for number in range(count):
            pixels = rng.integers(0, 256, (30 + number, 60, 3), dtype=np.uint8)
            path = folder / f"photos_{count}" / f"p{number:02d}.png"
            Image.fromarray(pixels).save(path)
            if number % 20 == 3:
                path.write_bytes(path.read_bytes()[: 500 * (number % 40 - 3)])


def arguments_of(setup: str, data: Path, folder: Path) -> list[str]:
    """Return the options of a setup, which writes into a folder."""
    options, count = SETUPS[setup]
    places = [str(folder / text) if text.startswith(("rows", "page", "maps")) else text for text in options]
    return [str(data / f"photos_{count}"), "--checkpoint", str(data / "network.pt"), "--device", "cpu", *places]


def prepare(folder: Path) -> None:
    """Write what is scored, and score it without an interruption."""
    write_pictures(folder)
    for name in SETUPS:
        (folder / name).mkdir()
        run = killed(partial(main, arguments_of(name, folder, folder / name)), folder / name, PHASES)
        assert run.statuses == {SOME_FAILED}, run.text
        (folder / f"{name}.txt").write_text(json.dumps([run.seconds, run.changes]))


def attempt(number: int, folder: Path, prepared: Path) -> Outcome:
    """Kill the scoring of a folder, resume it to its end, and compare."""
    name = [*SETUPS][number // 2 % len(SETUPS)]
    seconds, changes = json.loads((prepared / f"{name}.txt").read_text())
    arguments = arguments_of(name, prepared, folder)

    def run(resume: bool, moment: Moment | None) -> Run:
        return killed(partial(main, [*arguments, *(["--resume"] if resume else [])]), folder, PHASES, moment)

    phase = survived(run, draw_moments(number, seconds, changes), SOME_FAILED)
    check_same(folder, prepared / name)
    return Outcome(figure=phase)


def check_same(one: Path, other: Path) -> None:
    """Check that two folders have the same files with the same content; of Parquet files, the same rows."""
    files = [{path.relative_to(folder) for path in folder.rglob("*") if path.is_file()} for folder in (one, other)]
    assert files[0] == files[1], f"files differ: {sorted(map(str, files[0] ^ files[1]))}"
    for name in files[0]:
        if name.suffix == ".parquet":
            assert rows_of(one / name) == rows_of(other / name), f"{name} has other rows"
        else:
            assert (one / name).read_bytes() == (other / name).read_bytes(), f"{name} differs"


ATTACK = "SIGKILL, SIGTERM or SIGINT in a scoring"
PARTS = (
    Part("score_crashes", f"{ATTACK} (CSV, JSON lines, JSON, Parquet, gallery, maps)", HOLDS, 80, attempt, prepare),
)
