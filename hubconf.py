"""For `torch.hub.load(FOLDER, "richiqa", source="local", checkpoint=FILE)`."""

import sys
from pathlib import Path

dependencies = ["torch", "timm", "einops", "numpy", "PIL", "yaml", "pydantic", "safetensors"]

HERE = Path(__file__).resolve().parent
PACKAGES = ("datasets", "models", "scoring", "utils")


def richiqa(checkpoint=None, device="auto", **options):
    """A predictor from a checkpoint: see `load_predictor` in scoring/loading.py for its arguments and errors.

    Raises:
        ImportError: Another package of one of our names, such as Hugging Face's `datasets`, is imported already.
    """
    taken = {name: str(getattr(sys.modules[name], "__file__", "")) for name in PACKAGES if name in sys.modules}
    foreign = [f"{name} ({place})" for name, place in taken.items() if not Path(place).resolve().is_relative_to(HERE)]
    if foreign:
        named = ", ".join(foreign)
        raise ImportError(f"RichIQA has packages of the same names: {named}; load it in a process of its own")
    from scoring.loading import load_predictor  # noqa: PLC0415, once the names are known to be ours

    return load_predictor(checkpoint, device, **options)
