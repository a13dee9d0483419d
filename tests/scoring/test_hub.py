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


@pytest.mark.slow
def test_twice_and_through_a_link(checkpoint, tmp_path, python):
    (tmp_path / "link").symlink_to(ROOT, target_is_directory=True)
    load = LOAD.replace(str(ROOT), str(tmp_path / "link")) + f"{str(checkpoint)!r})"
    assert python(f"{load}; {load}").returncode == 0


@pytest.mark.parametrize("before", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_names_such_as_utils_stay_free(checkpoint, photo, tmp_path, python, before):
    """Whether a program imports its own `utils` before or after the predictor, each has its own."""
    for name in ("datasets", "utils"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(f"theirs = {name!r}")
    load, own = f"{LOAD}{str(checkpoint)!r})", "import datasets, utils; assert (datasets.theirs, utils.theirs)"
    steps = [own, load] if before else [load, own]
    done = python(f"{'; '.join(steps)}; print(predictor({str(photo)!r}).mos)")
    assert done.returncode == 0, done.stderr
