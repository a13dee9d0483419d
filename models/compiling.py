"""torch's compiler: whether it works here, and what it says where it fails.

B batch, H W size of the images, K bins.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from utils.errors import UserError, one_line

# Kernels of a GPU are recorded once and replayed, since CvT-21 has hundreds that each take less than their launch.
# On other devices the mode changes nothing.
REPLAYED = "reduce-overhead"


def require_compiler(device: torch.device, option: str) -> None:
    """Compiles a function of one line, so that a machine that cannot compile says so at once.

    Args:
        device: That is compiled for.
        option: Which asked for it, as its user knows it.

    Raises:
        UserError: The compiler failed.
    """
    try:
        torch.compile(lambda x: x.sin() + 1, dynamic=False)(torch.zeros(2, device=device))
    except (RuntimeError, ImportError, OSError) as error:  # what torch raises without a C++ compiler or Triton
        raise _failure(option, error) from error


@contextmanager
def compiling(option: str) -> Iterator[None]:
    """Around the calls of what is compiled, since a network is compiled by its first.

    Raises:
        UserError: The compiler failed, as it does on files of its own that a killed process left half written.
    """
    from torch._dynamo.exc import TorchDynamoException  # noqa: PLC0415, nothing else needs it

    try:
        yield
    except TorchDynamoException as error:
        raise _failure(option, error) from error


def _failure(option: str, error: Exception) -> UserError:
    reason = one_line(error).partition(" Set TORCHDYNAMO_VERBOSE")[0]
    return UserError(
        f"{option}: torch cannot compile here ({reason}). It needs a C++ compiler, for a GPU Triton. If it has them, "
        f"its own files may be damaged: set TORCHINDUCTOR_CACHE_DIR to an empty folder. Or go without {option}"
    )


class CompiledScorer:
    """A network compiled for scoring, which is shown as few sizes of batches as can be: each is compiled by itself.

    Args:
        network: From normalised images (B, 3, H, W) to a DOS (B, K).
        option: Which asked for it, as its user knows it.
    """

    def __init__(self, network: nn.Module, option: str):
        self.network = torch.compile(network, dynamic=False, mode=REPLAYED)
        self.option = option
        self.unit = 1
        self.largest = 0

    def expect(self, unit: int) -> None:
        """Says that batches will be of so many images or a multiple, but for some that are smaller."""
        self.unit = unit

    def __call__(self, images: Tensor) -> Tensor:
        """DOS (B, K) of images (B, 3, H, W)."""
        count = len(images)
        self.largest = max(self.largest, math.ceil(count / self.unit) * self.unit)
        filled = F.pad(images, (0, 0, 0, 0, 0, 0, 0, self.largest - count))  # (largest, 3, H, W)
        with compiling(self.option):
            return self.network(filled)[:count].clone()  # the next replay writes to the same memory
