"""Whether two runs are the same, bit by bit."""

from pathlib import Path

import torch

from utils.checkpoint import read_checkpoint

# what may differ: wall-clock time, where it ran, and what follows from the iterative logistic fit, whose last bits
# depend on where in memory its arrays lie
FREE = ("seconds", "config", "plcc", "rmse")


def comparable(value):
    if isinstance(value, dict):
        return {key: comparable(item) for key, item in value.items() if key not in FREE}
    return [comparable(item) for item in value] if isinstance(value, list) else value


def assert_identical(one, other, path="checkpoint"):
    """Bit by bit."""
    if isinstance(one, dict):
        assert one.keys() == other.keys(), path
        for key in one:
            assert_identical(one[key], other[key], f"{path}.{key}")
    elif isinstance(one, (list, tuple)):
        assert len(one) == len(other), path
        for index, (a, b) in enumerate(zip(one, other, strict=True)):
            assert_identical(a, b, f"{path}.{index}")
    elif isinstance(one, torch.Tensor):
        assert torch.equal(one, other), path
    else:
        assert one == other or (one != one and other != other), path  # noqa: PLR0124, NaN


def assert_same_run(one: Path, other: Path):
    for name in ("last.pt", "best.pt"):
        assert_identical(*(comparable(read_checkpoint(folder / name)) for folder in (one, other)))
    assert (one / "predictions.csv").read_bytes() == (other / "predictions.csv").read_bytes()
