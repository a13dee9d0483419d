"""A network whose images are spread over processes, made to compute what it would with all of them in one.

C channels; the other dimensions of a map are those of images and positions.
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
WITH_ACTIVATION = ("drop", "act")  # what timm's BatchNormAct2d does after it


def synchronise(model: nn.Module) -> None:
    """Replaces each BatchNorm and DropPath, ours and timm's, by one over the images of all processes.

    Names, parameters and buffers stay, so that checkpoints are those of the network in one process. Dropout other than
    DropPath would be drawn alike in every process; the networks that are built here have none.

    Raises:
        UserError: A BatchNorm of a kind that is not known here.
    """
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.modules.batchnorm._BatchNorm):
                setattr(parent, name, _synchronised_norm(child))
            elif type(child).__name__ == "DropPath":  # ours, or timm's, which is not imported for a CvT
                setattr(parent, name, GlobalDropPath(child.drop_prob).train(child.training))


def _synchronised_norm(norm: nn.modules.batchnorm._BatchNorm) -> "GlobalBatchNorm":
    after = [getattr(norm, part) for part in WITH_ACTIVATION if hasattr(norm, part)]
    known = type(norm) in PLAIN_NORMS or (type(norm).__name__ == "BatchNormAct2d" and len(after) == 2)
    if not (known and norm.affine and norm.track_running_stats):
        raise UserError(
            f"model.backbone: its {type(norm).__name__} cannot be computed over several processes; train it with one"
        )
    return GlobalBatchNorm(norm, nn.Sequential(*after))


class GlobalDropPath(DropPath):
    """DropPath that draws for the images of all processes and takes its own, so that the draws are those of one."""

    def draw(self, like: Tensor, count: int) -> Tensor:
        return local_shard(super().draw(like, count * world()))  # (count, 1, 1)


class GlobalBatchNorm(nn.modules.batchnorm._BatchNorm):
    """BatchNorm over the images of all processes, each of which has as many; in evaluation, plain BatchNorm.

    torch's SyncBatchNorm does the same on CUDA, and refuses a CPU.

    Args:
        norm: Whose parameters and buffers it takes over.
        after: What is applied to its output; without parameters.
    """

    def __init__(self, norm: nn.modules.batchnorm._BatchNorm, after: nn.Sequential):
        super().__init__(norm.num_features, norm.eps, norm.momentum, device="meta")
        self.weight, self.bias = norm.weight, norm.bias
        self.running_mean, self.running_var = norm.running_mean, norm.running_var
        self.num_batches_tracked = norm.num_batches_tracked
        self.after = after
        self.train(norm.training)

    def _check_input_dim(self, _map: Tensor) -> None:
        """Any number of dimensions from two on."""

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
    """BatchNorm with given statistics of all processes, whose gradient knows that they are of its input."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, mean: Tensor, var: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
        ctx.save_for_backward(x, mean, var, weight)
        ctx.eps = eps
        return F.batch_norm(x, mean, var, weight, bias, training=False, eps=eps)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple:
        x, mean, var, weight = ctx.saved_tensors
        slope = _beside(torch.rsqrt(var + ctx.eps), x)
        normed = (at_least_float32(x) - _beside(mean, x)) * slope
        gradient = at_least_float32(gradient)
        own = torch.stack([gradient.sum(_all_but_channels(x)), (gradient * normed).sum(_all_but_channels(x))])  # (2, C)
        of_shift, of_scale = sum_over_processes(own) / (world() * x.numel() // x.shape[1])  # (C,), (C,)
        below = gradient - _beside(of_shift, x) - normed * _beside(of_scale, x)
        return (_beside(weight, x) * slope * below).to(x.dtype), None, None, own[1], own[0], None


def _statistics(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance (not Bessel's), each (C,), over the maps of all processes, each with as many numbers."""
    var, mean = torch.var_mean(x, _all_but_channels(x), correction=0)
    of_processes = [torch.empty(2, len(mean), dtype=x.dtype, device=x.device) for _ in range(world())]
    dist.all_gather(of_processes, torch.stack([mean, var]))
    means, variances = torch.stack(of_processes).unbind(1)  # (processes, C) each
    mean = means.mean(0)
    return mean, (variances + (means - mean) ** 2).mean(0)


def _all_but_channels(x: Tensor) -> list[int]:
    return [dim for dim in range(x.dim()) if dim != 1]


def _beside(of_channels: Tensor, x: Tensor) -> Tensor:
    """(C,) as (C, 1, ...), to be multiplied with x."""
    return of_channels.view(-1, *[1] * (x.dim() - 2))
