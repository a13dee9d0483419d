"""Measure whether the predicted quality falls as photographs are damaged more, for 28 kinds of damage.

`python tools/robustness.py IMAGE ... [--checkpoint FILE] [--preprocess METHOD] [--output FILE]`. IMAGE is a file, a
folder or a pattern, as for inference.py. Exit status: 0, or 3 if some photographs could not be read.
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

require_installation()

from experiments.evaluation.robustness import measure, to_text
from scoring.defaults import PREPROCESS, SOME_FAILED
from scoring.inputs import find_images
from scoring.loading import load_predictor
from scoring.options import add_inputs, parse_photographs
from utils.errors import printable
from utils.files import choose_format, require_place, to_json, write_text

FORMATS = {".md": "markdown", ".csv": "csv", ".json": "json"}


def main(arguments: Sequence[str] | None = None) -> int:
    args = parse_arguments(arguments)
    form = choose_format(None, args.output, FORMATS, "markdown")
    if args.output:
        require_place(args.output.parent)
    paths = find_images(args)
    predictor = load_predictor(args.checkpoint, args.device, preprocess=args.preprocess)
    rows, errors = measure(predictor, paths, args.batch_size)
    print("".join(f"left out: {printable(error)}\n" for error in errors), end="", file=sys.stderr)
    text = to_text(rows)
    if args.output:
        content = {"markdown": text + "\n", "csv": rows.to_csv(index=False)}
        write_text(args.output, content[form] if form in content else to_json(rows.to_dict("records"), indent=1) + "\n")
    print(text)
    return SOME_FAILED if errors else 0


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=first_line(__doc__), allow_abbrev=False)
    add_inputs(parser.add_argument_group("photographs"))
    parser.add_argument("--checkpoint", metavar="FILE", help="as for inference.py")
    parser.add_argument("--device", default="auto", help="auto (default), cpu, cuda, cuda:1, mps")
    parser.add_argument("--preprocess", choices=PREPROCESS, default=PREPROCESS[0], help="as for inference.py")
    parser.add_argument("--batch-size", type=int, default=8, metavar="N", help="default: %(default)s")
    parser.add_argument(
        "--output",
        metavar="FILE",
        type=Path,
        help="a .csv or .json with one row per photograph and kind, or a .md with the table that is printed",
    )
    return parse_photographs(parser, arguments)


if __name__ == "__main__":
    run_script(main)
