"""Made-up images: photographs in files, random tensors, and images whose labels can be learnt from them."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader

from datasets.cache import ImageSource
from datasets.dataset import IQADataset
from datasets.loader import make_loader
from datasets.ratings import Record
from datasets.transforms import build_test_crop, build_train_crop
from utils.settings import TrainSettings, TransformSettings

PHOTO = (1024, 768)  # pixels, as in KonIQ-10k
QUALITY = 92
OCTAVES = 9  # levels of detail, from blocks of a quarter of the height to single pixels
DISTINCT = 64  # photographs of a database; the others are the same under other names
VOTES = 100  # of an image


def photo_loader(folder: Path, names: list[str], cache: str, workers: int, train: bool) -> DataLoader:
    """Return the loader of training or of tests over photographs in a folder."""
    settings = TransformSettings()
    source = ImageSource("photos", folder, cache=cache, folder=folder / "cache")
    records = [Record(name, 3.0, 1.0, (0.2,) * 5) for name in names]
    transform = (build_train_crop if train else build_test_crop)(settings)
    dataset = IQADataset(source.opener(names, settings.resize), records, transform)
    return make_loader(dataset, TrainSettings().batch_size, workers=workers, train=train)


def random_images(count: int, side: int, device: torch.device) -> Tensor:
    """Return normally distributed images (B, 3, side, side)."""
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(0)).to(device)


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


def learnable_batch(count: int, side: int, seed: int) -> dict[str, Tensor | list[str]]:
    """Return a batch as a loader gives it: smooth images with the less noise the higher their MOS."""
    generator = torch.Generator().manual_seed(seed)
    mos = 1 + 4 * torch.rand(count, generator=generator)  # (B,)
    coarse = torch.rand(count, 3, 8, 8, generator=generator)
    smooth = F.interpolate(coarse, (side, side), mode="bicubic")
    noise = torch.rand(count, 3, side, side, generator=generator) - 0.5
    images = smooth + noise * ((5 - mos) / 4)[:, None, None, None]
    dos = torch.softmax(-((torch.arange(1.0, 6.0) - mos[:, None]) ** 2), dim=1)  # (B, K)
    return {
        "image": (255 * images.clamp(0, 1)).to(torch.uint8),
        "mos": mos,
        "sos": torch.full((count,), 0.7),
        "dos": dos,
        "database": torch.zeros(count, dtype=torch.int64),
        "name": [f"{number}.jpg" for number in range(count)],
    }


def write_database(root: Path, count: int) -> None:
    """Write a folder in the layout of KonIQ-10k: JPEGs of 1024x768 pixels and a table of made-up votes."""
    folder = root / "1024x768"
    folder.mkdir(parents=True)
    names = write_photos(folder, min(count, DISTINCT))
    for number in range(len(names), count):
        names.append(f"{number}.jpg")
        shutil.copyfile(folder / names[number % DISTINCT], folder / names[number])
    rng = np.random.default_rng(0)
    votes = rng.multinomial(VOTES, rng.dirichlet(np.ones(5), count))  # (N, K)
    scores = np.arange(1, 6)
    mos = votes @ scores / VOTES
    sd = np.sqrt((votes * (scores - mos[:, None]) ** 2).sum(1) / (VOTES - 1))
    table = pd.DataFrame({"image_name": names})
    table[["c1", "c2", "c3", "c4", "c5"]] = votes
    table = table.assign(c_total=VOTES, MOS=mos.round(9), SD=sd.round(9), MOS_zscore=(20 * mos).round(8))
    table.to_csv(root / "koniq10k_scores_and_distributions.csv", index=False)
