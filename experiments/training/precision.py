"""In what precision a network is trained and evaluated, and whether the device has it."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from models.compiling import require_compiler
from models.precision import AMPERE, BF16, FP32
from utils.errors import UserError
from utils.settings import TrainSettings

TF32 = "tf32"
COMPILE = "train.compile"


def require_support(settings: TrainSettings, device: torch.device) -> None:
    """Refuses what this device, or this machine, cannot do, before anything is written."""
    require_precision(settings.precision, device)
    if settings.compile:
        require_compiler(device, COMPILE)


def require_precision(precision: str, device: torch.device) -> None:
    """Refuses a `train.precision` that the device does not have."""
    needed = ".".join(map(str, AMPERE))
    if device.type != "cuda":
        if precision == TF32:
            raise UserError(
                f"train.precision: {TF32} needs a CUDA GPU of compute capability {needed} or more, and this run is on "
                f"{device}; use {FP32} or {BF16}"
            )
        return
    capability = torch.cuda.get_device_capability(device)
    if precision != FP32 and capability < AMPERE:
        raise UserError(
            f"train.precision: {precision} needs a GPU of compute capability {needed} or more, and {device} has "
            f"{'.'.join(map(str, capability))}; use {FP32}"
        )


@contextmanager
def use_precision(precision: str, device: torch.device) -> Iterator[None]:
    """Float32 products as `train.precision` says within; afterwards as they were.

    On GPUs from Ampere on torch rounds the factors of float32 convolutions to TF32 unless it is told not to.

    Raises:
        UserError: A precision that the device does not have.
    """
    require_precision(precision, device)
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32
    matmul.allow_tf32 = cudnn.allow_tf32 = precision == TF32
    try:
        yield
    finally:
        matmul.allow_tf32, cudnn.allow_tf32 = before


def scoring_precision(precision: str) -> str:
    """What `models.fused.fused_model` evaluates in, where training is in `precision`."""
    return BF16 if precision == BF16 else FP32
