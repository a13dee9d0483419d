"""In what precision a network scores: the names of `--precision`, and which operators they lower.

Layer normalisation, softmax, the tokens between the layers, pooling and head are float32 in any of them.
"""

from dataclasses import dataclass

import torch

from utils.errors import UserError, did_you_mean

FP32, BF16, FP16, AUTO = "fp32", "bf16", "fp16", "auto"
PRECISIONS = (FP32, BF16, FP16, AUTO)
AMPERE = (8, 0)  # compute capability of the first GPUs that multiply in bfloat16


@dataclass(frozen=True)
class Plan:
    """What each kind of operator computes in."""

    convolutions: torch.dtype = torch.float32
    linear: torch.dtype = torch.float32
    attention: torch.dtype = torch.float32

    def describe(self) -> str:
        """`fp32`, `bf16`, or what is lowered where not everything is: `bf16(linear)`."""
        lowered = {name: dtype for name, dtype in vars(self).items() if dtype != torch.float32}
        if not lowered:
            return FP32
        short = BF16 if torch.bfloat16 in lowered.values() else FP16
        return short if len(lowered) == len(vars(self)) else f"{short}({'+'.join(lowered)})"


def plan_for(precision: str, device: torch.device) -> Plan:
    """The plan of a precision on a device.

    `auto` is bfloat16 where the hardware has instructions for it, else float32; it depends on the machine alone and
    measures nothing. On a CPU with AMX that is linear layers and attention; with AVX512-BF16 alone the linear layers,
    since attention in bfloat16 was slower than in float32 there; on a GPU from Ampere on everything. fp16 is never
    picked: its largest number is 65504, and no bound is known of what a trained network holds.

    Raises:
        UserError: An unknown name, or fp16 on another device than a GPU.
    """
    if precision not in PRECISIONS:
        hint = did_you_mean(precision, PRECISIONS)
        raise UserError(f"precision: unknown {precision!r}{hint}; allowed: {', '.join(PRECISIONS)}")
    if precision == FP16 and device.type != "cuda":
        raise UserError(f"precision: fp16 needs a CUDA GPU, and this device is {device.type}; use bf16, fp32 or auto")
    if precision == AUTO:
        return _fastest(device)
    if precision == FP32:
        return Plan()
    return _all(torch.bfloat16 if precision == BF16 else torch.float16)


def _fastest(device: torch.device) -> Plan:
    if device.type == "cuda":
        return _all(torch.bfloat16) if torch.cuda.get_device_capability(device) >= AMPERE else Plan()
    if device.type == "cpu" and torch.cpu._is_amx_tile_supported():
        return Plan(linear=torch.bfloat16, attention=torch.bfloat16)
    if device.type == "cpu" and torch.cpu._is_avx512_bf16_supported():
        return Plan(linear=torch.bfloat16)
    return Plan()


def _all(dtype: torch.dtype) -> Plan:
    return Plan(convolutions=dtype, linear=dtype, attention=dtype)
