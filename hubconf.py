"""Entry point for `torch.hub.load(FOLDER, "richiqa", source="local", checkpoint=FILE)`."""

import sys
from pathlib import Path

dependencies = ["torch", "timm", "einops", "numpy", "PIL", "yaml", "pydantic", "safetensors"]

ROOT = Path(__file__).resolve().parent
PACKAGES = ("datasets", "models", "scoring", "utils")


def richiqa(checkpoint=None, device="auto", **options):
    """Load a predictor from a checkpoint; see `load_predictor` in scoring/loading.py for arguments and errors.

    Raises:
        ImportError: Another package with one of our names, such as Hugging Face's `datasets`, is already imported.
    """
    imported = {name: str(getattr(sys.modules[name], "__file__", "")) for name in PACKAGES if name in sys.modules}
    foreign = [f"{name} ({path})" for name, path in imported.items() if not Path(path).resolve().is_relative_to(ROOT)]
    if foreign:
        raise ImportError(f"RichIQA has packages of the same names: {', '.join(foreign)}; load it in its own process")
    from scoring.loading import load_predictor  # noqa: PLC0415, only after the name check

    return load_predictor(checkpoint, device, **options)
