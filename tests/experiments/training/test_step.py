"""The step of a training: parts of a batch, blocks computed again, states that move."""

import pytest
import torch
import yaml

from models import build_model
from tests.experiments.training.steps import CPU, CUDA, batch_of, gradients, stepper_of
from tests.running import folder_of, train, train_losses
from utils.checkpoint import read_checkpoint
from utils.config import load_config
from utils.errors import UserError
from utils.settings import ModelSettings


def test_parts_of_a_batch_add_up_to_the_whole():
    """In evaluation mode, since BatchNorm sees the parts."""
    whole, parts = stepper_of(), stepper_of(accumulate=4)
    for stepper in (whole, parts):
        stepper.state.model.eval()
        stepper.step(batch_of(8))
    assert parts.state.mean_losses() == pytest.approx(whole.state.mean_losses(), abs=1e-6, rel=1e-6)
    for name, expected in gradients(whole).items():
        torch.testing.assert_close(gradients(parts)[name], expected, atol=1e-6, rtol=1e-5, msg=name)


@pytest.mark.slow
def test_damaged_images_teach_that_damage_is_worse(quick, monkeypatch):
    """From a network that knows nothing: the term is there, and falls."""
    monkeypatch.setattr("datasets.distortions.DRAWN", ("underexposure",))  # is learnt in a few steps
    losses = train_losses(
        load_config(None, [*quick, "transform.damage=1", "loss.rank=100", "optim.lr=1e-3", "train.epochs=24"])
    )
    ranks = [values["rank"] for values in losses]
    assert sum(ranks[-6:]) < 0.8 * sum(ranks[:6])


def test_batch_norm_sees_the_parts():
    whole, parts = stepper_of(), stepper_of(accumulate=4)
    for stepper in (whole, parts):
        stepper.step(batch_of(8))
    name = "backbone.stages.0.blocks.0.attention.conv_q.norm.num_batches_tracked"
    assert [s.state.model.state_dict()[name].item() for s in (whole, parts)] == [1, 4]


def test_each_epoch_trains_in_training_mode(quick, tmp_path):
    """Although an evaluation ends the one before it."""
    assert train(quick, "train.epochs=2") == 0
    content = read_checkpoint(folder_of(tmp_path) / "last.pt")
    steps = {int(value) for name, value in content["model"].items() if name.endswith("num_batches_tracked")}
    assert steps == {2 * 16 // 4}  # epochs, images, and images of a step


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ("accumulate: 3", r"accumulate \(3\) must divide batch_size \(8\) into equal parts of 2 images or more"),
        ("accumulate: 8", "equal parts of 2 images or more"),
        ("accumulate: 0", "greater than or equal to 1"),
        ("compile: true, checkpointing: true", "compile and checkpointing"),
        ("precision: fp16", "'fp32', 'tf32' or 'bf16'"),
    ],
)
def test_settings_that_are_refused(settings, message, tmp_path):
    (tmp_path / "a.yaml").write_text(f"train: {{batch_size: 8, {settings}}}\n")
    with pytest.raises(UserError, match=message):
        load_config(tmp_path / "a.yaml")


@pytest.mark.parametrize("drop_path", [0.0, 0.5])
def test_blocks_computed_again_change_nothing(drop_path):
    """Loss, gradients, running statistics and what is drawn are the same, bit for bit."""
    kept, again = stepper_of(model={"drop_path": drop_path}), None
    again = stepper_of(model={"drop_path": drop_path}, checkpointing=True)
    for stepper in (kept, again):
        torch.manual_seed(1)
        for seed in range(2):
            stepper.step(batch_of(8, seed))
    assert again.state.loss_sums == kept.state.loss_sums
    assert all(torch.equal(gradients(again)[name], x) for name, x in gradients(kept).items())
    own, other = (stepper.state.model.state_dict() for stepper in (kept, again))
    assert own.keys() == other.keys()
    assert all(torch.equal(other[name], x) for name, x in own.items())


def test_less_is_kept_where_blocks_are_computed_again():
    def kept(**settings):
        sizes = []
        stepper = stepper_of(**settings)
        with torch.autograd.graph.saved_tensors_hooks(lambda x: sizes.append(x.numel()) or x, lambda x: x):
            stepper._predicted(batch_of(8)["image"])
        return sum(sizes)

    assert kept(checkpointing=True) < 0.5 * kept()


def test_checkpointing_of_timm():
    blocks = build_model(ModelSettings(backbone="timm:convnext_atto")).backbone
    blocks.checkpoint_blocks()
    with pytest.raises(UserError, match="has BatchNorm, whose statistics would be updated twice per batch"):
        build_model(ModelSettings(backbone="timm:resnet18")).backbone.checkpoint_blocks()
    images = torch.randn(2, 3, 64, 64)
    plain = build_model(ModelSettings(backbone="timm:convnext_atto")).backbone
    plain.load_state_dict(blocks.state_dict())
    found = []
    for backbone in (plain, blocks):
        backbone.eval()(images)[-1].sum().backward()
        found.append([x.grad for x in backbone.parameters() if x.grad is not None])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other)


def test_a_config_of_before_is_gone_on_with(run, quick):
    """A run whose config.yaml has none of the new keys."""
    values = yaml.safe_load((run / "config.yaml").read_text())
    for key in ("accumulate", "precision", "compile", "checkpointing"):
        del values["train"][key]
    (run / "config.yaml").write_text(yaml.safe_dump(values))
    (run / "metrics.json").unlink()
    assert train(quick, "--resume", "train.checkpointing=true") == 0
    with pytest.raises(UserError, match=r"other settings: train\.precision: fp32 then, bf16 now"):
        train(quick, "--resume", "train.precision=bf16")


@pytest.mark.gpu
def test_a_state_moves_between_devices():
    here, there = stepper_of(CUDA), stepper_of(CPU)
    for one, other in ((here, there), (there, here)):
        one.step(batch_of(8))
        one.read()
        other.state.restore(one.state.capture())
        other.step(batch_of(8))
        other.read()
    for stepper in (here, there):
        assert stepper.state.optimizer.param_groups[0]["fused"] is True
