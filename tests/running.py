"""Running main.py, or a part of it, in the process of the tests."""

import runpy
import shutil
import signal
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

from datasets.database import load_databases
from experiments.training.run_folder import RunFolder
from experiments.training.setup import SplitRun, set_up
from experiments.training.state import TrainingState
from experiments.training.step import Stepper, train_epoch
from main import main
from utils.runtime import Interruption
from utils.script import SIGNALS
from utils.settings import Config

ROOT = Path(__file__).parents[1]


def train(quick: list[str], *arguments: str) -> int:
    """The release's config, made quick."""
    return main(["--config", str(ROOT / "configs" / "koniq10k.yaml"), *quick, *arguments])


def first_split(config: Config) -> SplitRun:
    """Split 1 of a run, before anything of it is written."""
    databases = load_databases(config)
    splits = tuple(database.split(config, 1) for database in databases)
    return SplitRun(config, 1, databases, splits, RunFolder.for_split(config, 1), Interruption())


def train_losses(config: Config) -> list[dict[str, float]]:
    """The loss and its terms in every epoch of a training that is never evaluated and writes nothing."""
    run = first_split(config)
    model, loss, loader, _ = set_up(run, torch.device("cpu"))
    state = TrainingState(model, config, len(loader))
    stepper = Stepper(state, loss, config.train)
    losses = []
    while state.epoch < config.train.epochs:
        assert train_epoch(stepper, loader, run)
        losses.append(state.mean_losses())
        state.finish_epoch({})
    return losses


def run_as_script(monkeypatch: pytest.MonkeyPatch, script: str, *arguments: str) -> int:
    """A script as its user starts it, without the seconds that a new process takes to import torch; its status."""
    monkeypatch.setattr(sys, "argv", [script, *arguments])
    monkeypatch.setattr(sys, "path", sys.path.copy())
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)  # scripts replace it
    monkeypatch.setattr("os._exit", sys.exit)  # would end this process
    handlers = [signal.getsignal(number) for number in SIGNALS]
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(ROOT / script), run_name="__main__")
    for number, handler in zip(SIGNALS, handlers, strict=True):
        signal.signal(number, handler)
    return end.value.code


def folder_of(tmp_path: Path, number: int = 1) -> Path:
    """The folder of a split of the run that `quick` names."""
    return tmp_path / "runs" / "quick" / f"split_{number:02d}"


def copy_run(source: Path, target: Path) -> None:
    """Copy the runs under `source` as if they had been trained under `target`: files say where they and images are."""
    shutil.copytree(source / "runs", target / "runs")
    for path in (target / "runs").rglob("*"):
        if path.suffix == ".pt":
            content = torch.load(path, weights_only=True)
            content["config"] = _moved(content["config"], str(source), str(target))
            torch.save(content, path)
        elif path.suffix in (".yaml", ".json", ".jsonl", ".csv"):
            path.write_text(path.read_text(encoding="utf-8").replace(str(source), str(target)), encoding="utf-8")


def _moved(content: Any, source: str, target: str) -> Any:
    """Plain content with one path in place of another."""
    if isinstance(content, dict):
        return {name: _moved(item, source, target) for name, item in content.items()}
    if isinstance(content, list):
        return [_moved(item, source, target) for item in content]
    return content.replace(source, target) if isinstance(content, str) else content
