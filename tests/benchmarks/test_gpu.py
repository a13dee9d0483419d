"""What a GPU is measured by: here on the CPU and small, so that it runs where there is one."""

import pytest
import torch
from PIL import Image

from benchmarks import gpu, inference, rows
from models import build_model
from utils.settings import Config, ModelSettings, TrainSettings, TransformSettings

CONFIG = Config(
    transform=TransformSettings(resize=48, crop=32),
    model=ModelSettings(backbone="cvt_nano"),
    train=TrainSettings(batch_size=4, workers=0, precision="bf16"),
)
pytestmark = pytest.mark.filterwarnings("ignore:.*pin_memory")

SMALL = {"BATCHES": (1, 2), "RUNS": 2, "WARM_UP": 1, "CEILING": 64, "PHOTOS": 4, "REPEATED": 2}


@pytest.fixture
def small(monkeypatch):
    """The benchmark's sizes, device and networks, made small."""
    for name, value in SMALL.items():
        monkeypatch.setattr(gpu, name, value)
    monkeypatch.setattr(gpu, "require_gpu", lambda: torch.device("cpu"))
    monkeypatch.setattr(gpu, "load_config", lambda _: CONFIG)
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: tensor)
    monkeypatch.setattr(inference, "SIDE", 32)


def nano(_precision, device):
    network = build_model(CONFIG.model).eval().to(device)
    return network, network, network


@pytest.mark.usefixtures("small")
def test_every_row_is_measured(monkeypatch):
    monkeypatch.setattr(gpu, "networks", nano)
    monkeypatch.setattr(gpu, "trained_networks", lambda device: nano("fp32", device)[:2])
    monkeypatch.setattr(torch, "compile", lambda network, **_: network)  # which takes minutes
    measured = [*gpu.measure_inference(), *gpu.measure_training(), *gpu.measure_protocol()]
    names = ["inference_gpu", "inference_gpu_of_ceiling", "inference_gpu_compiled"]
    assert [row.name for row in measured] == [*names, "train_gpu", "train_gpu_of_ceiling", "protocol_gpu"]
    assert [len(row.ours) for row in measured] == [3, 3, 2, 2, 2, 3]
    assert all(value > 0 for row in measured for value in (*row.ours, *row.peers))
    assert [bool(row.peers) for row in measured] == [True, False, True, True, False, False]


@pytest.mark.usefixtures("small")
def test_the_protocol_is_counted_in_images(monkeypatch):
    monkeypatch.setattr(gpu, "seconds", lambda _: 8.0)  # for the 8 images of an epoch: a second each
    monkeypatch.setattr(gpu, "write_photos", write_gray)
    (row,) = gpu.measure_protocol()
    assert row.ours == pytest.approx([500 * (8058 + 2015) / 3600] * 3)


def write_gray(folder, count):
    names = [f"{number}.png" for number in range(count)]
    for name in names:
        Image.new("RGB", (48, 48)).save(folder / name)
    return names


def test_a_row_holds_medians_ratio_and_spread():
    row = rows.Measured("a", "what", "peer", "s", [1.0, 2.0, 4.0], [3.0, 3.0, 4.0]).as_row()
    assert (row["ours"], row["peer"], row["ratio"], row["spread"]) == (2.0, 3.0, 1.5, [1.0, 3.0])
    alone = rows.Measured("a", "what", "", "s", [1.0, 2.0, 4.0]).as_row()
    assert (alone["peer"], alone["ratio"], alone["spread"]) == (None, None, [1.0, 4.0])
