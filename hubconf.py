"""Entry point for `torch.hub.load(FOLDER, "richiqa", source="local")`, with `checkpoint=FILE` for other weights."""

import sys
from importlib import import_module
from pathlib import Path

dependencies = ["torch", "timm", "einops", "numpy", "PIL", "yaml", "pydantic", "safetensors"]

ROOT = str(Path(__file__).resolve().parent)


def richiqa(checkpoint=None, device="auto", **options):
    """Load a predictor, by default with the weights that come with the project.

    See `load_predictor` in scoring/loading.py for arguments and errors.

    The project is loaded as the package `richiqa`, so that names such as `utils` and `datasets` stay free for others.
    """
    before = sys.path[:]
    if ROOT not in sys.path:
        sys.path.insert(0, ROOT)
    package = import_module("richiqa")
    sys.path[:] = [folder for folder in sys.path if folder != ROOT]  # here, `datasets` would be found by others
    try:
        return package.load_predictor(checkpoint, device, **options)
    finally:
        sys.path[:] = before  # torch.hub removes the folder itself
