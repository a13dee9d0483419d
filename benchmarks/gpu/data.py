"""Made-up images whose labels can be learnt from them."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.data_cache import write_photos

DISTINCT = 64  # photographs; the others are the same under other names
VOTES = 100  # of an image


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
