"""Synchronised BatchNorm and DropPath: training over several processes gives the result of a single one.

C channels; the other dimensions of a map are images and positions.
"""

from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from models.cvt import DropPath
from utils.distributed import local_shard, sum_over_processes, world
from utils.errors import UserError
from utils.numerics import at_least_float32

PLAIN_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)
WITH_ACTIVATION = ("drop", "act")  # submodules of timm's BatchNormAct2d, applied after the normalisation


def synchronise(model: nn.Module) -> None:
    """Replace each BatchNorm and DropPath, ours and timm's, by one over the images of all processes.

    Names, parameters and buffers are kept, so that checkpoints are those of a single process. Other kinds of dropout,
    which `build_model` does not use, would draw the same numbers in every process.

    Raises:
        UserError: A BatchNorm is of an unsupported kind.
    """
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.modules.batchnorm._BatchNorm):
                setattr(parent, name, _synchronised_norm(child))
            elif type(child).__name__ == "DropPath":  # by name, since timm is not imported for a CvT
                setattr(parent, name, GlobalDropPath(child.drop_prob).train(child.training))


def _synchronised_norm(norm: nn.modules.batchnorm._BatchNorm) -> "GlobalBatchNorm":
    after = [getattr(norm, part) for part in WITH_ACTIVATION if hasattr(norm, part)]
    known = type(norm) in PLAIN_NORMS or (type(norm).__name__ == "BatchNormAct2d" and len(after) == 2)
    if not (known and norm.affine and norm.track_running_stats):
        raise UserError(
            f"model.backbone: its {type(norm).__name__} cannot be synchronised over several processes; use one process"
        )
    return GlobalBatchNorm(norm, nn.Sequential(*after))


class GlobalDropPath(DropPath):
    """DropPath that draws for the images of all processes, as a single process would, and uses its own share."""

    def draw(self, like: Tensor, count: int) -> Tensor:
        return local_shard(super().draw(like, count * world()))  # (count, 1, 1)


class GlobalBatchNorm(nn.modules.batchnorm._BatchNorm):
    """BatchNorm over the images of all processes, which must have equally many; plain BatchNorm in evaluation.

    torch's SyncBatchNorm does the same, but does not support CPUs.

    Args:
        norm: BatchNorm whose parameters and buffers are taken over.
        after: Modules without parameters that are applied to the output.
    """

    def __init__(self, norm: nn.modules.batchnorm._BatchNorm, after: nn.Sequential):
        super().__init__(norm.num_features, norm.eps, norm.momentum, device="meta")
        self.weight, self.bias = norm.weight, norm.bias
        self.running_mean, self.running_var = norm.running_mean, norm.running_var
        self.num_batches_tracked = norm.num_batches_tracked
        self.after = after
        self.train(norm.training)

    def _check_input_dim(self, _map: Tensor) -> None:
        """Accept any number of dimensions from two on."""

    def forward(self, x: Tensor) -> Tensor:
        return self.after(self._normalised(x) if self.training else super().forward(x))

    def _normalised(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            mean, var = _statistics(at_least_float32(x))  # (C,), (C,)
            count = world() * x.numel() // x.shape[1]
            self.num_batches_tracked += 1
            share = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
            self.running_mean.lerp_(mean, share)
            self.running_var.lerp_(var * count / (count - 1), share)
        return _Normalise.apply(x, mean, var, self.weight, self.bias, self.eps)


class _Normalise(torch.autograd.Function):
    """BatchNorm with the statistics of all processes, whose gradient includes that of the statistics."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, mean: Tensor, var: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
        ctx.save_for_backward(x, mean, var, weight)
        ctx.eps = eps
        return F.batch_norm(x, mean, var, weight, bias, training=False, eps=eps)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple:
        x, mean, var, weight = ctx.saved_tensors
        slope = _per_channel(torch.rsqrt(var + ctx.eps), x)
        normed = (at_least_float32(x) - _per_channel(mean, x)) * slope
        gradient = at_least_float32(gradient)
        local = torch.stack([gradient.sum(_reduced_dims(x)), (gradient * normed).sum(_reduced_dims(x))])  # (2, C)
        shift_grad, scale_grad = sum_over_processes(local) / (world() * x.numel() // x.shape[1])  # (C,), (C,)
        below = gradient - _per_channel(shift_grad, x) - normed * _per_channel(scale_grad, x)
        return (_per_channel(weight, x) * slope * below).to(x.dtype), None, None, local[1], local[0], None


def _statistics(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and biased variance, each (C,), over the maps of all processes, which must be equally large."""
    var, mean = torch.var_mean(x, _reduced_dims(x), correction=0)
    gathered = [torch.empty(2, len(mean), dtype=x.dtype, device=x.device) for _ in range(world())]
    dist.all_gather(gathered, torch.stack([mean, var]))
    means, variances = torch.stack(gathered).unbind(1)  # (processes, C) each
    mean = means.mean(0)
    return mean, (variances + (means - mean) ** 2).mean(0)


def _reduced_dims(x: Tensor) -> list[int]:
    return [dim for dim in range(x.dim()) if dim != 1]


def _per_channel(values: Tensor, x: Tensor) -> Tensor:
    """Return values (C,) as (C, 1, ...), which broadcast over x."""
    return values.view(-1, *[1] * (x.dim() - 2))
