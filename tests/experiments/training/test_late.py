"""Losses that are read one step late, so that a GPU never waits for the CPU."""

import pytest
import torch

from experiments.training import step as step_module
from experiments.training.step import Stepper
from losses import JointLoss
from tests.experiments.training.steps import CUDA, batch_of, stepper_of
from tests.running import folder_of, train
from utils.checkpoint import read_checkpoint
from utils.errors import UserError


@pytest.fixture
def late(monkeypatch):
    """Losses are read a step late, as on a GPU."""
    begin = Stepper.__init__

    def begin_late(self, *arguments):
        begin(self, *arguments)
        self.late = True

    monkeypatch.setattr(step_module.Stepper, "__init__", begin_late)


@pytest.mark.usefixtures("late")
def test_losses_that_are_read_late_are_the_same(quick, run, tmp_path):
    assert train(quick, "run.name=late", "train.save_steps=1") == 0
    one, other = (read_checkpoint(folder / "last.pt") for folder in (run, tmp_path / "runs" / "late" / "split_01"))
    assert [epoch["train"] for epoch in one["history"]] == [epoch["train"] for epoch in other["history"]]
    assert all(torch.equal(x, other["model"][name]) for name, x in one["model"].items())


@pytest.mark.usefixtures("late")
@pytest.mark.parametrize("bad", [2, 3, 4])
@pytest.mark.parametrize("save_steps", [0, 1])
def test_a_loss_that_is_not_finite_names_its_own_step(bad, save_steps, quick, tmp_path, monkeypatch):
    """In the middle of an epoch and in its last step; no state that follows from it is saved."""
    steps = []
    forward = JointLoss.forward

    def poisoned(self, dos, target):
        steps.append(1)
        return forward(self, dos * (float("nan") if len(steps) == bad else 1), target)

    names = []
    step = Stepper.step

    def noted(self, batch):
        names.append(batch["name"])
        step(self, batch)

    monkeypatch.setattr(JointLoss, "forward", poisoned)
    monkeypatch.setattr(step_module.Stepper, "step", noted)
    with pytest.raises(UserError, match=rf"not finite in epoch 1, step {bad}: total nan") as caught:
        train(quick, f"train.save_steps={save_steps}")
    assert f"images: {', '.join(names[bad - 1])}." in str(caught.value)
    assert not (folder_of(tmp_path) / "best.pt").exists()
    last = folder_of(tmp_path) / "last.pt"
    assert last.exists() == bool(save_steps)
    if save_steps:
        saved = read_checkpoint(last)
        assert saved["step"] == bad - 1
        assert all(x.isfinite().all() for x in saved["model"].values())


@pytest.mark.usefixtures("late")
def test_a_late_step_queues_the_next_before_it_reads():
    stepper = stepper_of()
    stepper.step(batch_of(8))
    assert (stepper.state.step, stepper.state.counted) == (1, 0)
    with pytest.raises(AssertionError):
        stepper.state.capture()
    stepper.step(batch_of(8, 1))
    assert (stepper.state.step, stepper.state.counted) == (2, 1)
    stepper.read()
    assert stepper.state.counted == 2


@pytest.mark.gpu
def test_a_step_on_a_gpu_does_not_wait_for_the_cpu():
    stepper = stepper_of(CUDA)
    stepper.step(batch_of(8))
    batch = {
        key: value.pin_memory() if isinstance(value, torch.Tensor) else value for key, value in batch_of(8).items()
    }
    stepper.read()
    torch.cuda.set_sync_debug_mode("error")
    try:
        stepper.step(batch)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    stepper.read()
    assert stepper.state.counted == 2
