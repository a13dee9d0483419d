"""Work of which one piece fails: what is kept, what is freed, what is raised."""

import weakref

import pytest
import torch

from experiments.failures import Failures
from utils.errors import UserError


class Large:
    """Stands for what fills a GPU."""


def fail_with(error, held):
    large = Large()
    held.append(weakref.ref(large))
    raise error


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory"), UserError("mistake"), KeyError("key")])
def test_what_failed_holds_no_memory(error, capsys):
    failures, held = Failures(collecting=True), []
    with failures.collect("one"):
        fail_with(type(error)(*error.args), held)
    failures.release()
    assert held[0]() is None
    assert failures.messages[0].startswith("one: ")
    with pytest.raises(UserError, match=r"1 of 2 runs failed: one: "):
        failures.raise_any(2, "runs")
    assert ("Traceback" in capsys.readouterr().err) == isinstance(error, KeyError)


def test_a_single_piece_of_work_raises_what_it_raises():
    failures = Failures(collecting=False)
    with pytest.raises(KeyError), failures.collect("one"):
        raise KeyError("key")
    with pytest.raises(UserError, match=r"^out of memory"), failures.collect("one"):
        raise torch.OutOfMemoryError("CUDA out of memory")
    failures.raise_any(1, "runs")
    with pytest.raises(KeyboardInterrupt), Failures(collecting=True).collect("one"):
        raise KeyboardInterrupt
