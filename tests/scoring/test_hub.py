"""The door of torch.hub."""

import subprocess
import sys

import pytest

from inference import load_predictor
from tests.running import ROOT

LOAD = f"import torch; predictor = torch.hub.load({str(ROOT)!r}, 'richiqa', source='local', device='cpu', checkpoint="


@pytest.fixture
def python(tmp_path):
    """Runs code in a process of its own, somewhere else."""
    return lambda code: subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )


def test_hub_gives_the_predictor(checkpoint, photo, python):
    done = python(f"{LOAD}{str(checkpoint)!r}); print(predictor({str(photo)!r}).mos)")
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) == pytest.approx(load_predictor(checkpoint, device="cpu")(photo).mos, abs=1e-4)


def test_twice_and_through_a_link(checkpoint, tmp_path, python):
    (tmp_path / "link").symlink_to(ROOT, target_is_directory=True)
    load = LOAD.replace(str(ROOT), str(tmp_path / "link")) + f"{str(checkpoint)!r})"
    assert python(f"{load}; {load}").returncode == 0


def test_other_packages_of_our_names_are_named(tmp_path, python):
    (tmp_path / "datasets").mkdir()
    (tmp_path / "datasets" / "__init__.py").touch()
    done = python(f"import datasets; {LOAD}'best.pt')")
    assert "RichIQA has packages of the same names: datasets (" in done.stderr
