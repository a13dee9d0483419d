"""Scores images: `python inference.py PHOTO... [--format csv] [--output FILE]`; `--help` tells all.

In Python: `from inference import load_predictor`. What is slow to import is imported when it is needed.
"""

from collections.abc import Sequence

from scoring.inputs import find_images
from scoring.options import SOME_FAILED, inputs_of, parse_arguments
from utils.installation import require_packages
from utils.script import run_script

FROM_PREDICTOR = ("Prediction", "Predictor", "load_predictor")


def __getattr__(name: str):
    """What Python programs import from here, without its cost for `--help`."""
    if name in FROM_PREDICTOR:
        require_packages()
        from scoring import predictor  # noqa: PLC0415, imports torch

        return getattr(predictor, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def main(arguments: Sequence[str] | None = None) -> int:
    args = parse_arguments(arguments)
    paths = find_images(inputs_of(args))
    require_packages(*([] if args.report is None else ["jinja2"]))
    from scoring.command import score_command  # noqa: PLC0415, imports torch

    return SOME_FAILED if score_command(args, paths) else 0


if __name__ == "__main__":
    run_script(main)
