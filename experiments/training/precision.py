"""Precision and determinism of training and evaluation, and whether the device supports them."""

import os
import re
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
    """Check, before anything is written, that the device supports the precision and the compiler."""
    require_precision(settings.precision, device)
    if settings.compile:
        require_compiler(device, COMPILE)


def require_precision(precision: str, device: torch.device) -> None:
    """Check that the device supports a value of `train.precision`."""
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
    """Compute float32 products in `train.precision` within the block.

    On GPUs from Ampere on, torch rounds the factors of float32 convolutions to TF32 by default.

    Raises:
        UserError: The device does not support the precision.
    """
    require_precision(precision, device)
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32
    matmul.allow_tf32 = cudnn.allow_tf32 = precision == TF32
    try:
        yield
    finally:
        matmul.allow_tf32, cudnn.allow_tf32 = before


@contextmanager
def use_determinism(enabled: bool) -> Iterator[None]:
    """Use only deterministic operations within the block, if enabled.

    Call it before CUDA is used: cuBLAS reads CUBLAS_WORKSPACE_CONFIG when it starts.

    Raises:
        UserError: An operation has no deterministic implementation on the device.
    """
    if not enabled:
        yield
        return
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    before, cudnn = torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn
    measured, cudnn.benchmark = cudnn.benchmark, False  # measuring may choose other kernels in each run
    torch.use_deterministic_algorithms(True)
    try:
        yield
    except RuntimeError as error:
        operation = re.match(r"(\S+) does not have a deterministic implementation", str(error))
        if operation is None:
            raise
        raise UserError(
            f"train.deterministic: {operation[1]} has no deterministic implementation on this device; use another "
            "train.device, or train.deterministic=false"
        ) from error
    finally:
        torch.use_deterministic_algorithms(before)
        cudnn.benchmark = measured


def scoring_precision(precision: str) -> str:
    """Return the precision of `models.fused.fused_model` for a value of `train.precision`."""
    return BF16 if precision == BF16 else FP32
