"""The one installation mistake worth a message of its own."""

import sys

from utils.errors import one_line


def require_matching_torch() -> None:
    """Leaves the process with status 2 and one line where torch and torchvision are missing or do not match."""
    try:
        import torch
    except ImportError as error:
        _leave(f"torch cannot be imported ({error})")
    try:
        import torchvision  # noqa: F401, the import is the test
    except (ImportError, RuntimeError, OSError) as error:  # a CPU-only torch beside the ordinary torchvision: all three
        _leave(f"torchvision does not match torch {torch.__version__} ({one_line(error)})")


def _leave(problem: str) -> None:
    print(
        f"error: {problem}; install both in one command and from one index: pip install -r requirements.txt "
        "(a CPU-only torch needs the CPU-only torchvision)",
        file=sys.stderr,
    )
    sys.exit(2)
