"""Timing of calls; on a GPU, until the results are ready."""

import time
from collections.abc import Callable

import torch


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


def _synchronise() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
