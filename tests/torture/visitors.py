"""The page under many visitors at the same time: nobody gets an error, memory stays, uploads go."""

import io
import os
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image

from tests.lite import lite_checkpoint
from tests.scoring.page.test_layout import called, uploaded
from tests.torture.load import ROOT, resident
from tests.torture.part import Outcome, Part

VISITORS, SECONDS = 20, 600
WARM = 0.3  # share of the time after which memory is looked at
GROWTH = 100_000  # kB that the page may take more from then on


def picture(number: int) -> bytes:
    """Return a small JPEG, another for each number."""
    content = io.BytesIO()
    pixels = np.random.default_rng(number).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(content, "JPEG")
    return content.getvalue()


def visit(address: str, visitor: int, end: float) -> list[float]:
    """Upload and score one picture after the other until `end`; return the seconds that each answer took."""
    seconds = []
    while not seconds or time.monotonic() < end:
        start = time.monotonic()
        name = f"{visitor}_{len(seconds)}.jpg"
        kind, (rows,) = called(address, "score", uploaded(address, name, picture(1000 * visitor + len(seconds))))
        if kind != "complete" or rows[0]["error"] is not None or rows[0]["path"] != name:
            raise ValueError(f"visitor {visitor} was answered {kind}, {rows}")
        seconds.append(time.monotonic() - start)
    return seconds


def crowd(number: int, folder: Path, prepared: Path, visitors: int = VISITORS, duration: float = SECONDS) -> Outcome:
    """Let all visit the page at the same time."""
    if find_spec("gradio") is None:
        return Outcome(figure="skipped: gradio is not installed")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    arguments = ["--checkpoint", str(lite_checkpoint(folder / "lite.pt")), "--device", "cpu", "--port", str(port)]
    (folder / "temporary").mkdir()
    with subprocess.Popen(
        [sys.executable, str(ROOT / "app.py"), *arguments],
        cwd=folder,
        env={**os.environ, "TMPDIR": str(folder / "temporary")},
        stdout=subprocess.PIPE,
    ) as page:
        try:
            page.stdout.readline()  # where the page is
            return _visited(page.pid, f"http://127.0.0.1:{port}", folder / "temporary", visitors, duration)
        finally:
            page.terminate()


def _visited(page: int, address: str, uploads: Path, visitors: int, duration: float) -> Outcome:
    end = time.monotonic() + duration
    with ThreadPoolExecutor(visitors) as pool:
        visits = [pool.submit(visit, address, visitor, end) for visitor in range(visitors)]
        time.sleep(WARM * duration)
        before = resident(page)
        seconds = np.sort(np.concatenate([each.result() for each in visits]))
    growth = resident(page) - before
    left = [path for path in uploads.rglob("*.jpg") if path.is_file()]
    figure = (
        f"{len(seconds):,} pictures of {visitors} visitors in {duration:.0f} s, half within "
        f"{np.median(seconds):.1f} s, 99 % within {np.quantile(seconds, 0.99):.1f} s, {growth / 1000:+.0f} MB"
    )
    if left:
        return Outcome(f"{len(left)} uploads were left", figure)
    return Outcome(figure if growth > GROWTH else "", figure)


PARTS = (
    Part(
        "load_page",
        f"{VISITORS} visitors upload and score pictures on the page for {SECONDS} s",
        "each gets the scores of its picture; memory stays; uploads are deleted",
        *(1, crowd),
    ),
)
