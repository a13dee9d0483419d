"""Optimizers, schedules, averages, and the state that resumes exactly."""

import copy
import io

import numpy as np
import pytest
import torch
from torch import nn

from experiments.training.state import TrainingState
from models import build_model
from utils.config import config_from_dict
from utils.errors import UserError
from utils.runtime import derive_seed, pick_device, random_states, restore_random_states, seed_everything

STEPS = 10


def state_of(**sections):
    sections.setdefault("train", {"epochs": 2})
    torch.manual_seed(0)
    return TrainingState(nn.Linear(3, 1), config_from_dict(sections, "test"), STEPS)


def step(state, scale=1.0):
    loss = scale * state.model(torch.rand(4, 3)).square().mean()
    state.optimizer.zero_grad()
    loss.backward()
    state.count({"total": loss.item()})
    state.update()


def rates(name, lr=0.1, warmup=0):
    state = state_of(optim={"lr": lr}, schedule={"name": name, "warmup": warmup})
    seen = []
    for _ in range(2 * STEPS):
        seen.append(state.optimizer.param_groups[0]["lr"])
        step(state)
    return np.array(seen)


def test_schedules():
    assert (rates("constant") == 0.1).all()
    np.testing.assert_allclose(rates("cosine"), 0.05 * (1 + np.cos(np.pi * np.arange(20) / 20)), atol=1e-12)
    onecycle = rates("onecycle")
    assert onecycle.argmax() == 5
    assert onecycle.max() == pytest.approx(0.1, rel=0.02)
    assert onecycle[0] < 0.005
    assert onecycle[-1] < 1e-3


def test_warmup_rises_linearly_and_the_schedule_takes_the_other_steps():
    np.testing.assert_allclose(rates("constant", warmup=0.2), [0.02, 0.04, 0.06, 0.08, *[0.1] * 16], atol=1e-12)
    cosine = 0.05 * (1 + np.cos(np.pi * np.arange(16) / 16))
    np.testing.assert_allclose(rates("cosine", warmup=0.2), [0.02, 0.04, 0.06, 0.08, *cosine], atol=1e-12)


@pytest.mark.parametrize("schedule", ["constant", "cosine", "onecycle"])
def test_the_backbone_has_its_own_rate(schedule):
    settings = {"optim": {"name": "adamw", "lr": 0.1, "backbone_lr": 0.1}, "schedule": {"name": schedule}}
    config = config_from_dict({"model": {"backbone": "cvt_nano"}, **settings}, "test")
    model = build_model(config.model)
    state = TrainingState(model, config, STEPS)
    backbone, head = state.optimizer.param_groups
    assert {id(each) for each in backbone["params"]} == {id(each) for each in model.backbone.parameters()}
    assert len(backbone["params"]) + len(head["params"]) == len(list(model.parameters()))
    for _ in range(3):
        assert backbone["lr"] == pytest.approx(0.1 * head["lr"])
        model(torch.rand(2, 3, 32, 32)).sum().backward()
        state.update()


def test_adam_couples_weight_decay_and_adamw_does_not():
    weights = {}
    for name in ("adam", "adamw"):
        state = state_of(optim={"name": name, "lr": 0.1, "weight_decay": 0.5})
        before = state.model.weight.detach().clone()
        torch.manual_seed(1)
        step(state, scale=0.0)  # the gradient is weight decay alone
        weights[name] = state.model.weight.detach() / before
    torch.testing.assert_close(weights["adamw"], torch.full((1, 3), 1 - 0.1 * 0.5))
    assert not torch.allclose(weights["adam"], weights["adamw"])


def test_gradient_clipping():
    state = state_of(optim={"clip_norm": 0.5})
    (1e6 * state.model(torch.rand(4, 3)).square().mean()).backward()

    def norm() -> float:
        return torch.cat([parameter.grad.flatten() for parameter in state.model.parameters()]).norm().item()

    before = norm()
    assert state.clip().item() == pytest.approx(before, rel=1e-6)
    assert norm() == pytest.approx(0.5, rel=1e-4)
    assert state.clip().item() == pytest.approx(0.5, rel=1e-4)


def test_average_follows_the_weights():
    state = state_of(optim={"lr": 0.1, "ema_decay": 0.75})
    expected = None
    for _ in range(3):
        step(state)
        now = state.model.weight.detach().clone()
        expected = now if expected is None else 0.75 * expected + 0.25 * now
    torch.testing.assert_close(state.scored_model.weight, expected)
    assert state_of().scored_model is not state.scored_model


def test_mean_losses_cover_the_epoch_under_way():
    state = state_of()
    for value in (1.0, 3.0):
        state.count({"total": value})
        state.update()
    assert state.mean_losses() == {"total": 2.0}
    state.finish_epoch({"epoch": 1})
    assert (state.epoch, state.step, state.loss_sums, state.history) == (1, 0, {}, [{"epoch": 1}])


def test_capture_survives_weights_only_loading_and_resumes_exactly():
    sections = {"optim": {"lr": 0.1, "ema_decay": 0.9}, "schedule": {"name": "onecycle"}}
    whole = state_of(**sections)
    for _ in range(5):
        step(whole)
    file = io.BytesIO()
    torch.save(whole.capture(), file)
    for _ in range(5):
        step(whole)
    file.seek(0)
    resumed = state_of(**sections)
    resumed.restore(torch.load(file, weights_only=True))
    for _ in range(5):
        step(resumed)
    assert torch.equal(resumed.model.weight, whole.model.weight)
    assert torch.equal(resumed.scored_model.weight, whole.scored_model.weight)
    assert resumed.step == 10


def test_random_states_cover_all_generators():
    import random  # noqa: PLC0415, the generator under test

    seed_everything(3)
    states = random_states(torch.device("cpu"))
    first = torch.rand(1).item(), np.random.rand(), np.random.randn(), random.random(), random.gauss(0, 1)
    restore_random_states(states, torch.device("cpu"))
    assert (torch.rand(1).item(), np.random.rand(), np.random.randn(), random.random(), random.gauss(0, 1)) == first


def test_derived_seeds_differ():
    assert len({derive_seed(a, b) for a in range(10) for b in range(10)}) == 100


def test_devices():
    assert pick_device("cpu") == torch.device("cpu")
    with pytest.raises(UserError, match="allowed: auto, cpu"):
        pick_device("tpu")


def test_a_state_of_other_kernels_is_continued_by_ours():
    """As versions before saved it on a CPU."""
    saved = state_of()
    step(saved)
    captured = saved.capture()
    captured["optimizer"]["param_groups"][0]["fused"] = None
    other = state_of()
    other.restore(captured)
    step(other)
    assert other.optimizer.param_groups[0]["fused"] is True
    assert other.optimizer.state[other.model.weight]["step"] == 2


@pytest.mark.parametrize("before", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("after", [torch.contiguous_format, torch.channels_last])
def test_a_state_of_either_memory_format_is_continued_in_either(before, after):
    def trained(memory_format, captured=None):
        torch.manual_seed(0)
        model = nn.Conv2d(4, 8, 3).to(memory_format=memory_format)
        state = TrainingState(model, config_from_dict({"optim": {"lr": 0.1}, "train": {"epochs": 2}}, "test"), STEPS)
        if captured is not None:
            state.restore(captured)
        for _ in range(2):
            state.optimizer.zero_grad()
            loss = model(torch.rand(2, 4, 8, 8).contiguous(memory_format=memory_format)).square().mean()
            loss.backward()
            state.count({"total": loss.item()})
            state.update()
        return state

    resumed = trained(after, copy.deepcopy(trained(before).capture()))
    expected = trained(torch.contiguous_format, copy.deepcopy(trained(torch.contiguous_format).capture()))
    torch.testing.assert_close(resumed.model.state_dict(), expected.model.state_dict(), rtol=1e-4, atol=1e-4)


def test_fused_adam_takes_the_steps_of_torchs_own():
    state = state_of(optim={"lr": 0.01, "weight_decay": 0.1})
    plain = copy.deepcopy(state.model)
    adam = torch.optim.Adam(plain.parameters(), lr=0.01, weight_decay=0.1)
    for batch in torch.randn(20, 4, 3):
        for network, update in ((state.model, state.update), (plain, adam.step)):
            network.zero_grad()
            network(batch).square().sum().backward()
            update()
    assert state.optimizer.param_groups[0]["fused"] is True
    for ours, theirs in zip(state.model.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)
