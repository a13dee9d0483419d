"""Installation mistakes, said in one line before anything else is imported."""

import sys
from importlib.util import find_spec

from utils.errors import one_line

MODULES = (
    *("torch", "torchvision", "timm", "einops", "numpy", "scipy", "pandas", "PIL", "yaml", "tqdm"),
    *("pydantic", "safetensors", "huggingface_hub", "filelock"),
)
WHERE_NEEDED = ("openpyxl", "xlrd", "matplotlib", "jinja2")  # by some label files, and by what draws and reports

AT_SCALE = ("ray", "pyarrow", "fsspec")  # inference.py --engine ray


def require_packages(*more: str) -> None:
    """Leaves the process with status 2 where packages are missing; imports none of them.

    Args:
        more: Of WHERE_NEEDED, what this script cannot do without.
    """
    missing = [name for name in (*MODULES, *more) if find_spec(name) is None]
    if missing:
        _leave(f"not installed for {sys.executable}: {', '.join(missing)}")


def require_installation(*more: str) -> None:
    """The same, and where torch and torchvision do not match."""
    require_packages(*more)
    import torch

    try:
        import torchvision  # noqa: F401, the import is the test
    except (ImportError, RuntimeError, OSError) as error:  # a CPU-only torch beside the ordinary torchvision: all three
        _leave(f"torchvision does not match torch {torch.__version__} ({one_line(error)})")


def require_scale() -> None:
    """Leaves the process with status 2 where packages of requirements-scale.txt are missing; imports none of them."""
    missing = [name for name in AT_SCALE if find_spec(name) is None]
    if missing:
        print(
            f"error: --engine ray: not installed for {sys.executable}: {', '.join(missing)}; run `pip install -r "
            "requirements-scale.txt`, or leave --engine away",
            file=sys.stderr,
        )
        sys.exit(2)


def _leave(problem: str) -> None:
    print(
        f"error: {problem}; run `pip install -r requirements.txt` (torch and torchvision in one command and from one "
        "index: a CPU-only torch needs the CPU-only torchvision)",
        file=sys.stderr,
    )
    sys.exit(2)
