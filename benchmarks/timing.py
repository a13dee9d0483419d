"""How long a call takes, on a GPU until its results are there."""

import time
from collections.abc import Callable

import torch


def milliseconds(call: Callable[[], object]) -> float:
    """How long a call takes."""
    _wait()
    begun = time.perf_counter()
    call()
    _wait()
    return 1000 * (time.perf_counter() - begun)


def seconds(call: Callable[[], object]) -> float:
    """The same in seconds."""
    return milliseconds(call) / 1000


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
