"""tools/robustness.py as its user runs it."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from datasets.distortions import DISTORTIONS
from models import build_model
from scoring.loading import load_predictor
from tests.running import run_as_script
from tools.robustness import main
from utils.checkpoint import save_checkpoint
from utils.config import load_config

SMALL = ["model.backbone=cvt_nano", "transform.resize=40", "transform.crop=32"]


@pytest.fixture
def place(tmp_path):
    """A folder with a checkpoint of a small random network, and two photographs."""
    torch.manual_seed(0)
    config = load_config(overrides=SMALL)
    plain = config.model_dump(mode="json")
    content = {"model": build_model(config.model).state_dict(), "config": plain, "scale": plain["scale"]}
    save_checkpoint(tmp_path / "best.pt", content)
    (tmp_path / "photos").mkdir()
    for seed, name in enumerate(("a.png", "b.png")):
        pixels = np.random.default_rng(seed).integers(0, 256, (40, 60, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "photos" / name)
    return tmp_path


def test_the_table_and_the_rows(place, capsys):
    given = ["--checkpoint", str(place / "best.pt"), "--device", "cpu", str(place / "photos")]
    for name in ("rows.csv", "rows.json", "table.md"):
        assert main([*given, "--output", str(place / name)]) == 0
    table = capsys.readouterr().out.strip().splitlines()
    assert (place / "table.md").read_text().splitlines() == table[-len(DISTORTIONS) - 5 :]
    rows = pd.read_csv(place / "rows.csv")
    assert list(rows["kind"]) == [*DISTORTIONS] * 2
    assert rows["srcc"].between(-1, 1).all()
    assert json.loads((place / "rows.json").read_text())[0]["mos_5"] == pytest.approx(rows["mos_5"][0])


def test_photographs_are_preprocessed_as_asked(place):
    given = ["--checkpoint", str(place / "best.pt"), "--device", "cpu", str(place / "photos" / "a.png")]
    assert main([*given, "--preprocess", "full", "--output", str(place / "rows.csv")]) == 0
    full, release = (
        load_predictor(place / "best.pt", "cpu", preprocess=name)(place / "photos" / "a.png").mos
        for name in ("full", "release")
    )
    assert pd.read_csv(place / "rows.csv")["mos_0"].unique() == pytest.approx(full, abs=1e-6)
    assert full != pytest.approx(release, abs=1e-6)


def test_a_list_and_a_broken_photograph(place, capsys):
    (place / "broken.png").write_text("")
    (place / "names.csv").write_text("image,mos\nphotos/a.png,1\nbroken.png,2\n")
    given = ["--checkpoint", str(place / "best.pt"), "--list", str(place / "names.csv"), "--root", str(place)]
    assert main(given) == 3
    printed = capsys.readouterr()
    assert "left out: " in printed.err
    assert "broken.png" in printed.err
    assert printed.out.count("\n") == len(DISTORTIONS) + 5


def test_mistakes_are_one_line_and_status_2(place, monkeypatch, capsys):
    script, checkpoint = "tools/robustness.py", ["--checkpoint", str(place / "best.pt")]
    assert run_as_script(monkeypatch, script, *checkpoint) == 2
    assert "name photographs, folders, patterns or a --list" in capsys.readouterr().err
    assert run_as_script(monkeypatch, script, *checkpoint, "photo.png", "--output", "table.docx") == 2
    assert "--output: table.docx should end with .md, .csv, .json" in capsys.readouterr().err
    assert run_as_script(monkeypatch, script, *checkpoint, str(place / "photos"), "--batch-size", "0") == 2
    assert "batch_size and workers are 1 or more, got 0" in capsys.readouterr().err
