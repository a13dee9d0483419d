"""Networks of the Hugging Face hub, from a stand-in for it: exported, pushed, and loaded by whatever loads a file."""

import json
import os
import subprocess
import sys
from pathlib import Path

import huggingface_hub.constants
import pytest
import torch

from inference import load_predictor
from models.weights import load_pretrained
from scoring.loading import short_hash
from tests.databases import write_database
from tests.hub import Hub
from tests.lite import lite_checkpoint
from tests.running import ROOT, folder_of, run_as_script, train
from tests.scoring.scored import scored
from tools.export import main as export
from utils.errors import UserError

ADDRESS = "hf://owner/name"


def push(hub: Hub, checkpoint: Path, folder: Path, *options: str) -> Path:
    """Export a checkpoint to a folder, push it, and return its file of weights."""
    assert export([str(checkpoint), "--format", "hub", "--output", str(folder), *options]) == 0
    hub.push("owner/name", {path.name: path.read_bytes() for path in folder.iterdir()})
    return folder / "model.safetensors"


@pytest.mark.parametrize("kind", ["cvt", "lite"])
def test_it_scores_to_the_last_bit_as_the_checkpoint(kind, hub, checkpoint, photo, tmp_path):
    source = checkpoint if kind == "cvt" else lite_checkpoint(tmp_path / "lite.pt")
    file = push(hub, source, tmp_path / "folder")
    expected = load_predictor(source, device="cpu")(photo)
    found = load_predictor(ADDRESS, device="cpu")(photo)
    assert (found.mos, found.sos, found.dos) == (expected.mos, expected.sos, expected.dos)
    (before,) = scored(tmp_path / "before.json", photo, "--checkpoint", source)[1]
    (after,) = scored(tmp_path / "after.json", photo, "--checkpoint", ADDRESS)[1]
    assert before.pop("checkpoint") == short_hash(source)
    assert after.pop("checkpoint") == short_hash(file)
    assert before == after


def test_half_precision_is_that_of_the_file(hub, photo, tmp_path):
    file = push(hub, lite_checkpoint(tmp_path / "lite.pt"), tmp_path / "folder", "--half")
    assert load_predictor(ADDRESS, device="cpu")(photo) == load_predictor(file, device="cpu")(photo)


@pytest.mark.slow
def test_a_process_of_its_own(hub, checkpoint, photo, tmp_path):
    """As its user starts it: settings from the environment, the first run with the hub, the second without."""
    push(hub, checkpoint, tmp_path / "folder")
    address = huggingface_hub.constants.ENDPOINT
    environment = {**os.environ, "HF_ENDPOINT": address, "HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "0"}
    command = [sys.executable, str(ROOT / "inference.py"), str(photo), "--checkpoint", f"{ADDRESS}@main"]

    def run(**changes):
        done = {**environment, **changes}
        return subprocess.run([*command, "--format", "jsonl"], env=done, capture_output=True, text=True, check=False)

    first = run()
    assert first.returncode == 0, first.stderr
    second = run(HF_HUB_OFFLINE="1")
    assert second.stdout == first.stdout
    assert json.loads(first.stdout)["checkpoint"] == short_hash(tmp_path / "folder" / "model.safetensors")
    third = run(HF_HUB_OFFLINE="1", HF_HOME=str(tmp_path / "empty"))
    assert (third.returncode, third.stdout) == (2, "")
    assert third.stderr.count("\n") == 1
    assert third.stderr.startswith("error: hf://owner/name@main: HF_HUB_OFFLINE is set, and the cache ")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["inference.py", "--checkpoint", "hf://owner/other"], "error: hf://owner/other: no such repository, or a"),
        (
            ["inference.py", "--checkpoint", "hf://name"],
            "error: 'hf://name' is not an address on the Hugging Face hub;",
        ),
        (["inference.py", "--checkpoint", "hf:/owner/name"], "(did you mean 'hf://owner/name'?)"),
        (["main.py", "--evaluate", f"{ADDRESS}@v2"], "error: hf://owner/name@v2: no revision 'v2'"),
        (["main.py", f"model.pretrained={ADDRESS}@v2", "run.root=runs"], "error: hf://owner/name@v2: no revision 'v2'"),
    ],
)
def test_a_mistake_is_one_line_and_status_2(arguments, message, hub, photo, tmp_path, monkeypatch, capsys):
    hub.push("owner/name", {"README.md": b"nothing"})
    script, *options = arguments
    if script == "main.py":
        options += ["--config", str(ROOT / "configs" / "koniq10k.yaml"), "train.device=cpu", "train.workers=0"]
        options += [f"dataset.root={write_database('koniq10k', tmp_path / 'k').root}", "train.batch_size=4"]
    monkeypatch.chdir(tmp_path)
    assert run_as_script(monkeypatch, script, *options, *([str(photo)] if script == "inference.py" else [])) == 2
    error = capsys.readouterr().err.splitlines()
    assert len(error) == 1
    assert message in error[0]


def test_other_weights_are_refused_as_a_file_is(hub, tmp_path):
    torch.save({"vit.weight": torch.zeros(1)}, tmp_path / "other")
    hub.push("owner/name", {"model.safetensors": (tmp_path / "other").read_bytes()})
    with pytest.raises(UserError, match=r"models--owner--name/snapshots/\S+ contains weights of no known kind"):
        load_predictor(ADDRESS)


def test_an_evaluation_is_named_after_the_repository(hub, run, quick, tmp_path, capsys):
    push(hub, run / "best.pt", tmp_path / "folder")
    for number, place in enumerate((run / "best.pt", ADDRESS)):
        assert train(quick, "--evaluate", str(place), "--output", str(tmp_path / f"out{number}")) == 0
    (before,), (after,) = (list((tmp_path / f"out{number}").rglob("metrics.json")) for number in (0, 1))
    assert after == tmp_path / "out1" / "owner--name" / "koniq10k" / "metrics.json"
    found, expected = json.loads(after.read_text()), json.loads(before.read_text())
    assert found["run"] == "owner--name"
    assert found["part"] == expected["part"]
    assert found["part"].startswith("the 4 test images of the network's own split")
    assert found["databases"] == expected["databases"]
    assert "models--owner--name/snapshots/" in capsys.readouterr().out
    hub.push("owner/name", {"model.safetensors": (run / "best.pt").read_bytes()})
    with pytest.raises(UserError, match=r"contains results of \S+; choose another folder with --output"):
        train(quick, "--evaluate", ADDRESS, "--output", str(tmp_path / "out1"))


def test_fine_tuning_remembers_the_images(hub, run, quick, tmp_path, monkeypatch, capsys):
    """Of the network that was loaded, where the hub has another one by the time they are written down."""
    push(hub, run / "best.pt", tmp_path / "folder")

    def load(*given):
        loaded = load_pretrained(*given)
        hub.push("owner/name", {"model.safetensors": b""})
        return loaded

    monkeypatch.setattr("main.load_pretrained", load)
    options = ("run.name=tuned", "train.epochs=1", f"model.pretrained={ADDRESS}")
    assert train(quick, *options) == 0
    tuned = folder_of(tmp_path).parent.parent / "tuned" / "split_01"
    (seen,) = json.loads((tuned / "split.json").read_text())["seen_before"]["databases"]
    origin = json.loads((run / "split.json").read_text())["databases"]["koniq10k"]
    assert (seen["name"], seen["seen"]) == ("koniq10k", [*origin["train"], *origin["validation"]])
    assert "whole network from " in capsys.readouterr().out
    assert train(quick, *options, "--resume") == 0
