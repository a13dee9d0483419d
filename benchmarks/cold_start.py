"""Start-up time: `inference.py` on one photograph, and its `--help`."""

import sys
import tempfile
import time
from pathlib import Path

from benchmarks.data import write_photos
from benchmarks.rows import Measured, in_turn
from benchmarks.timing import command_seconds, run_command
from models import build_model
from utils.checkpoint import save_checkpoint
from utils.settings import Config

RUNS = 5
# the minimum for scoring with this network; prints how long building the network took, which is not counted
BARE = """
import json, os, sys, time
import torch
weights = torch.load(sys.argv[1], map_location="cpu", weights_only=True)["model"]
read = time.perf_counter()
from models import build_model
model = build_model().eval()
model.load_state_dict(weights)
built = time.perf_counter()
with torch.inference_mode():
    model(torch.zeros(1, 3, 384, 384))
print(json.dumps(built - read), flush=True)
os._exit(0)  # neither is the clean-up of packages that building imported
"""


def measure() -> list[Measured]:
    """Measure `cold_start`, the release's network on a photograph of 1024x768, and `help`."""
    with tempfile.TemporaryDirectory() as folder:
        checkpoint, photo = Path(folder) / "best.pt", Path(folder) / write_photos(Path(folder), 1)[0]
        config = Config().model_dump(mode="json")
        save_checkpoint(checkpoint, {"model": build_model().state_dict(), "config": config, "scale": config["scale"]})
        score = [sys.executable, "inference.py", str(photo), "--checkpoint", str(checkpoint), "--device", "cpu"]
        bare = [sys.executable, "-c", BARE, str(checkpoint)]
        command_seconds(score)  # warm-up: reads the files into memory, writes byte code
        ours, peers = in_turn(lambda: command_seconds(score), lambda: bare_seconds(bare), RUNS)
    help_seconds = [command_seconds([sys.executable, "inference.py", "--help"]) for _ in range(RUNS)]
    peer_is = "import torch + read weights + forward"
    return [
        Measured("cold_start", "inference.py on one photograph", peer_is, "s", ours, peers),
        Measured("help", "inference.py --help", "", "s", help_seconds),
    ]


def bare_seconds(command: list[str]) -> float:
    """Return the duration of a command, minus the seconds that it prints."""
    start = time.perf_counter()
    not_counted = float(run_command(command))
    return time.perf_counter() - start - not_counted
