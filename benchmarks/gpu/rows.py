"""Rows of measured figures, each written to a file as soon as it is known."""

import json
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.timing import milliseconds

WARM_UP = 3  # calls


class Rows:
    """The rows of one part, in a JSON Lines file that is complete up to the last row whatever happens next.

    Args:
        path: The file, replaced if it exists.
    """

    def __init__(self, path: Path):
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")

    def add(self, name: str, **values: Any) -> None:
        """Write one row and print it. Lists of numbers become their median and `<key>_spread`."""
        row: dict[str, Any] = {"name": name}
        for key, value in values.items():
            if isinstance(value, list):
                row[key] = statistics.median(value)
                row[f"{key}_spread"] = [min(value), max(value)]
            else:
                row[key] = value
        with self.path.open("a") as file:
            file.write(json.dumps(row) + "\n")
        print(
            f"{name}: " + ", ".join(f"{key} {_short(value)}" for key, value in row.items() if key != "name"), flush=True
        )


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return f"[{', '.join(map(_short, value))}]" if isinstance(value, list) else str(value)


def time_calls(call: Callable[[], object], runs: int, seconds: float, warm_up: int = WARM_UP) -> list[float]:
    """Return milliseconds per call, `runs` times, each a mean over as many calls as fill `seconds`."""
    for _ in range(warm_up):
        call()
    count = max(1, round(1000 * seconds / milliseconds(call)))
    return [milliseconds(lambda: [call() for _ in range(count)]) / count for _ in range(runs)]


def measure_product(side: int, dtype: torch.dtype, device: torch.device, runs: int, seconds: float) -> list[float]:
    """Return TFLOP/s of products of square matrices of random numbers, which no network can exceed."""
    left, right = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    return [2 * side**3 / 1e9 / taken for taken in time_calls(lambda: left @ right, runs, seconds)]


def speed(milliseconds_per_batch: Sequence[float], batch: int, gflop: float, ceiling: float) -> dict[str, list[float]]:
    """Return `images_per_s`, and `of_ceiling`: the share in % of `ceiling` (TFLOP/s) at `gflop` for an image."""
    rates = [1000 * batch / taken for taken in milliseconds_per_batch]
    return {"images_per_s": rates, "of_ceiling": [rate * gflop / 10 / ceiling for rate in rates]}
