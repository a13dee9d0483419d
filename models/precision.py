"""Precision of inference: the values of `--precision`, and the operators that they apply to.

Sums within layer normalisation and softmax, pooling and head are always float32.
"""

from dataclasses import dataclass

import torch

from utils.errors import UserError, did_you_mean

FP32, BF16, FP16, AUTO = "fp32", "bf16", "fp16", "auto"
PRECISIONS = (FP32, BF16, FP16, AUTO)
AMPERE = (8, 0)  # compute capability of the first GPUs that multiply in bfloat16


@dataclass(frozen=True)
class PrecisionPlan:
    """Data type of each kind of operator.

    Attributes:
        tokens: Data type of the tokens between the layers of CvT.
        packed: Whether weights in bfloat16 are kept in the order that the matrix instructions of a CPU read.
    """

    convolutions: torch.dtype = torch.float32
    linear: torch.dtype = torch.float32
    attention: torch.dtype = torch.float32
    tokens: torch.dtype = torch.float32
    packed: bool = False

    def describe(self) -> str:
        """Return `fp32`, `bf16` or `fp16`, in brackets what is lowered if that is not all operators: `bf16(linear)`."""
        lowered = {name: dtype for name, dtype in vars(self).items() if dtype in (torch.bfloat16, torch.float16)}
        if not lowered:
            return FP32
        short = BF16 if torch.bfloat16 in lowered.values() else FP16
        return short if self == _all(self.linear) else f"{short}({'+'.join(lowered)})"


def precision_plan(precision: str, device: torch.device) -> PrecisionPlan:
    """Return the data types of a precision on a device.

    `auto` is bfloat16 if the hardware has instructions for it, else float32. It only depends on the hardware:
    everything on a CPU with AMX and on a GPU from Ampere on; linear layers on a CPU with AVX512-BF16 but without AMX,
    where attention in bfloat16 was slower than in float32. The activations of a trained network have no known bound,
    so `auto` never selects fp16, whose largest number is 65504, and the tokens, which are sums over all blocks, stay
    float32 in fp16.

    Raises:
        UserError: The name is unknown, or fp16 is requested on a device other than a CUDA GPU.
    """
    if precision not in PRECISIONS:
        hint = did_you_mean(precision, PRECISIONS)
        raise UserError(f"precision: unknown {precision!r}{hint}; allowed: {', '.join(PRECISIONS)}")
    if precision == FP16 and device.type != "cuda":
        raise UserError(f"precision: fp16 needs a CUDA GPU, and this device is {device.type}; use bf16, fp32 or auto")
    if precision == AUTO:
        return _fastest(device)
    if precision == FP32:
        return PrecisionPlan()
    return _all(torch.bfloat16 if precision == BF16 else torch.float16)


def _fastest(device: torch.device) -> PrecisionPlan:
    if device.type == "cuda":
        return _all(torch.bfloat16) if torch.cuda.get_device_capability(device) >= AMPERE else PrecisionPlan()
    if device.type == "cpu" and torch.cpu._is_amx_tile_supported():
        return _all(torch.bfloat16)
    if device.type == "cpu" and torch.cpu._is_avx512_bf16_supported():
        return PrecisionPlan(linear=torch.bfloat16)
    return PrecisionPlan()


def _all(dtype: torch.dtype) -> PrecisionPlan:
    tokens = dtype if dtype == torch.bfloat16 else torch.float32
    return PrecisionPlan(convolutions=dtype, linear=dtype, attention=dtype, tokens=tokens)
