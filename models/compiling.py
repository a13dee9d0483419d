"""torch.compile for scoring and training, with its failures as errors for the user.

B batch, H W size of the images, K bins.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.cvt import CvT
from models.fused import FusedCvT
from utils.errors import UserError, one_line

CVT_OPTIONS = {  # of torch's compiler for CvT on a GPU; docs/PERFORMANCE.md says what they are worth
    "layout_optimization": False,  # it would copy queries, keys and values to channels-last, which maps are already
    "triton.mix_order_reduction": False,  # gradients of a LayerNorm in one kernel, which is slower than two
}


def require_compiler(device: torch.device, option: str) -> None:
    """Compile a small function, to detect early whether this machine can compile.

    Args:
        device: Device to compile for.
        option: Name of the option that enables compilation, for messages.

    Raises:
        UserError: The compiler failed.
    """
    try:
        torch.compile(lambda x: x.sin() + 1, dynamic=False)(torch.zeros(2, device=device))
    except (RuntimeError, ImportError, OSError) as error:  # raised without a C++ compiler or Triton
        raise _failure(option, error) from error


def compile_network(network: nn.Module, replayed: bool = True) -> nn.Module:
    """Return the network with forward and backward compiled, once for each batch size.

    Args:
        network: RichIQA or its fused version, on its device; parameters and their names are unchanged.
        replayed: Whether GPU kernels are recorded and replayed as CUDA graphs: most of the thousands of kernels of
            CvT-21 take less time than their launch. What a call returns is then overwritten by the next.
    """
    options = {"triton.cudagraphs": replayed}  # on a CPU, too: without it, torch 2.14 with AMX makes gradients NaN
    if next(network.parameters()).device.type == "cuda" and isinstance(network.backbone, CvT | FusedCvT):
        known = torch._inductor.list_options()  # they differ from version to version
        options |= {name: value for name, value in CVT_OPTIONS.items() if name in known}
    return torch.compile(network, dynamic=False, options=options)


@contextmanager
def compiling(option: str) -> Iterator[None]:
    """Turn compiler failures into a UserError; wraps calls of a compiled network, whose first call compiles it.

    Raises:
        UserError: The compiler failed, for example on cache files that a killed process left incomplete.
    """
    from torch._dynamo.exc import TorchDynamoException  # noqa: PLC0415, a slow import

    try:
        yield
    except TorchDynamoException as error:
        raise _failure(option, error) from error


def _failure(option: str, error: Exception) -> UserError:
    reason = one_line(error).partition(" Set TORCHDYNAMO_VERBOSE")[0]
    return UserError(
        f"{option}: torch cannot compile ({reason}). It needs a C++ compiler, and Triton for a GPU. If they are "
        "installed, the cache of the compiler may be damaged: set TORCHINDUCTOR_CACHE_DIR to an empty folder. To "
        f"continue without compilation, omit {option}"
    )


class CompiledScorer:
    """Compiled network for scoring. Batches are padded to few sizes, since each size is compiled separately.

    Args:
        network: Network from normalised images (B, 3, H, W) to a DOS (B, K).
        option: Name of the option that enables compilation, for messages.
    """

    def __init__(self, network: nn.Module, option: str):
        self.network = compile_network(network)
        self.option = option
        self.unit = 1
        self.largest = 0

    def expect(self, unit: int) -> None:
        """Set the expected batch size; other batches are padded to a multiple of it."""
        self.unit = unit

    def __call__(self, images: Tensor) -> Tensor:
        """Return the DOS (B, K) of images (B, 3, H, W)."""
        count = len(images)
        self.largest = max(self.largest, math.ceil(count / self.unit) * self.unit)
        padded = F.pad(images, (0, 0, 0, 0, 0, 0, 0, self.largest - count))  # (largest, 3, H, W)
        with compiling(self.option):
            return self.network(padded)[:count].clone()  # the next call overwrites this memory
