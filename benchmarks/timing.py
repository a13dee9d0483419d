"""Timing of calls, on a GPU until the results are ready, and of commands."""

import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[1]
WARM_UP = 3  # calls


def milliseconds(call: Callable[[], object]) -> float:
    """Return the duration of a call in milliseconds."""
    _synchronise()
    start = time.perf_counter()
    call()
    _synchronise()
    return 1000 * (time.perf_counter() - start)


def seconds(call: Callable[[], object]) -> float:
    """Return the duration of a call in seconds."""
    return milliseconds(call) / 1000


def time_calls(call: Callable[[], object], runs: int, at_least: float = 0.0) -> list[float]:
    """Return milliseconds per call, `runs` times, each a mean over as many calls as fill `at_least` seconds."""
    for _ in range(WARM_UP):
        call()
    count = max(1, round(1000 * at_least / milliseconds(call)))
    return [milliseconds(lambda: [call() for _ in range(count)]) / count for _ in range(runs)]


def time_product(side: int, dtype: torch.dtype, device: torch.device, runs: int, at_least: float = 0.0) -> list[float]:
    """Return TFLOP/s of products of square matrices of random numbers, which no network can exceed."""
    left, right = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    return [2 * side**3 / 1e9 / taken for taken in time_calls(lambda: left @ right, runs, at_least)]


def run_command(command: list[str]) -> str:
    """Return the output of a command, which must succeed."""
    return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout


def command_seconds(command: list[str]) -> float:
    """Return the duration of a command, which must succeed."""
    return seconds(lambda: run_command(command))


def _synchronise() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
