"""Data loading in training: an epoch of pictures from the cache, compared with their JPEGs."""

import tempfile
from collections import deque
from pathlib import Path

from torch.utils.data import DataLoader

from benchmarks.data import PHOTO, photo_loader, write_photos
from benchmarks.rows import Measured, in_turn
from benchmarks.timing import seconds
from datasets.loader import batches

RUNS = 9
IMAGES = 64


def measure() -> list[Measured]:
    """Measure `data_cache`: an epoch of the loader with the training transform, without a network, in this process."""
    with tempfile.TemporaryDirectory() as folder:
        names = write_photos(Path(folder), IMAGES)
        loaders = [photo_loader(Path(folder), names, cache, workers=0, train=True) for cache in ("disk", "none")]
        for loader in loaders:
            epoch_seconds(loader)  # warm-up
        ours, peers = in_turn(*(lambda loader=loader: epoch_seconds(loader) for loader in loaders), RUNS)
    what = f"an epoch of {IMAGES} JPEGs of {PHOTO[0]}x{PHOTO[1]} from dataset.cache=disk, no network"
    return [Measured("data_cache", what, "decoding them", "s", ours, peers)]


def epoch_seconds(loader: DataLoader) -> float:
    """Return the duration of an epoch."""
    return seconds(lambda: deque(batches(loader), maxlen=0))
