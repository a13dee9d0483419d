"""Data loading in training: an epoch of pictures from the cache, compared with their JPEGs."""

import tempfile
from collections import deque
from pathlib import Path

import numpy as np
from PIL import Image
from torch.utils.data import DataLoader

from benchmarks.rows import Measured, in_turn
from benchmarks.timing import seconds
from datasets.cache import ImageSource
from datasets.dataset import IQADataset
from datasets.loader import batches, make_loader
from datasets.ratings import Record
from datasets.transforms import build_train_crop
from utils.settings import TrainSettings, TransformSettings

RUNS = 9
IMAGES = 64
PHOTO = (1024, 768)  # pixels, as in KonIQ-10k
QUALITY = 92
OCTAVES = 9  # levels of detail, from blocks of a quarter of the height to single pixels


def measure() -> list[Measured]:
    """Measure `data_cache`: an epoch of the loader with the training transform, without a network, in this process."""
    with tempfile.TemporaryDirectory() as folder:
        names = write_photos(Path(folder), IMAGES)
        loaders = [
            build_loader(ImageSource("photos", Path(folder), cache=cache, folder=Path(folder) / "cache"), names)
            for cache in ("disk", "none")
        ]
        for loader in loaders:
            epoch_seconds(loader)  # warm-up
        ours, peers = in_turn(*(lambda loader=loader: epoch_seconds(loader) for loader in loaders), RUNS)
    what = f"an epoch of {IMAGES} JPEGs of {PHOTO[0]}x{PHOTO[1]} from dataset.cache=disk, no network"
    return [Measured("data_cache", what, "decoding them", "s", ours, peers)]


def build_loader(source: ImageSource, names: list[str]) -> DataLoader:
    """Return the training loader over these images, without workers."""
    settings = TransformSettings()
    records = [Record(name, 3.0, 1.0, (0.2,) * 5) for name in names]
    dataset = IQADataset(source.opener(names, settings.resize), records, build_train_crop(settings))
    return make_loader(dataset, TrainSettings().batch_size, workers=0, train=True)


def epoch_seconds(loader: DataLoader) -> float:
    """Return the duration of an epoch."""
    return seconds(lambda: deque(batches(loader), maxlen=0))


def write_photos(folder: Path, count: int) -> list[str]:
    """Write pictures with detail at every scale, as in photographs; return their names."""
    rng = np.random.default_rng(0)
    width, height = PHOTO
    names = [f"{number}.jpg" for number in range(count)]
    for name in names:
        pixels = np.zeros((height, width, 3), np.float32)
        for octave in range(OCTAVES):
            coarse = rng.integers(0, 256, (3 * 2**octave, 4 * 2**octave, 3), dtype=np.uint8)
            layer = Image.fromarray(coarse).resize(PHOTO, Image.Resampling.BICUBIC)
            pixels += np.asarray(layer, np.float32) / 2 ** (octave + 1)
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / name, quality=QUALITY)
    return names
