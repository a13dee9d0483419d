"""Checkpoints and pictures to score."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from models import build_model
from models.official import to_official
from tests.scoring.scored import SETTINGS
from utils.checkpoint import save_checkpoint
from utils.config import config_from_dict
from utils.settings import ModelSettings


@pytest.fixture
def checkpoint(tmp_path) -> Path:
    torch.manual_seed(0)
    config = config_from_dict(SETTINGS, "test").model_dump(mode="json")
    model = build_model(ModelSettings(backbone="cvt_nano"))
    path = tmp_path / "checkpoint" / "a" / "split_01" / "best.pt"
    save_checkpoint(path, {"model": model.state_dict(), "config": config, "scale": config["scale"]})
    return path


@pytest.fixture
def photo(tmp_path) -> Path:
    pixels = np.random.default_rng(0).integers(0, 256, (50, 70, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


@pytest.fixture
def release_checkpoint(tmp_path) -> Path:
    torch.manual_seed(1)
    state = to_official(build_model().state_dict(), complete=True)
    torch.save({f"module.{name}": tensor for name, tensor in state.items()}, tmp_path / "release.pth")
    return tmp_path / "release.pth"


@pytest.fixture
def photos(tmp_path):
    """Eleven pictures, two of them damaged."""
    rng = np.random.default_rng(1)
    (tmp_path / "photos").mkdir()
    for number in range(9):
        pixels = rng.integers(0, 256, (30 + 5 * number, 60, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "photos" / f"p{number}.png")
    (tmp_path / "photos" / "p2b.png").write_bytes(b"")
    (tmp_path / "photos" / "p5b.png").write_text("no\nimage")
    return tmp_path / "photos"
