"""The cache in training and evaluation changes no results, and is shared by runs."""

import signal
from pathlib import Path

import numpy as np
import pytest
import torch

from datasets import cache as cache_module
from datasets.cache import CachedImages, FileImages
from datasets.database import load_databases
from datasets.loader import batches
from datasets.transforms import Squash
from experiments.training.setup import build_loaders
from main import main
from tests.databases import write_database
from tests.datasets.test_cache import count_loads
from tests.running import first_split, folder_of, train
from utils.checkpoint import read_checkpoint
from utils.config import load_config
from utils.errors import UserError
from utils.files import read_object

ROOT = Path(__file__).parents[2]
SIZE = 40  # of the fixture `quick`


@pytest.fixture(autouse=True)
def _nothing_in_memory(monkeypatch):
    monkeypatch.setattr(cache_module, "_RAM", {})


def test_tensors_are_the_same(quick):
    """Batches of two epochs and of the evaluated parts do not depend on the number of workers."""
    quick = [*quick, "protocol.validation_fraction=0.2"]

    def tensors(kind, workers=0):
        config = load_config(None, [*quick, f"dataset.cache={kind}", f"train.workers={workers}"])
        run = first_split(config)
        train_loader, parts = build_loaders(config, run.databases, run.splits, seed=3, pin_memory=False)
        for epoch in range(2):
            train_loader.sampler.set_position(epoch)
            yield from batches(train_loader)
        for part in ("validation", "test"):
            yield from batches(parts[part][0].loader)

    plain = list(tensors("none"))
    for kind, workers in (("ram", 0), ("ram", 2), ("disk", 0), ("disk", 2)):
        for one, other in zip(tensors(kind, workers), plain, strict=True):
            assert one["name"] == other["name"]
            assert torch.equal(one["image"], other["image"])


@pytest.mark.slow
def test_trainings_end_in_the_same_weights(quick, tmp_path):
    """The results do not depend on the cache and the number of workers."""

    def weights(name):
        return read_checkpoint(tmp_path / "runs" / name / "split_01" / "last.pt")["model"].values()

    assert train([*quick, "run.name=plain"]) == 0
    plain = weights("plain")
    for kind, workers in (("ram", 0), ("ram", 2), ("disk", 0), ("disk", 2)):
        name = f"{kind}{workers}"
        assert train([*quick, f"run.name={name}", f"dataset.cache={kind}", f"train.workers={workers}"]) == 0
        for one, other in zip(weights(name), plain, strict=True):
            assert torch.equal(one, other)


@pytest.mark.usefixtures("run")
def test_resuming_may_change_the_cache_but_not_the_decoder(quick):
    assert train([*quick, "dataset.cache=disk", "--resume"]) == 0
    with pytest.raises(UserError, match=r"started with other settings: dataset\.0\.decode: exact then, draft now"):
        train([*quick, "dataset.decode=draft", "--resume"])


@pytest.mark.slow
def test_splits_runs_and_evaluations_share_it(quick, tmp_path, monkeypatch):
    """Two runs of two splits and their evaluation decode each image once."""
    (tmp_path / "other.yaml").write_text(f"extends: {ROOT / 'configs' / 'koniq10k.yaml'}\n")
    quick = [*quick, "protocol.splits=2", "train.epochs=1"]
    for kind in ("ram", "disk"):
        monkeypatch.setattr(cache_module, "_RAM", {})
        loaded = count_loads(monkeypatch)
        caching = [*quick, f"dataset.cache={kind}"]
        assert train([*caching, f"run.name={kind}"]) == 0
        assert train([*caching, f"run.name={kind}_again", "seed=1"]) == 0
        arguments = ["--evaluate", str(tmp_path / "runs" / kind), "--config", str(tmp_path / "other.yaml")]
        assert main([*arguments, *caching]) == 0
        assert len(loaded) == len(set(loaded)) == 20


def test_each_of_several_databases_has_its_own(tmp_path):
    members = ", ".join(
        f"{{name: {name}, root: {write_database(name, tmp_path / name).root}, cache: {kind}}}"
        for name, kind in (("koniq10k", "disk"), ("csiq", "ram"), ("bid", "none"))
    )
    (tmp_path / "union.yaml").write_text(f"dataset: [{members}]\ntransform: {{resize: 40, crop: 32}}\n")
    config = load_config(tmp_path / "union.yaml", [f"run.root={tmp_path / 'runs'}"])
    for database in load_databases(config):
        pictures = database.dataset(sorted(database.records), config.transform).open_image
        assert isinstance(pictures, CachedImages) == (database.title != "bid")
        for image in database.records:
            expected = FileImages(database.root).squash(image, SIZE)
            np.testing.assert_array_equal(np.asarray(Squash(SIZE)(pictures(image))), expected)
    assert len(list((tmp_path / "runs" / "cache").glob("koniq10k_40_exact_*.rows"))) == 1


def test_the_folder_can_be_chosen(quick, tmp_path):
    config = load_config(None, [*quick, "dataset.cache=disk", f"dataset.cache_folder={tmp_path / 'elsewhere'}"])
    (database,) = load_databases(config)
    database.dataset(sorted(database.records), config.transform)
    assert len(list((tmp_path / "elsewhere").glob("*.rows"))) == 1
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("splits", "number"),
    [
        (1, signal.SIGINT),
        (1, signal.SIGTERM),
        pytest.param(2, signal.SIGINT, marks=pytest.mark.slow),  # two more processes
        pytest.param(2, signal.SIGTERM, marks=pytest.mark.slow),
    ],
)
def test_an_interruption_while_it_fills_ends_at_once(splits, number, quick, tmp_path, monkeypatch, capfd):
    """Complete images are kept after an interruption, and the run starts where it would have."""
    options = [*quick, "dataset.cache=disk", f"protocol.splits={splits}", f"protocol.parallel_splits={splits}"]
    fill = cache_module.squash_all

    def interrupted_fill(files, images, size, title, keep):
        kept = []

        def keep_some(*picture):
            keep(*picture)
            kept.append(picture)
            if len(kept) == 5:
                signal.raise_signal(number)

        fill(files, images, size, title, keep_some)

    monkeypatch.setattr(cache_module, "CHUNK", 2)
    with monkeypatch.context() as patch:
        patch.setattr(cache_module, "squash_all", interrupted_fill)
        assert train(options) == 130
    assert "interrupted; everything is saved, and --resume continues it" in capfd.readouterr().out
    assert not folder_of(tmp_path).exists()
    (index,) = (tmp_path / "runs" / "cache").glob("*.json")
    assert len(read_object(index)["rows"]) == 4
    assert train(options, "--resume") == 0
    assert len(read_object(index)["rows"]) == 20
