"""The folder for the Hugging Face hub: weights, config, and a card that says what is known and nothing else."""

import hashlib
import json
import re

import pytest
import torch
import yaml
from huggingface_hub import ModelCard
from PIL import Image

from tests.experiments.conftest import results
from tests.lite import DATABASES, lite_checkpoint
from tests.written import LABELS, metrics_content, split_content
from tools.export import main
from utils.checkpoint import read_tensors
from utils.files import to_json, write_text


def exported(checkpoint, *options):
    """The folder of an export, and its card."""
    folder = checkpoint.parent / "hub" / "my-model"
    assert main([str(checkpoint), "--format", "hub", "--output", str(folder), "--overwrite", *map(str, options)]) == 0
    return folder, (folder / "README.md").read_text(encoding="utf-8")


def cells(card, heading, title):
    """The column of a database in the table of a section, by metric."""
    section = card.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    rows = [[cell.strip() for cell in line.strip("| ").split("|")] for line in re.findall(r"^\|.*$", section, re.M)]
    return {row[0]: row[rows[0].index(title)] for row in rows[2:]}


def test_the_folder_has_what_the_hub_reads(tmp_path, capsys):
    checkpoint = lite_checkpoint(tmp_path / "best.pt")
    folder, card = exported(checkpoint)
    assert sorted(path.name for path in folder.iterdir()) == ["README.md", "config.json", "model.safetensors"]
    data = yaml.safe_load(card.split("---\n")[1])
    assert data == {
        **{"license": "mit", "library_name": "richiqa", "pipeline_tag": "image-classification"},
        "tags": ["image-quality-assessment", "no-reference-iqa", "opinion-scores"],
    }
    content = json.loads((folder / "config.json").read_text())
    expected = read_tensors(folder / "model.safetensors")
    assert content == {name: expected[name] for name in ("format", "version", "config", "scale")}
    weights = (folder / "model.safetensors").read_bytes()
    assert f"`{hashlib.sha256(weights).hexdigest()}`" in card
    assert "# my-model\n\nmy-model predicts how people would rate an image" in card
    assert "No metrics were known when this card was written." in card
    assert "\n## Notice of CLIVE\n" in card
    printed = capsys.readouterr().out
    assert f"written to {folder}: model.safetensors, config.json, README.md; safetensors" in printed
    assert "results in the card: none; --evaluations adds those of main.py --evaluate" in printed
    assert f"`hf upload owner/name {folder}` publishes it" in printed


def test_half_is_half_the_size(tmp_path):
    """And what `--format safetensors --half` writes."""
    checkpoint = lite_checkpoint(tmp_path / "best.pt")
    full = (exported(checkpoint)[0] / "model.safetensors").stat().st_size
    half = exported(checkpoint, "--half")[0] / "model.safetensors"
    assert main([str(checkpoint), "--format", "safetensors", "--half"]) == 0
    assert half.read_bytes() == (tmp_path / "best.safetensors").read_bytes()
    assert half.stat().st_size < 0.75 * full


@pytest.mark.parametrize(("epoch", "name"), [(1, "best.pt"), (2, "best.pt"), (1, "last.pt")])
def test_the_metrics_are_those_of_the_epoch(epoch, name, tmp_path):
    """Of a training of two epochs; the intervals of metrics.json are those of the second."""
    checkpoint = lite_checkpoint(tmp_path / name)
    last = {title: {"srcc": 0.7 + place / 10, "plcc": 0.5, "rmse": 9.876} for place, title in enumerate(DATABASES)}
    best = {title: {"srcc": 0.9, "plcc": 0.6 + place / 10, "rmse": None} for place, title in enumerate(DATABASES)}
    content = metrics_content(last, intervals={"srcc": [0.25, 0.75]})
    selected = last if epoch == 2 else best
    content |= {"epoch": 2, "selected_epoch": epoch, "selected": metrics_content(selected)["selected"]}
    write_text(tmp_path / "metrics.json", to_json(content))
    folder, card = exported(checkpoint)
    expected, interval = (last, " (0.250 to 0.750)") if name == "last.pt" or epoch == 2 else (best, "")
    for title in DATABASES:
        found = cells(card, "Results", title)
        assert found["images"] == "1"
        assert found["SRCC ↑"] == f"{expected[title]['srcc']:.3f}{interval}"
        assert found["PLCC ↑"] == f"{expected[title]['plcc']:.3f}"
        assert found["RMSE ↓"] == ("–" if expected is best else "9.876" if title == "biq2021" else "9.88")
        assert f"* **{title}**: the 1 test images of the network's own split.\n" in card
    assert ("95 % intervals" in card) == bool(interval)
    data = ModelCard(card).data
    found = {(one.dataset_name, one.metric_type): one.metric_value for one in data.eval_results}
    metrics = {"spearmanr": "srcc", "pearsonr": "plcc"}
    assert found == {(title, theirs): expected[title][ours] for title in DATABASES for theirs, ours in metrics.items()}
    assert data.model_name == "my-model"
    assert data.metrics == ["spearmanr", "pearsonr"]
    assert "model-index" in yaml.safe_load(card.split("---\n")[1])
    assert folder.is_dir()


def test_metrics_that_chose_the_epoch_are_optimistic(tmp_path):
    for name, optimistic in (("best.pt", True), ("last.pt", False)):
        checkpoint = lite_checkpoint(tmp_path / name)
        content = metrics_content({title: {"srcc": 0.5} for title in DATABASES})
        write_text(tmp_path / "metrics.json", to_json({**content, "selection": "release"}))
        assert ("epoch selected on these test images: optimistic" in exported(checkpoint)[1]) == optimistic


def test_a_trained_run_and_its_evaluations(run, evaluate, tmp_path, capsys):
    """With the machine's folders nowhere."""
    metrics = json.loads((run / "metrics.json").read_text())
    _, card = exported(run / "best.pt")
    assert cells(card, "Results", "koniq10k")["SRCC ↑"].startswith(f"{metrics['selected']['srcc']:.3f}")
    assert evaluate(run / "best.pt", "clive", "csiq") == 0
    capsys.readouterr()
    folder, card = exported(run / "best.pt", "--evaluations", tmp_path / "out", "--half")
    assert "results in the card: clive, csiq" in capsys.readouterr().out
    for title in ("clive", "csiq"):
        found, (measured, table) = cells(card, "Results", title), results(tmp_path, title)
        low, high = measured["intervals"][title]["srcc"]
        assert found["SRCC ↑"] == f"{measured['srcc']:.3f} ({low:.3f} to {high:.3f})"
        assert found["images"] == str(len(table))
        assert f"* **{title}**: {measured['part']}; the network was not trained on this database.\n" in card
    origin = json.loads((run / "split.json").read_text())["databases"]["koniq10k"]
    assert cells(card, "Training data", "training images") == {"koniq10k": str(len(origin["train"]))}
    assert "**koniq10k**: see the page of its authors for its terms." in card
    assert "Notice of CLIVE" not in card
    for path in folder.iterdir():
        assert str(tmp_path).encode() not in path.read_bytes()


def test_an_evaluation_of_another_network_is_refused(run, evaluate, tmp_path):
    assert evaluate(run / "best.pt", "clive") == 0
    content = torch.load(run / "best.pt", weights_only=True)
    content["config"]["model"]["temperature"] = 20.0
    torch.save(content, tmp_path / "other.pt")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ValueError, match=r"other\.pt predicts another distribution for .*; evaluate this file"):
        exported(tmp_path / "other.pt", "--evaluations", tmp_path / "out")
    assert sorted(path for path in tmp_path.rglob("*") if path.name != "hub") == before


def test_what_a_checkpoint_does_not_know_is_left_out(tmp_path):
    """One of the release, whose scale alone is stated."""
    checkpoint = lite_checkpoint(tmp_path / "best.pt", {})
    _, card = exported(checkpoint)
    assert "The checkpoint does not record the images that the network was trained on." in card
    for word in ("biq2021", "CLIVE", "Initial weights", "training images |"):
        assert word not in card


def test_the_weights_it_was_fine_tuned_from_are_its_base_model(tmp_path):
    checkpoint = lite_checkpoint(tmp_path / "best.pt", pretrained="hf://owner/name@v1")
    assert ModelCard(exported(checkpoint)[1]).data.base_model == "owner/name"


def test_sources_of_ratings_without_an_author(tmp_path):
    split = split_content(("mine", "demo"), LABELS)
    checkpoint = lite_checkpoint(tmp_path / "best.pt")
    content = torch.load(checkpoint, weights_only=True)
    scale = {"low": 1, "high": 5, "bin_centers": [1, 2, 3, 4, 5]}
    content["config"]["dataset"] = [
        {"name": "csv", "title": "mine", "sos_a": 0.1, "scale": scale},
        {"name": "demo", "title": "demo", "sos_a": 0.1, "scale": scale},
    ]
    torch.save({**content, "split": split}, checkpoint)
    _, card = exported(checkpoint)
    assert "**mine**: images and ratings in a CSV file; ask its authors for its terms." in card
    assert "**demo**: images that this project generates, with made-up ratings." in card


def test_the_code_of_the_card_runs(tmp_path, hub, monkeypatch, capsys):
    folder, card = exported(lite_checkpoint(tmp_path / "best.pt"))
    hub.push("owner/name", {path.name: path.read_bytes() for path in folder.iterdir()})
    Image.new("RGB", (90, 70), "teal").save(tmp_path / "photo.jpg")
    monkeypatch.chdir(tmp_path)
    capsys.readouterr()
    (code,) = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    assert len([line for line in code.splitlines() if line]) == 3
    exec(code, {})
    assert 1 < float(capsys.readouterr().out) < 5
