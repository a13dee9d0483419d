"""Tiny made-up databases in the official formats, and settings with which a training takes seconds."""

import os
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"  # no test may reach for the network; before anything imports the hub's package

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from tests.running import folder_of, train

IMAGES = 20
KONIQ_SCORES = "koniq10k_scores_and_distributions.csv"

# Autograd counts the devices at its first use. Torch's compiler pretends that there is a GPU: counted after it, that
# one gets a thread, and then no test can fork a process that trains.
torch.zeros((), requires_grad=True).backward()


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip tests marked `gpu` where no CUDA GPU is available."""
    if item.get_closest_marker("gpu") and not torch.cuda.is_available():
        pytest.skip("needs a CUDA GPU")


@pytest.fixture(autouse=True)
def _few_threads():
    """Tiny networks are faster on one thread; it also makes sums independent of the machine's cores."""
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _report_only_where_asked(request, monkeypatch):
    """Most tests train; a report takes longer than their training."""
    if request.node.get_closest_marker("with_report") is None:
        monkeypatch.setattr("main.print_report", lambda *_: None)


@pytest.fixture
def koniq_table() -> pd.DataFrame:
    """A votes table as KonIQ-10k writes it, of 20 images."""
    rng = np.random.default_rng(0)
    counts = rng.multinomial(100, rng.dirichlet(np.ones(5), IMAGES))
    scores = np.arange(1, 6)
    mos = counts @ scores / 100
    sd = np.sqrt((counts * (scores - mos[:, None]) ** 2).sum(1) / 99)
    table = pd.DataFrame({"image_name": [f"{1000 + index}.jpg" for index in range(IMAGES)]})
    table[["c1", "c2", "c3", "c4", "c5"]] = counts
    return table.assign(c_total=100, MOS=mos.round(9), SD=sd.round(9), MOS_zscore=(20 * mos).round(8))


@pytest.fixture
def koniq_root(tmp_path: Path, koniq_table: pd.DataFrame) -> Path:
    """A folder like the unpacked KonIQ-10k, its images small: noise, the coarser the worse its MOS."""
    root = tmp_path / "koniq10k"
    (root / "1024x768").mkdir(parents=True)
    koniq_table.to_csv(root / KONIQ_SCORES, index=False)
    rng = np.random.default_rng(1)
    for name, mos in zip(koniq_table["image_name"], koniq_table["MOS"], strict=True):
        block = round(2 * (6 - mos))
        noise = Image.fromarray(rng.integers(0, 256, (48 // block + 1, 64 // block + 1, 3), dtype=np.uint8))
        noise.resize((64, 48), Image.Resampling.NEAREST).save(root / "1024x768" / name, quality=95)
    return root


@pytest.fixture
def quick(koniq_root: Path, tmp_path: Path) -> list[str]:
    """Overrides of any config: the smallest training there is, everything under tmp_path."""
    return [
        "run.name=quick",
        f"run.root={tmp_path / 'runs'}",
        "dataset.name=koniq10k",
        f"dataset.root={koniq_root}",
        "transform.resize=40",
        "transform.crop=32",
        "model.backbone=cvt_nano",
        "model.pretrained=none",
        "train.epochs=2",
        "train.batch_size=4",
        "train.device=cpu",
        "train.workers=0",
        "protocol.splits=1",
        "protocol.unit=auto",
    ]


@pytest.fixture
def run(quick: list[str], tmp_path: Path) -> Path:
    """The folder of a finished run of two epochs."""
    assert train(quick) == 0
    return folder_of(tmp_path)
