"""What the evaluation of a test split costs: from JPEGs to a DOS of each, in batches as main.py does it."""

import tempfile
import time
from pathlib import Path

import torch
from torch.utils.data import DataLoader

from benchmarks.data_cache import write_photos
from benchmarks.peer import networks
from benchmarks.rows import Measured, in_turn
from datasets.cache import ImageSource
from datasets.dataset import IQADataset
from datasets.loader import make_loader
from datasets.ratings import Record
from datasets.transforms import build_test_crop, build_test_transform, load_image
from experiments.evaluation.predict import predict
from utils.settings import TrainSettings, TransformSettings

RUNS = 3
IMAGES = 8
WORKERS = 2


def measure() -> list[Measured]:
    """`evaluation`: seconds for a split of JPEGs; the peer takes them one by one, as the release's evaluation does."""
    network, _, peer = networks("fp32", torch.device("cpu"))
    settings = TransformSettings()
    transform = build_test_transform(settings)
    with tempfile.TemporaryDirectory() as folder:
        names = write_photos(Path(folder), IMAGES)
        source = ImageSource("photos", Path(folder), cache="disk", folder=Path(folder) / "cache")
        records = [Record(name, 3.0, 1.0, (0.2,) * 5) for name in names]
        dataset = IQADataset(source.opener(names, settings.resize), records, build_test_crop(settings))
        loader = make_loader(dataset, TrainSettings().batch_size, workers=WORKERS)

        @torch.inference_mode()
        def one_by_one() -> float:
            begun = time.perf_counter()
            for name in names:
                peer(transform(load_image(Path(folder) / name))[None])
            return time.perf_counter() - begun

        seconds_of(network, loader)  # once for nothing: the workers start
        ours, peers = in_turn(lambda: seconds_of(network, loader), one_by_one, RUNS)
    what = f"{IMAGES} JPEGs of 1024x768 from dataset.cache=disk, batches of up to {TrainSettings().batch_size}, fp32"
    return [Measured("evaluation", what, "the same JPEGs one at a time through the peer", "s", ours, peers)]


def seconds_of(network: torch.nn.Module, loader: DataLoader) -> float:
    """Seconds that an evaluation takes."""
    begun = time.perf_counter()
    predict(network, loader)
    return time.perf_counter() - begun
