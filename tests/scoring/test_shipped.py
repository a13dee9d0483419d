"""The weights that come with the project: the default of everything that scores, wherever it is started."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors import safe_open

from experiments.schema import SplitContent
from inference import load_predictor, main
from models.weights import load_network
from scoring.command import default_batch
from scoring.loading import SHIPPED_WEIGHTS, short_hash
from tests.lite import lite_checkpoint
from tests.running import ROOT, run_as_script
from tests.scoring.scored import scored
from tools.export import main as export
from utils.errors import MissingFileError

MOST_BYTES = 16_000_000
present = pytest.mark.skipif(not SHIPPED_WEIGHTS.is_file(), reason="the weights are not in this checkout")


@pytest.fixture
def shipped(tmp_path, monkeypatch) -> Path:
    """A stand-in for the shipped file, elsewhere."""
    (tmp_path / "installed").mkdir()
    path = tmp_path / "installed" / SHIPPED_WEIGHTS.name
    assert export([str(lite_checkpoint(tmp_path / "lite.pt")), "--output", str(path), "--half"]) == 0
    monkeypatch.setattr("scoring.loading.SHIPPED_WEIGHTS", path)
    return path


def test_they_are_the_default_whatever_was_trained_here(shipped, checkpoint, photo, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # where `checkpoint` is the newest run
    assert load_predictor().checkpoint == shipped
    status, (row,) = scored(tmp_path / "out.json", photo)
    assert (status, row["checkpoint"], row["scale"]) == (0, short_hash(shipped), "1,5:1,2,3,4,5")
    assert row["mos"] == pytest.approx(load_predictor(shipped)(photo).mos, abs=1e-6)
    _, (row,) = scored(tmp_path / "newest.json", photo, "--checkpoint", "newest")
    assert row["checkpoint"] == short_hash(checkpoint)


def test_only_convolutional_networks_are_scored_in_batches_on_a_cpu(checkpoint, tmp_path):
    lite = load_predictor(lite_checkpoint(tmp_path / "lite.pt"), device="cpu")
    assert [default_batch(predictor) for predictor in (lite, load_predictor(checkpoint, device="cpu"))] == [8, 1]


def test_they_are_found_beside_the_code():
    """Of every name under which the code is imported; an installation is tested in test_package.py."""
    assert ROOT / "checkpoint" / "richiqa_lite.safetensors" == SHIPPED_WEIGHTS
    code = "from importlib import import_module; print(import_module('richiqa.scoring.loading').SHIPPED_WEIGHTS)"
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r}); {code}"],
        cwd="/",
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == str(SHIPPED_WEIGHTS)


@pytest.mark.slow
def test_torch_hub_takes_them(shipped, photo, tmp_path):
    code = f"""
import sys, torch
from importlib import import_module
from pathlib import Path
sys.path.insert(0, {str(ROOT)!r})
import_module("richiqa.scoring.loading").SHIPPED_WEIGHTS = Path({str(shipped)!r})
predictor = torch.hub.load({str(ROOT)!r}, "richiqa", source="local", device="cpu")
print(predictor({str(photo)!r}).mos)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) == pytest.approx(load_predictor(device="cpu")(photo).mos, abs=1e-4)


def test_without_them_one_line_says_what_to_do(photo, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("scoring.loading.SHIPPED_WEIGHTS", tmp_path / "lost.safetensors")
    with pytest.raises(MissingFileError, match=r"lost\.safetensors does not exist; restore the file, or name a check"):
        load_predictor()
    assert run_as_script(monkeypatch, "inference.py", str(photo)) == 2
    output = capsys.readouterr()
    assert (output.out, output.err.count("\n")) == ("", 1)
    assert output.err.startswith("error: the weights that come with this project are missing: ")
    assert output.err.endswith("--checkpoint FILE, or --checkpoint newest for the newest best.pt under checkpoint/\n")


def test_the_options_name_them(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    assert "checkpoint/richiqa_lite.safetensors" in "".join(capsys.readouterr().out.split())


@pytest.mark.skipif(shutil.which("git") is None or not (ROOT / ".git").exists(), reason="no checkout of git")
def test_git_ignores_other_weights():
    names = [f"checkpoint/{name}" for name in (SHIPPED_WEIGHTS.name, "mine.safetensors", "demo/split_01/best.pt")]
    command = ["git", "check-ignore", "--no-index", *names]
    ignored = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ignored.stdout.splitlines() == names[1:]


@present
def test_the_file_is_small_and_tells_what_it_was_trained_on():
    assert SHIPPED_WEIGHTS.stat().st_size <= MOST_BYTES
    network = load_network(SHIPPED_WEIGHTS)
    assert {one.title for one in network.config.dataset} == SplitContent(**network.origin).databases.keys()
    assert (network.config.scale.low, network.config.scale.high) == (1, 5)
    with safe_open(SHIPPED_WEIGHTS, "pt") as file:
        metadata = file.metadata()
    for text in strings(json.loads(metadata["config"])) + strings(json.loads(metadata["split"])):
        assert not text.startswith(("/", "~")), text


def strings(content) -> list[str]:
    """All texts in plain content."""
    if isinstance(content, (dict, list)):
        return [text for item in (content.values() if isinstance(content, dict) else content) for text in strings(item)]
    return [content] if isinstance(content, str) else []
