"""Which images a network has seen: its own, those of its ancestors, and which databases are the same."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from datasets.database import load_databases
from datasets.splits import Split, read_split
from experiments.evaluation.provenance import TrainingHistory, is_same_database
from experiments.evaluation.test_images import Target, choose_images
from models.weights import TrainedNetwork, load_network
from tests.running import folder_of, train
from tests.written import LABELS, database_split, split_content
from utils.checkpoint import read_checkpoint, save_checkpoint
from utils.config import config_from_dict, load_config
from utils.errors import UserError
from utils.schema import VERSION
from utils.settings import Config

NAMES = tuple(f"{number}.png" for number in range(10))


def write_csv(root: Path, names=NAMES, seed=0) -> Path:
    """A database of one's own; its labels depend on the seed."""
    root.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    pd.DataFrame({"image": names, "mos": rng.uniform(1.5, 4.5, len(names)).round(3), "sos": 0.6}).to_csv(
        root / "labels.csv", index=False
    )
    for name in names:
        Image.new("RGB", (40, 40)).save(root / name)
    return root


def csv_config(*roots: Path, **keys):
    """A config of CSVs; of more than one, by the titles that their folders have."""
    scale = {"low": 1, "high": 5, "bin_centers": [1, 2, 3, 4, 5]}
    titles = {root: {"title": root.name} if len(roots) > 1 else {} for root in roots}
    datasets = [{"name": "csv", "root": str(root), "scale": scale, **titles[root], **keys} for root in roots]
    return config_from_dict({"dataset": datasets, "scale": scale}, "the test")


def split_of(train: int, names=NAMES) -> Split:
    return Split(tuple(names[:train]), (), tuple(names[train:]))


def network_of(config, splits, chosen_epoch=True, **beside) -> TrainedNetwork:
    """What a checkpoint says of its training, without the network."""
    origins = {
        database.title: {**split.as_dict(), "labels": {**LABELS, "hash": database.hash, "mos_hash": database.mos_hash}}
        for database, split in zip(load_databases(config), splits, strict=True)
    }
    origin = {"version": VERSION, "databases": origins, **beside}
    return TrainedNetwork(None, config, True, origin, chosen_epoch, Path("best.pt"))


def target_of(config, test=None) -> Target:
    (database,) = load_databases(config)
    return Target(config.dataset[0].name, database, config, test)


def test_an_unrelated_csv_with_the_same_file_names_is_foreign(tmp_path):
    here = csv_config(write_csv(tmp_path / "here"))
    network = network_of(here, [split_of(7)])
    choice = choose_images(network, target_of(here), "auto")
    assert (choice.names, choice.own, choice.notes) == (NAMES[7:], True, [])
    other = choose_images(network, target_of(csv_config(write_csv(tmp_path / "there", seed=1))), "auto")
    assert (other.names, other.own, other.trained_on) == (NAMES, False, 0)
    (note,) = other.notes
    assert (
        "10 of its image names are those of the training's csv, with different labels: assumed to be different images"
        in note
    )
    strangers = write_csv(tmp_path / "strangers", names=["a.png", "b.png"])
    assert choose_images(network, target_of(csv_config(strangers)), "auto").notes == []


def test_the_same_csv_is_known_by_its_labels_its_folder_or_its_title(tmp_path):
    root = write_csv(tmp_path / "here")
    network = network_of(csv_config(root), [split_of(7)])
    for config in (csv_config(write_csv(tmp_path / "copy")), csv_config(root, dos="max_entropy")):
        choice = choose_images(network, target_of(config), "auto")
        assert (choice.names, choice.notes) == (NAMES[7:], [])
    table = pd.read_csv(root / "labels.csv")
    table.assign(mos=table["mos"] + 0.1).to_csv(root / "labels.csv", index=False)
    choice = choose_images(network, target_of(csv_config(root)), "auto")
    assert choice.names == NAMES[7:]
    assert "since the folder is the same" in choice.notes[0]
    (one,) = TrainingHistory.from_checkpoint(network.path, network.config, network.origin).own
    database = target_of(csv_config(write_csv(tmp_path / "grown", seed=3))).database
    assert is_same_database(one.model_copy(update={"title": "mine"}), "csv", replace(database, title="mine"))[0]


def test_a_title_says_that_a_database_is_the_same(tmp_path):
    """Of a single database, too: grown and moved, it is known again."""
    config = csv_config(write_csv(tmp_path / "old"), title="mine")
    network = network_of(config, [split_of(7)])
    for title, own in (("mine", True), ("another", False)):
        target = target_of(csv_config(write_csv(tmp_path / title, seed=3), title=title))
        assert target.database.title == title
        choice = choose_images(network, target, "auto")
        assert (choice.own, len(choice.names)) == (own, 3 if own else 10)
        assert ("the title is the same" in choice.notes[0]) == own


def test_databases_with_the_same_name_score_each_untrained_image_once(tmp_path):
    """The last three images are the test part of one member, one of them is in the training part of the other."""
    one, two = write_csv(tmp_path / "one"), write_csv(tmp_path / "two")
    network = network_of(csv_config(one, two), [split_of(7), Split(NAMES[:6] + NAMES[9:], (), NAMES[6:9])])
    choice = choose_images(network, target_of(csv_config(one)), "auto")
    assert choice.names == NAMES[7:9]
    every = choose_images(network, target_of(csv_config(one)), "all")
    assert (every.names, every.trained_on) == (NAMES, 8)


def test_test_images_that_an_ancestor_was_trained_on_are_not_scored(tmp_path):
    config = csv_config(write_csv(tmp_path / "data"))
    ancestor = network_of(config, [split_of(5)])
    before = TrainingHistory.from_checkpoint(ancestor.path, ancestor.config, ancestor.origin).for_descendant()
    reverse = Split(NAMES[6:], (), NAMES[:6])
    child = network_of(config, [reverse], seen_before=json.loads(json.dumps(before)))
    assert choose_images(child, target_of(config), "auto").names == NAMES[5:6]
    grandchild = network_of(
        csv_config(write_csv(tmp_path / "other", seed=5)),
        [split_of(7)],
        seen_before=TrainingHistory.from_checkpoint(child.path, child.config, child.origin).for_descendant(),
    )
    choice = choose_images(grandchild, target_of(config), "auto")
    assert choice.names == NAMES[5:6]
    assert choice.own
    assert "1 images that its ancestors were not trained on" in choice.part
    whole = network_of(config, [Split(NAMES[5:], (), NAMES[:5])], seen_before=before)
    with pytest.raises(UserError, match=r"trained on all images; use --part all"):
        choose_images(whole, target_of(config), "auto")


def test_an_epoch_chosen_on_its_test_images_is_optimistic(tmp_path):
    config = csv_config(write_csv(tmp_path / "data"))
    foreign = target_of(csv_config(write_csv(tmp_path / "other", seed=1)))
    chosen, last = (network_of(config, [split_of(7)], chosen_epoch) for chosen_epoch in (True, False))
    choice = choose_images(chosen, target_of(config), "auto")
    assert choice.as_dict()["optimistic"] is True
    assert choice.part.endswith("own split, epoch selected on these test images: optimistic")
    for other in (choose_images(last, target_of(config), "auto"), choose_images(chosen, foreign, "auto")):
        assert not other.optimistic
        assert "optimistic" not in other.part
    protocol = config.protocol.model_copy(update={"selection": "last"})
    honest = replace(chosen, config=config.model_copy(update={"protocol": protocol}))
    assert not choose_images(honest, target_of(config), "auto").optimistic


def test_a_checkpoint_without_a_split_does_not_know_its_images(tmp_path):
    config = csv_config(write_csv(tmp_path / "data"))
    network = replace(network_of(config, [split_of(7)]), origin=None)
    choice = choose_images(network, target_of(config), "auto")
    assert choice.part == "all 10 images, training images unknown"
    assert choice.as_dict()["training_images"] == "unknown"
    choice = choose_images(network, target_of(config, split_of(4)), "test")
    assert choice.part == "the 6 test images of the config's split, training images unknown"


def test_fine_tuning_remembers_and_warns(quick, tmp_path, capsys):
    """Over two generations, through the files; a resumed run needs no ancestor for it."""
    train(quick, "train.epochs=1", "run.name=first", "protocol.split_seed=1")
    first = tmp_path / "runs" / "first" / "split_01"
    assert "warning" not in capsys.readouterr().err
    train(quick, "train.epochs=1", f"model.pretrained={first / 'best.pt'}")
    whole = json.loads((folder_of(tmp_path) / "split.json").read_text())
    split, ancestor = database_split(folder_of(tmp_path)), database_split(first)
    (seen,) = whole["seen_before"]["databases"]
    assert seen["seen"] == ancestor["train"]
    assert read_checkpoint(folder_of(tmp_path) / "best.pt")["split"] == whole
    both = set(ancestor["train"]) & set(split["test"])
    assert both
    error = capsys.readouterr().err
    assert f"best.pt was trained on {len(both)} of the {len(split['test'])} test images of this split" in error
    third = [f"model.pretrained={folder_of(tmp_path) / 'best.pt'}", "run.name=third", "train.epochs=1"]
    train(quick, *third)
    of_third = tmp_path / "runs" / "third" / "split_01"
    before = json.loads((of_third / "split.json").read_text())["seen_before"]
    assert [one["seen"] for one in before["databases"]] == [split["train"], ancestor["train"]]
    (database,) = load_databases(load_config(of_third / "config.yaml"))
    records = list(database.records.values())
    assert read_split(records, of_third / "split.json", title="koniq10k").test == tuple(sorted(split["test"]))
    (of_third / "metrics.json").unlink()
    (folder_of(tmp_path) / "best.pt").unlink()
    assert train(quick, *third, "--resume") == 0


def test_weights_of_a_network_that_does_not_tell_are_warned_of(quick, run, tmp_path, capsys):
    content = read_checkpoint(run / "best.pt")
    save_checkpoint(tmp_path / "untold.pt", {key: content[key] for key in ("model", "config", "scale", "epoch")})
    train(quick, "train.epochs=1", "run.name=child", f"model.pretrained={tmp_path / 'untold.pt'}")
    assert "untold.pt are unknown" in capsys.readouterr().err


def test_a_split_in_another_form_is_one_line(run):
    content = read_checkpoint(run / "best.pt")
    content["split"]["databases"]["koniq10k"]["train"] = 1
    torch.save(content, run / "best.pt")
    network = load_network(run / "best.pt")  # scoring does not need the split
    with pytest.raises(UserError, match=r"best\.pt: databases\.koniq10k\.train: .*got 1; restore the file"):
        TrainingHistory.from_checkpoint(network.path, network.config, network.origin)


def test_a_split_of_another_database_than_that_of_the_config(tmp_path):
    with pytest.raises(UserError, match=r"a\.pt: its split is of other, but its config of koniq10k"):
        TrainingHistory.from_checkpoint(tmp_path / "a.pt", Config(), split_content(["other"]))
