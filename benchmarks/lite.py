"""RichIQA-Lite: scoring folders of photographs, and a training step with and without keeping freed memory."""

import os
import sys
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from benchmarks.data import write_photos
from benchmarks.rows import Measured, in_turn
from benchmarks.timing import command_seconds, run_command
from scoring.defaults import DECODE, EXACT

RUNS = 3
DISTINCT = 8  # pictures; the others are links to them
SIZES = {"512": ((512, 512), 240), "12mp": ((4000, 3000), 96)}  # pixels, and number of photographs
QUALITY = 90
LARGE = 2000  # pixels
GRAIN = 3  # standard deviation of noise in large photographs, which makes their files as large as a camera's
DECODING = {"512": (EXACT,), "12mp": DECODE}
STEP_IMAGES, STEP_SIDE = 32, 224
# the minimum: one process that decodes, squashes, crops and scores one image after another with timm's own network
BARE = """
import sys, time
from pathlib import Path
import torch
from PIL import Image
from datasets.transforms import build_test_transform
from models import build_model
from utils.config import load_config
config = load_config("configs/photo.yaml")
model, transform = build_model(config.model).eval(), build_test_transform(config.transform)
start = time.perf_counter()
with torch.inference_mode():
    for path in Path(sys.argv[1]).iterdir():
        model(transform(Image.open(path).convert("RGB"))[None])
print(time.perf_counter() - start)
"""
STEP = f"""
import sys, time
import torch
from models import build_model
from utils.config import load_config
from utils.memory import keep_freed_memory
if sys.argv[1] == "keep":
    keep_freed_memory()
model = build_model(load_config("configs/photo.yaml").model).train()
images = torch.randn({STEP_IMAGES}, 3, {STEP_SIDE}, {STEP_SIDE})
def step():
    start = time.perf_counter()
    model(images).square().sum().backward()
    return time.perf_counter() - start
print(min(step() for _ in range(4)))
"""


def measure() -> list[Measured]:
    """Measure `lite_scoring_*`, the shipped weights from folder to CSV with the start, and `lite_training`."""
    with tempfile.TemporaryDirectory() as folder:
        rows = [row for name in SIZES for row in measure_scoring(name, Path(folder) / name)]
    steps = [partial(printed_seconds, [sys.executable, "-c", STEP, memory]) for memory in ("keep", "return")]
    ours, peers = in_turn(*steps, RUNS)
    what = f"gradients of {STEP_IMAGES} images of {STEP_SIDE} pixels"
    return [*rows, Measured("lite_training", what, "freed memory is returned", "s", ours, peers)]


def measure_scoring(name: str, photos: Path) -> Iterator[Measured]:
    """Yield a row for photographs of a size, written to a folder, and one for their drafts, with the change of MOS."""
    size, count = SIZES[name]
    write_copies(photos, size, count)
    bare, mos = [sys.executable, "-c", BARE, str(photos)], {}
    for decode in DECODING[name]:
        output = photos.with_name(f"{name}_{decode}.csv")
        score = [sys.executable, "inference.py", str(photos), "--device", "cpu", "--decode", decode]
        score += ["--output", str(output), "--overwrite"]
        ours, peers = in_turn(partial(command_seconds, score), partial(printed_seconds, bare), RUNS)
        what = f"{count} JPEGs of {size[0]}x{size[1]} pixels to CSV, per image: {count / min(ours):.0f} images/s"
        mos[decode] = pd.read_csv(output)["mos"]
        if decode != EXACT:
            change = (mos[decode] - mos[EXACT]).abs()
            what += f"; MOS changes by {change.mean():.3f}, at most {change.max():.3f}"
        per_image = [[1000 * taken / count for taken in times] for times in (ours, peers)]
        title = f"lite_scoring_{name}" + ("" if decode == EXACT else f"_{decode}")
        yield Measured(title, what, "one after another, without the start", "ms", *per_image)


def write_copies(folder: Path, size: tuple[int, int], count: int) -> None:
    """Write a folder of photographs of a size, of which DISTINCT differ."""
    folder.mkdir()
    for number, name in enumerate(write_photos(folder, DISTINCT)):
        path = folder / name
        image = Image.open(path).resize(size, Image.Resampling.BICUBIC)
        if max(size) > LARGE:
            grain = np.random.default_rng(number).normal(0, GRAIN, (size[1], size[0], 1)).astype(np.float32)
            image = Image.fromarray((np.asarray(image) + grain).clip(0, 255).astype(np.uint8))
        image.save(path, quality=QUALITY)
        for copy in range(number + DISTINCT, count, DISTINCT):
            os.link(path, folder / f"{copy}.jpg")


def printed_seconds(command: list[str]) -> float:
    """Return the seconds that a command prints."""
    return float(run_command(command))
