"""Losses and gradients that are not finite: what is skipped changes nothing, what stops the run is diagnosed."""

import json

import pytest
import torch

import main as training
from experiments.training.nonfinite import NonFiniteError
from losses import JointLoss
from tests.experiments.training.steps import batch_of, stepper_of
from tests.identical import assert_identical
from tests.running import folder_of, train
from utils.checkpoint import read_checkpoint
from utils.errors import UserError

NAN = float("nan")
OF_GRADIENT, OF_LOSS = "gradient", "loss"


def bad_batch(seed: int = 9) -> dict:
    """One label is not a number, so the loss is none."""
    batch = batch_of(8, seed)
    batch["mos"][3] = NAN
    return batch


@pytest.fixture
def root_of_zero(monkeypatch):
    """The loss of batches whose first label is 2 has a term that is 0, whose gradient is not a number."""
    forward = JointLoss.forward

    def poisoned(self, dos, target):
        terms = forward(self, dos, target)
        if target["mos"][0] == 2:
            terms["total"] = terms["total"] + (0 * dos.sum()).sqrt()
        return terms

    monkeypatch.setattr(JointLoss, "forward", poisoned)
    batch = batch_of(8, 9)
    batch["mos"][0] = 2
    return batch


def state_dict(stepper) -> dict:
    captured = stepper.state.capture()
    return {name: captured[name] for name in ("model", "average", "optimizer", "scheduler", "loss_sums")}


@pytest.mark.parametrize("kind", [OF_LOSS, OF_GRADIENT])
def test_a_skipped_step_leaves_everything_as_it_was(kind, root_of_zero, capsys):
    steady = {"drop_path": 0}  # nothing is drawn in a step
    skipping, other = (stepper_of(model=steady, on_nonfinite="skip", skip_limit=1) for _ in range(2))
    bad = bad_batch() if kind == OF_LOSS else root_of_zero
    for batch in (batch_of(8), bad, batch_of(8, 1)):
        skipping.step(batch)
    for batch in (batch_of(8), batch_of(8, 1)):
        other.step(batch)
    assert_identical(state_dict(skipping), state_dict(other))
    assert skipping.state.mean_losses() == other.state.mean_losses()
    assert (skipping.state.step, skipping.state.skipped, other.state.skipped) == (3, 1, 0)
    what = "the loss" if kind == OF_LOSS else "a gradient"
    warning = capsys.readouterr().err
    assert warning.startswith(f"warning: {what} is not finite in epoch 1, step 2: total ")
    assert warning.endswith("images: 0.jpg, 1.jpg, 2.jpg, 3.jpg, 4.jpg, 5.jpg, 6.jpg, 7.jpg; step skipped\n")


@pytest.mark.parametrize("kind", [OF_LOSS, OF_GRADIENT])
def test_by_default_the_first_one_stops_before_the_weights_change(kind, root_of_zero):
    stepper = stepper_of()
    before = {name: weight.clone() for name, weight in stepper.state.model.named_parameters()}
    with pytest.raises(NonFiniteError, match=f"{kind} is not finite in epoch 1, step 1"):
        stepper.step(bad_batch() if kind == OF_LOSS else root_of_zero)
    assert all(torch.equal(weight, before[name]) for name, weight in stepper.state.model.named_parameters())


def test_the_limit_holds_for_each_epoch_also_after_resuming():
    stepper = stepper_of(on_nonfinite="skip", skip_limit=2)
    for batch in (bad_batch(), batch_of(8), bad_batch()):
        stepper.step(batch)
    resumed = stepper_of(on_nonfinite="skip", skip_limit=2)
    resumed.state.restore(stepper.state.capture())
    assert (resumed.state.skipped, resumed.state.counted) == (2, 1)
    assert resumed.state.mean_losses() == stepper.state.mean_losses()
    with pytest.raises(NonFiniteError):
        resumed.step(bad_batch())
    stepper.state.finish_epoch({})
    stepper.step(bad_batch())
    assert (stepper.state.step, stepper.state.skipped) == (1, 1)


def poison(monkeypatch, *bad: int) -> None:
    """The loss of these steps, from 1, is not a number."""
    forward, steps = JointLoss.forward, []

    def poisoned(self, dos, target):
        steps.append(1)
        return forward(self, dos * (NAN if len(steps) in bad else 1), target)

    monkeypatch.setattr(JointLoss, "forward", poisoned)


def test_a_training_with_skipped_steps_ends_as_any_other(quick, tmp_path, monkeypatch, capsys):
    poison(monkeypatch, 2)
    assert train(quick, "train.on_nonfinite=skip") == 0
    saved = read_checkpoint(folder_of(tmp_path) / "last.pt")
    assert all(weight.isfinite().all() for weight in saved["model"].values())
    assert capsys.readouterr().err.count("step skipped") == 1
    assert json.loads((folder_of(tmp_path) / "metrics.json").read_text())["version"] == 1


def test_an_epoch_without_any_step_stops(quick, monkeypatch):
    poison(monkeypatch, *range(1, 100))
    with pytest.raises(UserError, match=r"every step of epoch 1 was skipped.*smaller optim\.lr"):
        train(quick, "train.on_nonfinite=skip", "train.skip_limit=99")


def test_a_diagnosis_names_the_first_module_that_overflows(quick, tmp_path, monkeypatch):
    """A bias of infinity, as an overflow leaves it, in a layer of the algorithmic path that others follow."""
    load = training.load_pretrained

    def overflowing(model, settings):
        with torch.no_grad():
            model.algorithmic[0].bias[1] = float("inf")
        return load(model, settings)

    monkeypatch.setattr(training, "load_pretrained", overflowing)
    with pytest.raises(UserError, match=r"images: .*\. Start again.*nonfinite\.json describes the step") as caught:
        train(quick)
    found = json.loads((folder_of(tmp_path) / "nonfinite.json").read_text())
    assert (found["epoch"], found["step"], found["what"]) == (1, 1, "the loss")
    assert f"images: {', '.join(found['images'])}." in str(caught.value)
    assert found["loss"]["total"] is None  # JSON has no NaN
    assert found["module"] == "algorithmic.0"
    assert found["weights"] == ["algorithmic.0.bias"]
    assert found["largest_input"] > 0
    assert "algorithmic.0.weight" in found["gradients"]
    assert found["learning_rates"] == [1e-5]
    assert not (folder_of(tmp_path) / "last.pt").exists()
