"""Score images: `python inference.py PHOTO... [--format csv] [--output FILE]`; `--help` lists every option.

In Python: `from inference import load_predictor`. Slow imports wait until they are needed.
"""

import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parent))  # missing under python -P or -I

from scoring.defaults import RAY, SOME_FAILED
from scoring.inputs import find_images
from scoring.options import parse_arguments
from utils.installation import require_packages, require_ray_packages
from utils.script import run_script, slow_imports

PREFIX = __name__.removesuffix("inference") if __name__ != "__main__" else ""  # `richiqa.` in other programs
EXPORTS = {  # by public name, the module that defines it
    "load_predictor": "scoring.loading",
    "Predictor": "scoring.predictor",
    "Prediction": "scoring.predictor",
    "PictureSettings": "scoring.pictures",
}


def __getattr__(name: str):
    """Import a public name on first use, so that `--help` does not wait for torch."""
    if name in EXPORTS:
        require_packages()
        return getattr(import_module(PREFIX + EXPORTS[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def main(arguments: Sequence[str] | None = None) -> int:
    args = parse_arguments(arguments)
    if args.engine == RAY:
        require_ray_packages()
    paths = find_images(args)
    require_packages()
    engine = "scoring.ray.engine" if args.engine == RAY else "scoring.command"
    with slow_imports():
        command = import_module(PREFIX + engine)  # imports torch
    return SOME_FAILED if command.score_command(args, paths) else 0


if __name__ == "__main__":
    run_script(main, exit_at_once=True)
