"""The demo database is deterministic, has the official format, and its distortions match its labels."""

import hashlib

import numpy as np
import pytest
from PIL import Image

from datasets import demo
from datasets.demo import scene_name, simulate_votes, votes_table, write_demo
from datasets.readers import read_records
from datasets.readers.demo import DEMO
from utils.errors import MachineError, UserError


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("demo") / "database"
    write_demo(root, seed=0, scenes=3)
    return root


def digest(root):
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return [(path.name, hashlib.sha256(path.read_bytes()).hexdigest()) for path in files]


def test_same_seed_same_files(root, tmp_path):
    write_demo(tmp_path / "again", seed=0, scenes=3)
    write_demo(tmp_path / "other", seed=1, scenes=3)
    assert digest(tmp_path / "again") == digest(root)
    assert digest(tmp_path / "other")[5] != digest(root)[5]


def test_it_is_read_as_koniq10k(root):
    ratings = DEMO.read(root)
    assert len(ratings) == 3 * 21
    assert all((root / rating.image).is_file() for rating in ratings)
    records = read_records("demo", root)
    assert {record.reference for record in records} == {"scene_00", "scene_01", "scene_02"}
    assert sum(records[0].dos) == pytest.approx(1)


def test_worse_levels_have_worse_scores(root):
    mos = {record.image: record.mos for record in read_records("demo", root)}
    for scene in ("scene_00", "scene_02"):
        for family in demo.DISTORTIONS:
            levels = [mos[f"images/{scene}_{family}_{level}.png"] for level in range(1, 6)]
            assert levels == sorted(levels, reverse=True)
            assert mos[f"images/{scene}_clean.png"] > levels[0]


def test_worse_levels_are_further_from_the_clean_scene(root):
    def pixels(name):
        return np.asarray(Image.open(root / "images" / name), dtype=float)

    clean = pixels("scene_01_clean.png")
    for family in demo.DISTORTIONS:
        errors = [np.abs(pixels(f"scene_01_{family}_{level}.png") - clean).mean() for level in range(1, 6)]
        assert errors == sorted(errors)
        assert errors[0] > 1


def test_scenes_are_nearly_grey_and_full_of_contrast(root):
    scene = np.asarray(Image.open(root / "images" / "scene_00_clean.png"), dtype=float)
    assert np.abs(scene - scene.mean(2, keepdims=True)).mean() < 15
    assert scene.mean(2).std() > 30


def test_votes_add_up():
    votes = simulate_votes(np.linspace(1, 5, 30), np.random.default_rng(0))
    table = votes_table([f"{index}.png" for index in range(30)], votes)
    counts = table[["c1", "c2", "c3", "c4", "c5"]].to_numpy()
    assert (counts.sum(1) == demo.VOTERS).all()
    np.testing.assert_allclose(counts @ np.arange(1, 6) / demo.VOTERS, table["MOS"])
    np.testing.assert_allclose(votes.std(1, ddof=1), table["SD"], atol=1e-8)
    assert table["MOS_zscore"].between(0, 100).all()
    assert np.corrcoef(table["MOS"], table["MOS_zscore"])[0, 1] > 0.99


def test_nothing_half_written_is_left(tmp_path, monkeypatch):
    monkeypatch.setattr(demo, "votes_table", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write_demo(tmp_path / "database", scenes=1)
    assert list(tmp_path.iterdir()) == []


def test_an_empty_folder_is_filled_and_another_one_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.readers.demo.write_demo", lambda root: write_demo(root, scenes=1))
    (tmp_path / "empty").mkdir()
    assert len(read_records("demo", tmp_path / "empty")) == 21
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "letter.txt").write_text("mine")
    with pytest.raises(UserError, match="give a folder that does not exist yet"):
        read_records("demo", tmp_path / "other")
    assert (tmp_path / "other" / "letter.txt").read_text() == "mine"


def test_a_full_disk_is_named_and_not_the_folder(tmp_path, monkeypatch):
    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("datasets.readers.demo.write_demo", full)
    with pytest.raises(
        MachineError, match=r"dataset\.root: .*new cannot be written: No space left .*; free some space"
    ):
        read_records("demo", tmp_path / "new")


def test_scene_of():
    assert scene_name("images/scene_07_blur_3.png") == scene_name("images/scene_07_clean.png") == "scene_07"
