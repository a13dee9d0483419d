"""Write the model card of the shipped network: what it is, its results, calibration, robustness and failures.

`python tools/model_card.py IMAGE ... [--checkpoint FILE] [--evaluations FOLDER ...] [--output FILE]`. The evaluations
are those of `main.py --evaluate FILE`; one must be of CLIVE, whose images may be shown. IMAGE is a photograph for
robustness and speed, a folder or a pattern, as for inference.py; about 20 photographs that were not in the training.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from utils.script import first_line, run_script, start_imports

if __name__ == "__main__":
    start_imports()

from utils.installation import require_installation

require_installation("jinja2", "matplotlib")

from experiments.evaluation.evaluate import FOLDER, checkpoint_label
from experiments.model_card.card import write_card
from scoring.inputs import find_images
from scoring.loading import RUNS, find_checkpoint
from scoring.options import add_inputs, parse_photographs
from utils.files import require_place

CARD = Path("docs") / "MODEL_CARD.md"


def main(arguments: Sequence[str] | None = None) -> int:
    args = parse_arguments(arguments)
    require_place(args.output.parent)
    checkpoint = find_checkpoint(args.checkpoint)
    folders = args.evaluations or [RUNS / FOLDER / checkpoint_label(checkpoint)]
    figure = write_card(checkpoint, folders, find_images(args), args.output, args.observation)
    print(f"written to {args.output} and {figure}")
    return 0


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=first_line(__doc__), allow_abbrev=False)
    add_inputs(parser.add_argument_group("photographs"))
    parser.add_argument("--checkpoint", metavar="FILE", help="as for inference.py")
    parser.add_argument(
        "--evaluations",
        metavar="FOLDER",
        type=Path,
        action="append",
        help=f"folder with evaluations, may be repeated; default: that of the file in {RUNS / FOLDER}",
    )
    parser.add_argument("--observation", metavar="TEXT", help="what the images of the figure have in common")
    parser.add_argument("--output", metavar="FILE", type=Path, default=CARD, help="default: %(default)s")
    return parse_photographs(parser, arguments)


if __name__ == "__main__":
    run_script(main)
