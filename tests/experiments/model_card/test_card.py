"""The model card of a network that is trained in seconds, from its evaluations on made-up databases."""

import hashlib
import re

import numpy as np
import pytest
import torch
from PIL import Image

from datasets.distortions import DISTORTIONS
from experiments.evaluation.robustness import ALL, DRAWN, NOT_DRAWN
from experiments.model_card import card
from experiments.model_card.card import describe_photographs, recipe_commands, write_card
from experiments.model_card.evaluations import read_evaluations
from experiments.model_card.tables import training_table
from tests.experiments.conftest import results
from tests.running import ROOT
from utils.checkpoint import read_checkpoint
from utils.config import load_config
from utils.errors import UserError

TEMPERATURE = 1.25


@pytest.fixture
def network(run, evaluate, monkeypatch):
    """A checkpoint with a temperature and its evaluations in tmp_path/out."""
    monkeypatch.setattr(card, "TIMED", 3)
    content = torch.load(run / "best.pt", weights_only=True)
    content["config"]["model"]["temperature"] = TEMPERATURE
    torch.save(content, run / "best.pt")
    assert evaluate(run / "best.pt", "clive", "csiq") == 0
    return run / "best.pt"


@pytest.fixture
def photograph(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    return str(tmp_path / "photo.png")


def table_after(text, heading):
    """The cells of the last table of a section."""
    section = text.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    block = re.findall(r"(?:^\|.*\n?)+", section, re.MULTILINE)[-1]
    return [[cell.strip() for cell in line.strip("| \n").split("|")] for line in block.splitlines()]


def test_the_card_says_what_the_files_say(network, photograph, tmp_path):
    metrics, table = results(tmp_path, "clive")
    paths = [photograph, f"{metrics['target']['root']}/{table['image'][0]}"]
    figure = write_card(network, [tmp_path / "out"], paths, tmp_path / "CARD.md", "They are all noise.")
    text = (tmp_path / "CARD.md").read_text(encoding="utf-8")
    assert hashlib.sha256(network.read_bytes()).hexdigest() in text
    weights = read_checkpoint(network)["model"]
    parameters = sum(one.numel() for name, one in weights.items() if "running_" not in name and "num_b" not in name)
    assert f"| parameters | {parameters:,} |" in text
    rows = {row[0]: row for row in table_after(text, "Results")}
    column = rows["metric"].index("clive")
    low, high = metrics["intervals"]["clive"]["srcc"]
    assert rows["SRCC ↑"][column] == f"{metrics['srcc']:.3f} ({low:.3f} to {high:.3f})"
    assert rows["images"][column] == str(len(table))
    kinds = [row[0] for row in table_after(text, "Robustness")[2:]]
    assert kinds == [*(kind.replace("_", " ") for kind in DISTORTIONS), DRAWN, NOT_DRAWN, ALL]
    assert "2 photographs (1 of the evaluated images of clive, 1 from elsewhere)" in text
    errors = (table["pred_mos"] - table["target_mos"]).abs().sort_values(ascending=False)
    worst = [name.rpartition("/")[2] for name in table["image"][errors.index[:6]]]
    assert [row[0][3:] for row in table_after(text, "Failures")[2:]] == worst
    assert f"temperature of {TEMPERATURE:.3f}" in text
    assert [row[1] for row in table_after(text, "Calibration")[2:]] == ["before", "after"] * 2
    assert "They are all noise." in text
    assert "Permission is hereby granted" in text
    assert str(tmp_path) not in text
    with Image.open(figure) as image:
        assert image.format == "PNG"


def test_an_evaluation_of_another_network_is_refused(network, photograph, tmp_path):
    content = torch.load(network, weights_only=True)
    content["config"]["model"]["temperature"] = 20.0
    torch.save(content, tmp_path / "other.pt")
    with pytest.raises(UserError, match=r"other.pt predicts another distribution for .*; evaluate this file"):
        write_card(tmp_path / "other.pt", [tmp_path / "out"], [photograph], tmp_path / "CARD.md")
    with pytest.raises(UserError, match="no evaluation of clive"):
        write_card(network, [tmp_path / "out" / "quick" / "split_01" / "csiq"], [photograph], tmp_path / "CARD.md")
    with pytest.raises(UserError, match=r"a photograph cannot be read: .*nowhere.png"):
        write_card(network, [tmp_path / "out"], [photograph, "nowhere.png"], tmp_path / "CARD.md")
    assert not (tmp_path / "CARD.md").exists()


@pytest.mark.usefixtures("network")
def test_the_photographs_may_be_those_of_an_evaluation(tmp_path):
    evaluations = read_evaluations([tmp_path / "out"])
    clive = next(one for one in evaluations if one.title == "clive")
    paths = [str(clive.root / name) for name in clive.predictions["image"]]
    found = describe_photographs(paths, evaluations, "lite")
    assert found["photographs"] == "12 photographs (12 of the evaluated images of clive)"
    listed = "--list checkpoint/evaluations/lite/clive/predictions.csv --root /path/to/clive"
    assert found["photograph_options"] == listed
    assert describe_photographs(paths[1:], evaluations, "lite")["photograph_options"] == "photographs/"


def test_a_file_without_its_split_leaves_the_parts_open():
    table = training_table(load_config(ROOT / "configs" / "photo.yaml"), None).splitlines()
    assert [line.split(" | ")[:3] for line in table[2:]] == [
        ["| biq2021", "0 to 1, higher is better", "–"],
        ["| clive", "0 to 100, higher is better", "–"],
    ]


def test_the_commands_are_those_of_the_recipe():
    commands = recipe_commands(ROOT / "configs" / "photo.yaml")
    assert [command.split()[1] for command in commands] == ["main.py", "tools/export.py"]
    assert all(command in (ROOT / "configs" / "photo.yaml").read_text() for command in commands)
