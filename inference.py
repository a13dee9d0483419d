"""Scores images: `python inference.py PHOTO... [--format csv] [--output FILE]`; `--help` tells all.

In Python: `from inference import load_predictor`. What is slow to import is imported when it is needed.
"""

from collections.abc import Sequence
from importlib import import_module

from scoring.defaults import RAY, SOME_FAILED
from scoring.inputs import find_images
from scoring.options import inputs_of, parse_arguments
from utils.installation import require_packages, require_scale
from utils.script import end_at_once, run_script

HOMES = {
    "load_predictor": "scoring.loading",
    "Predictor": "scoring.predictor",
    "Prediction": "scoring.predictor",
    "PictureSettings": "scoring.pictures",
}


def __getattr__(name: str):
    """What Python programs import from here, without its cost for `--help`."""
    if name in HOMES:
        require_packages()
        return getattr(import_module(HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def main(arguments: Sequence[str] | None = None) -> int:
    args = parse_arguments(arguments)
    if args.engine == RAY:
        require_scale()
    paths = find_images(inputs_of(args))
    require_packages()
    home = import_module("scoring.ray.command" if args.engine == RAY else "scoring.command")  # imports torch
    return SOME_FAILED if home.score_command(args, paths) else 0


if __name__ == "__main__":
    run_script(main, end_at_once)
