"""A network exported to safetensors is evaluated and fine-tuned like the checkpoint that it was exported from."""

import json

import pandas as pd
import pytest

from experiments.evaluation.provenance import TrainingHistory
from main import main
from models.weights import load_network
from tests.experiments.conftest import SMALL
from tests.lite import DATABASES, lite_checkpoint
from tests.running import ROOT, folder_of, train
from tests.written import database_split, split_content
from tools.export import main as export


def evaluated(path, quick, folder, *options) -> dict:
    """metrics.json of a checkpoint on the database that it was trained on."""
    config = ["--config", str(ROOT / "configs" / "koniq10k.yaml")]
    overrides = [text for text in quick if text.startswith("dataset.")]
    output = folder / f"of {path.name}"
    assert main(["--evaluate", str(path), *config, *overrides, *SMALL, "--output", str(output), *options]) == 0
    (found,) = output.rglob("metrics.json")
    return json.loads(found.read_text())


@pytest.mark.parametrize("options", [[], ["--half"]])
@pytest.mark.parametrize("part", ["auto", "all"])
def test_the_same_images_are_scored(run, quick, tmp_path, part, options):
    exported = tmp_path / "lite.safetensors"
    assert export([str(run / "best.pt"), "--output", str(exported), *options]) == 0
    expected, found = (evaluated(path, quick, tmp_path, "--part", part) for path in (run / "best.pt", exported))
    assert (found["own"], found["optimistic"], found["training_images"]) == (True, True, "known")
    assert found["trained_on"] == {"auto": 0, "all": 16}[part]
    assert (found["run"], found["finished"]) == ("lite", True)
    facts = ("images", "part", "own", "trained_on", "training_images", "optimistic", "notes")
    assert {name: found[name] for name in facts} == {name: expected[name] for name in facts}
    assert found["srcc"] == pytest.approx(expected["srcc"], abs=1e-9 if not options else 0.01)


def test_a_last_epoch_stays_one(run, quick, tmp_path):
    """Also exported again: only an epoch that was selected on its test images is optimistic."""
    once, twice = tmp_path / "once.safetensors", tmp_path / "twice.safetensors"
    assert export([str(run / "last.pt"), "--output", str(once)]) == 0
    assert export([str(once), "--output", str(twice), "--half"]) == 0
    assert not evaluated(twice, quick, tmp_path)["optimistic"]


def test_both_databases_are_known(tmp_path):
    """Of a network that was trained on two, with an ancestor."""
    ancestor = {"name": "koniq10k", "title": "k", "root": "data/k", "labels": "l", "mos_hash": "m", "seen": ["z"]}
    before = {"known": True, "databases": [{**ancestor, "test": []}]}
    best = lite_checkpoint(tmp_path / "best.pt", {**split_content(DATABASES), "seen_before": before})
    assert export([str(best), "--format", "safetensors", "--half"]) == 0
    network = load_network(tmp_path / "best.safetensors")
    history = TrainingHistory.from_checkpoint(network.path, network.config, network.origin)
    assert [(one.name, one.seen, one.test) for one in history.own] == [
        (name, tuple("abcd"), ("e",)) for name in DATABASES
    ]
    assert [(one.name, one.seen) for one in history.before] == [("koniq10k", ("z",))]
    assert history.known


def test_names_that_are_not_utf8_survive(tmp_path):
    """A file name of bytes, as Linux allows."""
    best = lite_checkpoint(tmp_path / "best.pt", split_content(DATABASES, train=["a\udcff.png", "ä.png"]))
    assert export([str(best), "--format", "safetensors"]) == 0
    split = load_network(tmp_path / "best.safetensors").origin
    assert split["databases"]["clive"]["train"] == ["a\udcff.png", "ä.png"]


def test_fine_tuning_remembers_and_warns(run, quick, tmp_path, capsys):
    exported = tmp_path / "lite.safetensors"
    assert export([str(run / "best.pt"), "--output", str(exported), "--half"]) == 0
    more = ("run.name=tuned", "train.epochs=1", "protocol.split_seed=1", f"model.pretrained={exported}")
    assert train(quick, *more) == 0
    tuned, split = tmp_path / "runs" / "tuned" / "split_01", database_split(run)
    (seen,) = json.loads((tuned / "split.json").read_text())["seen_before"]["databases"]
    assert (seen["name"], seen["seen"]) == ("koniq10k", split["train"])
    both = set(split["train"]) & set(database_split(tuned)["test"])
    printed = capsys.readouterr()
    assert f"whole network from {exported}" in printed.out
    assert f"lite.safetensors was trained on {len(both)} of the 4 test images of this split" in printed.err


@pytest.mark.slow
def test_the_backbone_of_the_shipped_kind_is_fine_tuned(quick, tmp_path, capsys):
    """With timm's own network; evaluation and scoring use ours, which predicts the same."""
    best = lite_checkpoint(tmp_path / "best.pt")
    assert export([str(best), "--format", "safetensors", "--half"]) == 0
    exported = tmp_path / "best.safetensors"
    more = ("model.backbone=timm:tf_efficientnet_lite0", "transform.crop=40", f"model.pretrained={exported}")
    assert train(quick, *more, "train.epochs=1") == 0
    assert f"whole network from {exported}" in capsys.readouterr().out
    trained = pd.read_csv(folder_of(tmp_path) / "predictions.csv")
    evaluated(folder_of(tmp_path) / "last.pt", quick, tmp_path)
    (table,) = (tmp_path / "of last.pt").rglob("predictions.csv")
    pd.testing.assert_frame_equal(pd.read_csv(table), trained, atol=1e-6)
    assert train(quick, *more, "train.epochs=1", "run.name=b", "model.pretrained_part=backbone") == 0
    assert f"backbone from {exported}" in capsys.readouterr().out
