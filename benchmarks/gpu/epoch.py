"""Whole epochs of configs/koniq10k_fast.yaml through main.py, on made-up JPEGs from a warm cache."""

import json
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import Any
from unittest.mock import patch

from benchmarks.data import write_database
from benchmarks.gpu.sizes import Sizes
from benchmarks.rows import Rows
from benchmarks.timing import ROOT
from datasets.loader import batches
from main import main

FAST = ROOT / "configs" / "koniq10k_fast.yaml"
KONIQ_TRAIN, KONIQ_TEST = 8058, 2015  # images of a split
KONIQ_EPOCHS = 500  # ten splits of 50
HOUR = 3600
SAMPLE = 0.2  # seconds between two looks at the GPU


def measure(rows: Rows, sizes: Sizes) -> None:
    """Write the time of an epoch and its evaluation, what they wait for, and the time of the whole protocol."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write_database(root / "koniq10k", sizes.photos)
        with busy_shares(sizes) as busy, timed_passes() as passes:
            begun = time.perf_counter()
            status = main(["--config", str(FAST), *overrides(root, sizes)])
            rows.add("main", status=status, seconds=time.perf_counter() - begun)
        log = root / "runs" / "koniq10k_fast" / "split_01" / "log.jsonl"
        epochs = [json.loads(line)["seconds"] for line in log.read_text().splitlines()]
    rows.add("first_epoch", what="with compiling and filling the cache", seconds=epochs[0])
    rows.add("epochs", seconds=epochs[1:], images=passes["training"][1]["images"])
    rates = {}
    for name, each in passes.items():
        rates[name] = [one["images"] / one["seconds"] for one in each[1:]]
        rows.add(
            name,
            seconds=[one["seconds"] for one in each[1:]],
            images_per_s=rates[name],
            waiting_for_data=[one["waiting"] / one["seconds"] for one in each[1:]],
        )
    spans = [(one["begun"], one["begun"] + one["seconds"]) for one in passes["training"][1:]]
    samples = [share for moment, share in busy if any(begun <= moment <= ended for begun, ended in spans)]
    if samples:
        rows.add("gpu_busy_percent", what="nvidia-smi while training, first epoch aside", share=samples)
    hours = [
        KONIQ_EPOCHS / HOUR * (KONIQ_TRAIN / training + KONIQ_TEST / evaluation)
        for training, evaluation in zip(rates["training"], rates["evaluation"], strict=True)
    ]
    rows.add("protocol", what=f"{KONIQ_EPOCHS} epochs of KonIQ-10k with their evaluations", hours=hours)


def overrides(root: Path, sizes: Sizes) -> list[str]:
    """Return what the config says otherwise, here."""
    small = [f"train.device={sizes.device}", "train.compile=false"] if sizes.device.type == "cpu" else []
    return [
        f"dataset.root={root / 'koniq10k'}",
        f"run.root={root / 'runs'}",
        "model.pretrained=none",
        f"model.backbone={sizes.backbone}",
        f"transform.resize={sizes.resize}",
        f"transform.crop={sizes.side}",
        f"train.batch_size={sizes.batch}",
        f"train.epochs={sizes.epochs}",
        "protocol.splits=1",
        "protocol.train_fraction=0.5",  # evaluates 1,500 images; in the real database 2,015
        *small,
    ]


@contextmanager
def timed_passes() -> Iterator[dict[str, list[dict[str, float]]]]:
    """Time every pass over a loader: when it began, its seconds and images, the seconds that it waited for batches."""
    passes: dict[str, list[dict[str, float]]] = {"training": [], "evaluation": []}

    def timed(name: str) -> Any:
        def timed_batches(loader: Any) -> Iterator[dict[str, Any]]:
            begun, waiting, images = time.perf_counter(), 0.0, 0
            source = batches(loader)
            while True:
                asked = time.perf_counter()
                batch = next(source, None)
                waiting += time.perf_counter() - asked
                if batch is None:
                    break
                images += len(batch["name"])
                yield batch
            taken = time.perf_counter() - begun
            passes[name].append({"begun": begun, "seconds": taken, "waiting": waiting, "images": images})

        return timed_batches

    with (
        patch("experiments.training.step.batches", timed("training")),
        patch("experiments.evaluation.predict.batches", timed("evaluation")),
    ):
        yield passes


@contextmanager
def busy_shares(sizes: Sizes) -> Iterator[list[tuple[float, float]]]:
    """Fill a list with moments and how busy the GPU was then, in %; it stays empty without nvidia-smi."""
    busy: list[tuple[float, float]] = []
    if sizes.device.type != "cuda" or shutil.which("nvidia-smi") is None:
        yield busy
        return
    command = ["nvidia-smi", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits"]
    with subprocess.Popen([*command, f"-lms={int(1000 * SAMPLE)}"], stdout=subprocess.PIPE, text=True) as process:
        samples = ((time.perf_counter(), float(line)) for line in process.stdout if line.strip().isdigit())
        reader = Thread(target=lambda: busy.extend(samples), daemon=True)
        reader.start()
        try:
            yield busy
        finally:
            process.terminate()
            reader.join()
