"""Images, transforms, order and augmentation."""

import signal
import subprocess
import sys
from functools import partial

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import (
    CenterCrop,
    Compose,
    InterpolationMode,
    Normalize,
    RandomCrop,
    RandomHorizontalFlip,
    Resize,
    ToTensor,
    functional,
)

from datasets.cache import FileImages
from datasets.dataset import IQADataset, collate
from datasets.decoding import load_image
from datasets.labels import Record
from datasets.loader import SeededSampler, make_loader
from datasets.transforms import (
    build_test_crop,
    build_test_transform,
    build_train_crop,
    damage,
    seeded,
    to_images,
)
from tests.running import ROOT
from utils.errors import MissingFileError, UserError
from utils.imagenet import IMAGENET_MEAN, IMAGENET_STD
from utils.settings import TransformSettings

SETTINGS = TransformSettings(resize=40, crop=32)


@pytest.fixture
def picture():
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 90, 3), dtype=np.uint8))


@pytest.fixture
def dataset(tmp_path, picture):
    records = []
    for index in range(11):
        picture.rotate(index).save(tmp_path / f"{index}.png")
        records.append(Record(f"{index}.png", 1 + index / 4, 0.5, (0.1, 0.2, 0.3, 0.2, 0.2)))
    crop = build_train_crop(SETTINGS)
    return IQADataset(FileImages(tmp_path), records, crop, damage=partial(damage, transform=crop, resize=40))


def test_test_transform_by_hand(picture):
    squashed = picture.resize((40, 40), Image.Resampling.BILINEAR).crop((4, 4, 36, 36))
    pixels = np.asarray(squashed, dtype=np.float32) / 255
    expected = (pixels - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    actual = build_test_transform(SETTINGS)(picture).permute(1, 2, 0).numpy()
    np.testing.assert_allclose(actual, expected, atol=1e-5)


def test_train_transform_flips_and_crops_the_squashed_image(picture):
    whole = build_test_crop(TransformSettings(resize=40, crop=40))(picture)
    crops = {
        (flipped, top, left): crop
        for flipped, image in ((False, whole), (True, functional.hflip(whole)))
        for top in range(9)
        for left in range(9)
        for crop in [image[:, top : top + 32, left : left + 32]]
    }
    transform = build_train_crop(SETTINGS)
    found = set()
    for seed in range(60):
        augmented = seeded(transform, picture, seed)
        found.add(next(key for key, crop in crops.items() if torch.equal(crop, augmented)))
    assert {flipped for flipped, _, _ in found} == {False, True}
    assert len({top for _, top, _ in found}) > 5


def test_seeded_transform_leaves_the_generator_alone(picture):
    transform = build_train_crop(SETTINGS)
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    one, same, other = (seeded(transform, picture, seed) for seed in (1, 1, 2))
    assert torch.equal(torch.rand(1), expected)
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_items(dataset):
    item = dataset[(3, 0)]
    assert (item["image"].shape, item["image"].dtype) == ((3, 32, 32), torch.uint8)
    assert (item["mos"].item(), item["name"]) == (1.75, "3.png")
    assert item["dos"].dtype == torch.float32


def passes(loader, epoch, start=0):
    loader.sampler.set_position(epoch, start)
    return [(batch["name"], batch["image"]) for batch in loader]


def test_training_loader_drops_the_incomplete_batch(dataset):
    loader = make_loader(dataset, 4, workers=0, train=True)
    assert [len(names) for names, _ in passes(loader, 0)] == [4, 4]
    assert [len(names) for names, _ in passes(make_loader(dataset, 4, workers=0), 0)] == [4, 4, 3]


def test_evaluation_keeps_the_order(dataset):
    names = [name for batch, _ in passes(make_loader(dataset, 4, workers=0), 0) for name in batch]
    assert names == dataset.images


def test_order_and_augmentation_depend_on_seed_epoch_and_position_alone(dataset):
    loader = make_loader(dataset, 2, workers=0, seed=1, train=True)
    whole = passes(loader, epoch=3)
    from_workers = passes(make_loader(dataset, 2, workers=2, seed=1, train=True), epoch=3)
    rest = passes(loader, epoch=3, start=4)
    for expected, actual in [*zip(whole, from_workers, strict=True), *zip(whole[2:], rest, strict=True)]:
        assert expected[0] == actual[0]
        assert torch.equal(expected[1], actual[1])
    assert [names for names, _ in passes(loader, epoch=4)] != [names for names, _ in whole]
    other = make_loader(dataset, 2, workers=0, seed=2, train=True)
    assert [names for names, _ in passes(other, epoch=3)] != [names for names, _ in whole]


def test_sampler_shuffles_every_image_once():
    sampler = SeededSampler(100, seed=0, shuffle=True)
    indices, seeds, damaged = zip(*sampler, strict=True)
    assert sorted(indices) == list(range(100))
    assert len(set(seeds)) == 100
    assert not any(damaged)


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK", "1"])
def test_every_mode_becomes_rgb(mode, picture, tmp_path):
    path = tmp_path / ("a.jpg" if mode == "CMYK" else "a.png")
    picture.convert(mode).save(path)
    assert load_image(path).mode == "RGB"


def test_sixteen_bits_are_scaled_and_floats_refused(picture, tmp_path):
    grey = np.asarray(picture.convert("L"))
    Image.fromarray(grey.astype(np.uint16) * 257).save(tmp_path / "deep.png")
    assert (np.asarray(load_image(tmp_path / "deep.png")) == grey[:, :, None]).all()
    Image.fromarray(grey.astype(np.float32) / 255).save(tmp_path / "float.tif")
    with pytest.raises(UserError, match=r"float\.tif: an image of floats"):
        load_image(tmp_path / "float.tif")
    Image.fromarray(grey.astype(np.int32) * 1000).save(tmp_path / "int.tif")
    with pytest.raises(UserError, match=r"int\.tif: an image of 32-bit integers has no known range"):
        load_image(tmp_path / "int.tif")


def test_files_that_are_no_images(picture, tmp_path):
    (tmp_path / "text.jpg").write_text("hello")
    with pytest.raises(UserError, match=r"text\.jpg is not an image"):
        load_image(tmp_path / "text.jpg")
    picture.save(tmp_path / "whole.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "whole.png").read_bytes()[:3000])
    with pytest.raises(UserError, match=r"cut\.png cannot be decoded"):
        load_image(tmp_path / "cut.png")
    with pytest.raises(MissingFileError, match=r"none\.png does not exist"):
        load_image(tmp_path / "none.png")
    with pytest.raises(UserError, match="is a folder, not an image"):
        load_image(tmp_path)


def test_batches_lie_in_memory_as_torch_puts_them():
    for crop in (5, 32):
        images = [torch.randint(256, (3, crop, crop), dtype=torch.uint8) for _ in range(7)]
        batch = collate([{"image": image, "name": "a.jpg"} for image in images])
        assert torch.equal(batch["image"], torch.stack(images))
        assert batch["image"].is_contiguous()
        assert batch["image"].data_ptr() % 64 == 0
        assert batch["name"] == ["a.jpg"] * 7


@pytest.mark.parametrize("crop", [32, 40])
def test_batches_on_the_device_are_what_torchvision_makes(crop):
    """The transform equals squash, flip, crop and normalisation by torchvision bit for bit, with the same draws."""
    settings = TransformSettings(resize=40, crop=crop)
    squash = Resize((40, 40), InterpolationMode.BILINEAR)
    rest = [ToTensor(), Normalize(IMAGENET_MEAN, IMAGENET_STD)]
    pairs = [
        (build_train_crop(settings), Compose([squash, RandomHorizontalFlip(), RandomCrop(crop), *rest])),
        (build_test_crop(settings), Compose([squash, CenterCrop(crop), *rest])),
    ]
    pictures = [
        Image.fromarray(np.random.default_rng(seed).integers(0, 256, (30, 50, 3), dtype=np.uint8)) for seed in range(20)
    ]
    for ours, usual in pairs:
        pixels = torch.stack([seeded(ours, picture, seed) for seed, picture in enumerate(pictures)])
        assert pixels.dtype == torch.uint8
        expected = torch.stack([seeded(usual, picture, seed) for seed, picture in enumerate(pictures)])
        assert torch.equal(to_images(pixels), expected)


@pytest.mark.parametrize(("start", "together"), [(0, 4), (8, 4), (0, 2), (4, 6)])
def test_processes_share_the_order_of_a_single_process(start, together, monkeypatch):
    """Each process takes its half of every batch in order, with the same seeds for the same images."""
    sampler = SeededSampler(21, seed=7, shuffle=True, together=together)
    sampler.set_position(3, start)
    whole = list(sampler)
    monkeypatch.setattr("datasets.loader.world", lambda: 2)
    shares = []
    for rank in range(2):
        monkeypatch.setattr("datasets.loader.rank", lambda rank=rank: rank)
        shares.append(list(sampler))
        assert len(sampler) == len(shares[-1])
    half = together // 2
    for group in range(len(whole) // together):
        parts = [share[group * half : (group + 1) * half] for share in shares]
        assert [*parts[0], *parts[1]] == whole[group * together : (group + 1) * together]
    assert len(shares[0]) == len(shares[1]) == len(whole) // together * half


def test_some_of_each_part_also_come_damaged(dataset, monkeypatch):
    """Two of every four that pass through the network together, one in each process."""
    loader = make_loader(dataset, 8, workers=0, train=True, together=4, damaged=2)
    assert [key.damaged for key in loader.sampler][:8] == 2 * [False, True, False, True]
    (batch,) = loader
    assert batch["damaged"].shape == (4, 2, *batch["image"].shape[1:])
    assert batch["strengths"].shape == (4, 2)
    monkeypatch.setattr("datasets.loader.world", lambda: 2)
    for rank in range(2):
        monkeypatch.setattr("datasets.loader.rank", lambda rank=rank: rank)
        assert [key.damaged for key in loader.sampler] == 2 * [False, True]


def test_processes_share_what_is_evaluated_without_a_rest(dataset, monkeypatch):
    monkeypatch.setattr("datasets.loader.world", lambda: 3)
    names = []
    for rank in range(3):
        monkeypatch.setattr("datasets.loader.rank", lambda rank=rank: rank)
        names += [name for batch in make_loader(dataset, 4, workers=0) for name in batch["name"]]
    assert names == [f"{index}.png" for index in range(11)]


def test_fewer_images_than_processes_are_shared_too(monkeypatch):
    sampler = SeededSampler(2, seed=0, shuffle=False)
    monkeypatch.setattr("datasets.loader.world", lambda: 3)
    indices = []
    for rank in range(3):
        monkeypatch.setattr("datasets.loader.rank", lambda rank=rank: rank)
        indices += [key.index for key in sampler]
    assert indices == [0, 1]


SIGNALLED = """
import os, signal, subprocess, sys, torch
from pathlib import Path
from datasets.dataset import IQADataset
from datasets.loader import make_loader
from datasets.labels import Record
from datasets.cache import FileImages
from datasets.transforms import build_test_crop
from utils.settings import TransformSettings

root = Path(sys.argv[1])
records = [Record(path.name, 3.0, 0.5, (0.2,) * 5) for path in sorted(root.glob("*.png"))]
dataset = IQADataset(FileImages(root), records, build_test_crop(TransformSettings(resize=40, crop=32)))
loader = make_loader(dataset, 2, workers=2)
passing = iter(loader)
batches = [next(passing)]
for worker in passing._workers:
    for number in (signal.SIGINT, signal.SIGTERM):
        subprocess.run(["sh", "-c", f"kill -{int(number)} {worker.pid}"], check=True)
batches += list(passing)
print(sum(len(batch["image"]) for batch in batches))
"""


@pytest.mark.skipif(not hasattr(signal, "sigwaitinfo"), reason="this system does not say who sends a signal")
def test_workers_leave_signals_to_their_parent_and_end_with_it(dataset, tmp_path):
    """Loader workers ignore signals from others than their parent."""
    command = [sys.executable, "-c", SIGNALLED, tmp_path]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert (done.stdout, done.returncode) == (f"{len(dataset)}\n", 0), done.stderr
