"""Evaluation of a test split: from JPEGs to their DOS, in batches as in main.py."""

import tempfile
from pathlib import Path

import torch

from benchmarks.data import photo_loader, write_photos
from benchmarks.peer import networks
from benchmarks.rows import Measured, in_turn
from benchmarks.timing import seconds
from datasets.decoding import load_image
from datasets.transforms import build_test_transform
from experiments.evaluation.predict import predict
from utils.settings import TrainSettings, TransformSettings

RUNS = 3
IMAGES = 8
WORKERS = 2


def measure() -> list[Measured]:
    """Measure `evaluation`: seconds per split of JPEGs; the peer scores them one by one, as the release does."""
    network, _, peer = networks("fp32", torch.device("cpu"))
    transform = build_test_transform(TransformSettings())
    with tempfile.TemporaryDirectory() as folder:
        names = write_photos(Path(folder), IMAGES)
        loader = photo_loader(Path(folder), names, "disk", WORKERS, train=False)

        @torch.inference_mode()
        def one_by_one() -> None:
            for name in names:
                peer(transform(load_image(Path(folder) / name))[None])

        predict(network, loader)  # warm-up: the workers start
        ours, peers = in_turn(lambda: seconds(lambda: predict(network, loader)), lambda: seconds(one_by_one), RUNS)
    what = f"{IMAGES} JPEGs of 1024x768 from dataset.cache=disk, batches of up to {TrainSettings().batch_size}, fp32"
    return [Measured("evaluation", what, "the same JPEGs one at a time through the peer", "s", ours, peers)]
