"""Many images, rows, runs, databases and visitors: memory stays flat, and time in proportion."""

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch
from PIL import Image

from inference import load_predictor
from models import build_model
from scoring.output import Output
from scoring.predictor import Prediction, Prepared
from scoring.records import RowBuilder, ScoreRow
from tests.databases import OFFICIAL, write_database
from tests.tools.made_runs import write_run
from tests.torture.part import Outcome, Part
from utils.checkpoint import save_checkpoint
from utils.config import config_from_dict
from utils.settings import ModelSettings

ROOT = Path(__file__).parents[2]
SETTINGS = {"model": {"backbone": "cvt_nano"}, "transform": {"resize": 24, "crop": 16}}
PICTURES = 100  # that differ; the others are links to them
FORMATS = ("text", "csv", "jsonl", "json", "parquet")
CONTINUED = ("csv", "parquet", "jsonl", "json")
NAME = "image_{:07d}.png"
EXISTING = [f"images/{NAME.format(number)}" for number in range(2)]
LIST = "list.txt"
WARM = 0.3  # share of the images after which memory is looked at
STEEPEST = 20.0  # kB per 1,000 images: 2 MB in a run of 100,000
HIGHEST = 100_000  # kB
ROW_BYTES = 600  # of memory for each row that is there already: its name in the list, the list, and 16 bytes
FEW = 100_000  # images or rows, below which 100 MB for the first ones say nothing
START_SECONDS, RUN_SECONDS = 60, 0.1  # on a busy machine
UNION = (
    *("model.backbone=cvt_nano", "model.pretrained=none", "transform.resize=40", "transform.crop=32"),
    *("loss.units=acr", "loss.sos_a=fit", "train.epochs=1", "train.workers=0"),
    *("train.device=cpu", "protocol.splits=1"),
)
DATABASES = [name for name in OFFICIAL if name != "ava"]  # which has bins of its own


def prepare_checkpoint(folder: Path) -> Path:
    """Write the checkpoint of a tiny network."""
    torch.manual_seed(0)
    config = config_from_dict(SETTINGS, "made").model_dump(mode="json")
    state = build_model(ModelSettings(backbone="cvt_nano")).state_dict()
    save_checkpoint(folder / "tiny.pt", {"model": state, "config": config, "scale": config["scale"]})
    return folder / "tiny.pt"


def prepare_images(folder: Path, count: int) -> None:
    """Write the checkpoint, and `count` tiny images, most of them links."""
    prepare_checkpoint(folder)
    (folder / "images").mkdir()
    for number in range(count):
        path = folder / "images" / NAME.format(number)
        if number < PICTURES:
            pixels = np.random.default_rng(number).integers(0, 256, (24, 24, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(path)
        else:
            os.link(folder / "images" / NAME.format(number % PICTURES), path)


def prepare_rows(folder: Path, count: int) -> None:
    """Write the checkpoint, rows of `count` images, and a list of these and two more, which alone exist."""
    prepare_images(folder, 2)
    names = [f"images/of_a_photographer/{NAME.format(number)}" for number in range(count)]
    (folder / LIST).write_text("\n".join([*names, *EXISTING]), encoding="utf-8")
    predictor = load_predictor(folder / "tiny.pt", device="cpu")
    builder = RowBuilder(predictor)
    for form in CONTINUED:
        Output(form, f"{folder}/rows.{form}", builder.columns, folder / "tiny.pt").write(_rows(builder, names))


def _rows(builder: RowBuilder, names: Sequence[str]) -> Iterable[list[ScoreRow]]:
    rng = np.random.default_rng(0)
    kinds = builder.scale.num_bins
    predictions = [Prediction(3.0, 1.0, tuple(dos), builder.scale) for dos in rng.dirichlet(np.ones(kinds), 100)]
    made = [builder.scored("", prediction, Prepared(torch.empty(0), 24, 24, ())) for prediction in predictions]
    for start in range(0, len(names), len(made)):
        yield [{**row, "path": name} for name, row in zip(names[start:], made, strict=False)]


def memory_growth(process: subprocess.Popen, progress: Path, total: int) -> tuple[float, float]:
    """Wait for a process; return how its memory grows once WARM of the images are scored.

    The first value is in kB for 1,000 images; the second, in kB, is what the end takes beyond that, as a conversion of
    2,000 rows at a time to Parquet does.

    Args:
        process: Process that writes rows.
        progress: File that grows in proportion to the images.
        total: Images, all of which are scored at the end.
    """
    samples = []  # bytes of the file, kB of memory
    while process.poll() is None:
        samples.append((progress.stat().st_size if progress.exists() else 0, resident(process.pid)))
        time.sleep(0.02)
    sizes, memory = np.array([sample for sample in samples if sample[0] and sample[1]], dtype=float).T
    images = sizes / sizes.max() * total
    last = int(images.argmax())  # the first sample with all rows
    warm = np.flatnonzero(images[: last + 1] >= WARM * total)
    return float(np.polyfit(images[warm] / 1000, memory[warm], 1)[0]), float(memory.max() - memory[warm].max())


def resident(process: int) -> int:
    """Return the resident memory of a process in kB; 0 if it has ended."""
    try:
        status = Path(f"/proc/{process}/status").read_text(encoding="ascii")
    except OSError:
        return 0
    found = re.search(r"^VmRSS:\s+(\d+) kB$", status, re.MULTILINE)
    return int(found[1]) if found else 0


def command(prepared: Path, *arguments: str) -> list[str]:
    """Return the command that scores with the tiny network."""
    options = ["--checkpoint", f"{prepared}/tiny.pt", "--device", "cpu", "--workers", "1", "--threads", "1"]
    return [sys.executable, str(ROOT / "inference.py"), *options, *arguments]


def score_many(number: int, folder: Path, prepared: Path) -> Outcome:
    """Score all images in one format; the rows must be as many, and memory flat."""
    form = FORMATS[number % len(FORMATS)]
    count = sum(1 for _ in (prepared / "images").iterdir())
    output = folder / f"rows.{form}"
    growing = output.with_name(output.name + ".part.jsonl") if form == "parquet" else output
    arguments = (str(prepared / "images"), "--format", form, "--output", str(output), "--batch-size", "32")
    with (folder / "stderr").open("wb") as stderr:
        process = subprocess.Popen(command(prepared, *arguments), stderr=stderr)
        slope, end = memory_growth(process, growing, count)
    said = (folder / "stderr").read_text(encoding="utf-8")
    speed = re.search(r"([\d.]+) images/s", said)
    growth = f"{slope:+.1f} kB per 1,000 images and {end / 1000:.0f} MB at the end"
    figure = f"{form}: {growth}, {speed[1] if speed else '?'} images/s"
    if process.returncode != 0 or f"{count} images scored" not in said:
        return Outcome(f"{form}: exit status {process.returncode}: {said.splitlines()[-1:]}", figure)
    return Outcome(figure if (slope > STEEPEST or end > HIGHEST) and count >= FEW else "", figure)


def continue_many(number: int, folder: Path, prepared: Path) -> Outcome:
    """Continue an output that lacks two of very many images; memory must not hold its rows."""
    form = CONTINUED[number % len(CONTINUED)]
    before = prepared / f"rows.{form}"
    output = folder / before.name
    shutil.copyfile(before, output)
    rows = count_rows(output)
    alone = _run(command(prepared, *EXISTING, "--format", "csv"), prepared)
    start = time.perf_counter()
    done = _run(command(prepared, "--list", LIST, "--output", str(output), "--resume", "--batch-size", "1"), prepared)
    seconds = time.perf_counter() - start
    for run in (alone, done):
        if run.returncode != 0 or "2 images scored" not in run.stderr:
            return Outcome(f"{form}: exit status {run.returncode}: {run.stderr.splitlines()[-1:]}")
    if count_rows(output) != rows + 2:
        return Outcome(f"{form}: {count_rows(output)} rows, not {rows + 2}")
    peaks = [int(re.search(r"peak memory (\d+) MB", run.stderr)[1]) for run in (alone, done)]
    each = (peaks[1] - peaks[0]) * 1e6 / rows
    figure = f"{form}: {rows:,} rows in {seconds:.0f} s, {each:.0f} bytes of memory for each"
    return Outcome(figure if each > ROW_BYTES and rows >= FEW else "", figure)


def count_rows(output: Path) -> int:
    """Return the number of rows of an output in any format that can be continued."""
    if output.suffix == ".parquet":
        return pq.ParquetFile(output).metadata.num_rows
    with output.open("rb") as file:
        lines = sum(1 for _ in file)
    return lines - {".csv": 1, ".jsonl": 0, ".json": 2}[output.suffix]


def prepare_runs(folder: Path, count: int) -> None:
    """Write `count` runs of one split."""
    write_run(folder, "run_0000", [{"srcc": 0.9, "plcc": 0.8, "rmse": 0.2}])
    for number in range(1, count):
        run = shutil.copytree(folder / "run_0000", folder / f"run_{number:04d}")
        config = run / "split_01" / "config.yaml"
        text = config.read_text(encoding="utf-8")
        config.write_text(text.replace("name: run_0000", f"name: {run.name}"), encoding="utf-8")


def summarise_runs(number: int, folder: Path, prepared: Path) -> Outcome:
    """Summarise all runs of a folder; each must have its row."""
    count = sum(1 for _ in prepared.iterdir())
    start = time.perf_counter()
    done = _run([sys.executable, str(ROOT / "tools" / "summarize.py"), str(prepared), "--format", "csv"], folder)
    seconds = time.perf_counter() - start
    named = len(set(re.findall(r"^(run_\d+),", done.stdout, re.MULTILINE)))
    if done.returncode != 0 or named != count:
        return Outcome(f"{named} of {count} runs, exit status {done.returncode}: {done.stderr.splitlines()[-1:]}")
    figure = f"{count:,} runs in {seconds:.0f} s"
    return Outcome(figure if seconds > START_SECONDS + RUN_SECONDS * count else "", figure)


def prepare_union(folder: Path, count: int) -> None:
    """Write `count` databases, and a config that joins them."""
    members = [f"  - {{name: {name}, root: {write_database(name, folder / name).root}}}" for name in DATABASES[:count]]
    (folder / "union.yaml").write_text(
        "\n".join(["dataset:", *members, f"train: {{batch_size: {8 * count}}}"]), encoding="utf-8"
    )


def join_databases(number: int, folder: Path, prepared: Path) -> Outcome:
    """Inspect the databases, and train on all of them for one step."""
    config = ["--config", str(prepared / "union.yaml")]
    script = str(ROOT / "tools" / "check_dataset.py")
    inspected = _run([sys.executable, script, *config, "--no-picture", *UNION], folder)
    if inspected.returncode != 0:
        return Outcome(f"check_dataset: exit status {inspected.returncode}: {inspected.stdout.splitlines()[-1:]}")
    runs = [f"run.root={folder / 'runs'}", "run.name=union"]
    trained = _run([sys.executable, str(ROOT / "main.py"), *config, *UNION, *runs], folder)
    if trained.returncode != 0 or not (folder / "runs" / "union" / "split_01" / "metrics.json").exists():
        return Outcome(f"main: exit status {trained.returncode}: {trained.stderr.splitlines()[-1:]}")
    return Outcome(figure=f"{len(list(prepared.glob('*/')))} databases")


def _run(command: Sequence[str], folder: Path) -> subprocess.CompletedProcess:
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def load_parts(
    images: int = 100_000, rows: int = 1_000_000, runs: int = 1_000, databases: int = 10
) -> tuple[Part, ...]:
    """Return the parts, of the given sizes."""
    scored = Part(
        "load_images",
        f"{images:,} images are scored into text, CSV, JSON Lines, JSON and Parquet",
        "each has a row; memory stays flat",
        *(len(FORMATS), score_many, partial(prepare_images, count=images), images),
    )
    continued = Part(
        "load_rows",
        f"CSV, Parquet, JSON Lines and JSON of {rows:,} rows are continued with --resume",
        "the rows stay and the two that are missing follow; memory does not hold the rows",
        *(len(CONTINUED), continue_many, partial(prepare_rows, count=rows), rows),
    )
    summarised = Part(
        "load_runs",
        f"`tools/summarize.py` on a folder of {runs:,} runs",
        "each has a row, within seconds",
        *(1, summarise_runs, partial(prepare_runs, count=runs), runs),
    )
    joined = Part(
        "load_union",
        f"{databases} databases are inspected, and trained on together for one step",
        "exit status 0, a finished run",
        *(1, join_databases, partial(prepare_union, count=databases), databases),
    )
    return scored, continued, summarised, joined


PARTS = load_parts(images=100_000, rows=1_000_000, runs=1_000, databases=10)
