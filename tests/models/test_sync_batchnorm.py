"""Two processes with half of the images each match a single process with all of them."""

import timm
import torch
from torch import nn

from models import build_model
from models.cvt import DropPath
from models.sync_batchnorm import GlobalBatchNorm, synchronise
from tests.processes import results
from utils.distributed import local_shard, sum_over_processes, world
from utils.settings import ModelSettings

IMAGES = 6


def normed(norm: nn.Module, x: torch.Tensor) -> dict[str, torch.Tensor]:
    """Run two training passes; returns outputs of the second, gradients of a mean, and running statistics."""
    x = local_shard(x).clone().requires_grad_()
    norm(x.detach())
    y = norm(x)
    weights = torch.linspace(-1, 2, y[0].numel()).view_as(y[0])
    (y * weights + y**2).sum(list(range(1, y.dim()))).mean().backward()
    return {
        "y": y.detach(),
        "x": x.grad / world(),  # of the sum of the processes' means; the mean over all images is half of it
        "weight": sum_over_processes(norm.weight.grad) / world(),
        "bias": sum_over_processes(norm.bias.grad) / world(),
        **{name: buffer.clone() for name, buffer in norm.named_buffers()},
    }


def make_norm(kind: type, channels: int = 5, **options) -> nn.Module:
    torch.manual_seed(1)
    norm = kind(channels, **options)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    return norm


def test_batch_norm_is_that_of_the_whole_batch(tmp_path):
    """Outputs, running statistics and gradients match for images that differ in mean and spread."""
    torch.manual_seed(0)
    scale = torch.linspace(0.5, 3, IMAGES)
    maps = 4 + scale[:, None, None, None] * (torch.randn(IMAGES, 5, 4, 3) + scale[:, None, None, None])
    cases = [
        (kind, {**options, "dtype": dtype}, x.to(dtype))
        for dtype in (torch.float32, torch.float64)
        for kind, options, x in (
            (nn.BatchNorm2d, {}, maps),
            (nn.BatchNorm2d, {"momentum": None}, maps.contiguous(memory_format=torch.channels_last)),
            (nn.BatchNorm1d, {"eps": 1e-3}, maps[:, :, 0, :1]),
            (timm.layers.BatchNormAct2d, {}, maps),
        )
    ]

    def of_processes() -> list[dict]:
        found = []
        for kind, options, x in cases:
            holder = nn.Sequential(make_norm(kind, **options))
            names = list(holder.state_dict())
            synchronise(holder)
            assert isinstance(holder[0], GlobalBatchNorm)
            assert list(holder.state_dict()) == names
            found.append(normed(holder[0], x))
        return found

    for (kind, options, x), *parts in zip(cases, *results(of_processes, tmp_path), strict=True):
        for name, expected in normed(make_norm(kind, **options), x).items():
            whole = torch.cat([part[name] for part in parts]) if name in "yx" else parts[0][name]
            off = (whole - expected).abs().max() / expected.abs().max().clamp(min=1)
            assert off < (1e-6 if options["dtype"] == torch.float32 else 1e-12), f"{kind.__name__} {options} {name}"


def test_batch_norm_of_bfloat16_is_that_of_the_whole_batch_rounded(tmp_path):
    """Maps are in bfloat16, as under autocast; statistics and parameters are in float32."""
    torch.manual_seed(0)
    x = 2 + torch.randn(IMAGES, 5, 4, 3)

    def of_processes() -> dict[str, torch.Tensor]:
        holder = nn.Sequential(make_norm(nn.BatchNorm2d))
        synchronise(holder)
        return normed(holder[0], x.bfloat16())

    expected = normed(make_norm(nn.BatchNorm2d), x.bfloat16())
    first, second = results(of_processes, tmp_path)
    assert first["y"].dtype == torch.bfloat16
    torch.testing.assert_close(torch.cat([first["y"], second["y"]]), expected["y"])
    torch.testing.assert_close(torch.cat([first["x"], second["x"]]), expected["x"], rtol=0.05, atol=0.01)
    for name in ("weight", "bias"):
        torch.testing.assert_close(first[name], expected[name], rtol=0.02, atol=0.02)
    for name in ("running_mean", "running_var"):
        torch.testing.assert_close(first[name], expected[name], rtol=1e-4, atol=1e-4)


def test_batch_norm_in_evaluation_is_plain(tmp_path):
    del tmp_path
    norm = make_norm(nn.BatchNorm2d).eval()
    norm.running_mean.uniform_()
    holder, x = nn.Sequential(norm), torch.randn(2, 5, 3, 3)
    expected = norm(x)
    synchronise(holder)
    assert torch.equal(holder(x), expected)


def test_drop_path_drops_what_one_process_would(tmp_path):
    """Our DropPath and timm's are replaced, and all processes continue with the same draws."""

    def draws(drop: nn.Module) -> tuple[torch.Tensor, torch.Tensor]:
        torch.manual_seed(3)
        kept = [drop(local_shard(torch.ones(8, 3, 2))) for _ in range(5)]
        return torch.cat(kept, 1), torch.rand(2)

    def of_processes() -> list:
        holder = nn.Sequential(timm.layers.DropPath(0.4), nn.Sequential(DropPath(0.4)))
        synchronise(holder)
        assert isinstance(holder[0], DropPath)
        return [draws(holder[0]), draws(holder[1])]

    expected, after = draws(timm.layers.DropPath(0.4))
    parts = results(of_processes, tmp_path)
    for number in range(2):
        assert torch.equal(torch.cat([part[number][0] for part in parts]), expected)
        assert all(torch.equal(part[number][1], after) for part in parts)
    assert len(expected.unique()) == 2


def test_networks_keep_their_names_and_their_outputs():
    for backbone in ("cvt_nano", "timm:convnext_atto", "timm:resnet10t"):
        model = build_model(ModelSettings(backbone=backbone)).eval()
        images, names = torch.randn(2, 3, 64, 64), list(model.state_dict())
        expected = model(images)
        synchronise(model)
        assert list(model.state_dict()) == names
        assert torch.equal(model(images), expected)
        kinds = {type(module) for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)}
        assert kinds == {GlobalBatchNorm}
        assert not any(isinstance(module, timm.layers.DropPath) for module in model.modules())
