"""What a user reads whose installation is not sound."""

import subprocess
import sys
from pathlib import Path

import pytest

from utils.installation import MODULES, WHERE_NEEDED

ROOT = Path(__file__).parents[2]
MISSING = """
import importlib.util
find_spec = importlib.util.find_spec
importlib.util.find_spec = lambda name: None if name == "tqdm" else find_spec(name)
"""
MISMATCHED = """
import sys
class Broken:
    def find_spec(self, name, path=None, target=None):
        return importlib.util.spec_from_loader(name, self) if name == "torchvision" else None
    def create_module(self, spec):
        return None
    def exec_module(self, module):
        raise RuntimeError("operator torchvision::nms does not exist")
import importlib.util
sys.meta_path.insert(0, Broken())
"""


@pytest.mark.parametrize(
    ("sabotage", "code", "message"),
    [
        (MISSING, "import main", "not installed for"),
        (MISMATCHED, "import main", "torchvision does not match torch"),
        (MISSING, "from inference import main; main(['a.png'])", "not installed for"),
        (MISSING, "from inference import load_predictor", "not installed for"),
    ],
)
def test_one_line_and_status_2(sabotage, code, message):
    code = f"{sabotage}\n{code}"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert message in done.stderr
    assert "pip install -r requirements.txt" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_every_requirement_is_looked_for():
    names = {"pillow": "PIL", "pyyaml": "yaml"}
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    packages = [line.split(">=")[0] for line in lines if line and not line.startswith("#")]
    assert sorted(names.get(package, package) for package in packages) == sorted(MODULES + WHERE_NEEDED)
