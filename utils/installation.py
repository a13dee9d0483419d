"""Checks of the installation, made before anything else is imported."""

import sys
from importlib.util import find_spec

from utils.errors import one_line

MODULES = (
    *("torch", "torchvision", "timm", "einops", "numpy", "scipy", "pandas", "PIL", "yaml", "tqdm"),
    *("pydantic", "safetensors", "huggingface_hub", "filelock"),
)
WHERE_NEEDED = ("openpyxl", "xlrd", "matplotlib", "jinja2")  # for some label files, figures and reports
RAY_MODULES = ("ray", "pyarrow")  # for inference.py --engine ray
PAGE_MODULES = ("gradio", "matplotlib", "jinja2")  # for app.py
INSTALL = (
    "run `pip install -r requirements.txt` (torch and torchvision in one command and from one index: a CPU-only torch "
    "needs the CPU-only torchvision)"
)


def require_packages(*more: str) -> None:
    """Exit with status 2 if packages are missing; imports none of them.

    Args:
        more: Packages from WHERE_NEEDED that this script also needs.
    """
    _require((*MODULES, *more), "", INSTALL)


def require_installation(*more: str) -> None:
    """Exit with status 2 if packages are missing, or if torch and torchvision do not match."""
    require_packages(*more)
    import torch

    try:
        import torchvision  # noqa: F401, the import is the test
    except (ImportError, RuntimeError, OSError) as error:  # a CPU-only torch with the ordinary torchvision: all three
        _exit(f"torchvision does not match torch {torch.__version__} ({one_line(error)}); {INSTALL}")


def require_ray_packages() -> None:
    """Exit with status 2 if packages from requirements-scale.txt are missing; imports none of them."""
    _require(RAY_MODULES, "--engine ray: ", "run `pip install -r requirements-scale.txt`, or omit --engine")


def require_page_packages() -> None:
    """Exit with status 2 if packages from requirements-app.txt are missing; imports none of them."""
    _require(PAGE_MODULES, "", "run `pip install -r requirements-app.txt`")


def _require(modules: tuple[str, ...], option: str, advice: str) -> None:
    missing = [name for name in modules if find_spec(name) is None]
    if missing:
        _exit(f"{option}not installed for {sys.executable}: {', '.join(missing)}; {advice}")


def _exit(problem: str) -> None:
    print(f"error: {problem}", file=sys.stderr)
    sys.exit(2)
