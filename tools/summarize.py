"""Summarise runs over their splits: mean, standard deviation, median, paired tests, published numbers.

`python tools/summarize.py checkpoint/RUN... [--baseline RUN] [--selection last|validation|release]
[--metrics srcc,plcc] [--format markdown|latex|csv] [--output FILE]`. A RUN is the folder of a run, a folder that
contains runs, or a pattern such as 'checkpoint/koniq10k_*'.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from utils.script import first_line, run_script, start_imports

if __name__ == "__main__":
    start_imports()

from experiments.results.lines import SELECTION_NOTES, SUMMARY
from experiments.results.summary.comparison import summarise
from utils.files import choose_format, write_text

FORMATS = {".md": "markdown", ".tex": "latex", ".csv": "csv"}


def main(arguments: Sequence[str] | None = None) -> int:
    args = parse_arguments(arguments)
    form = choose_format(args.format, args.output, FORMATS, "markdown")
    text, notes = summarise(args.runs, args.baseline, args.selection, args.metrics, form)
    if args.output:
        write_text(args.output, text)
        print(f"written to {args.output}")
    else:
        print(text, end="")
    if args.output or form == "csv":
        print("".join(f"note: {note}\n" for note in notes), end="", file=sys.stderr)
    return 0


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=first_line(__doc__), allow_abbrev=False)
    parser.add_argument("runs", nargs="+", metavar="RUN", help="folder of a run or of runs, or a pattern")
    parser.add_argument("--baseline", metavar="RUN", help="folder or name of the run to compare the others with")
    parser.add_argument(
        "--selection",
        choices=list(SELECTION_NOTES),
        default="last",
        help="epoch of the metrics: "
        + ", ".join(f"{name} ({note})" for name, note in SELECTION_NOTES.items())
        + "; default: %(default)s",
    )
    parser.add_argument(
        "--metrics", metavar="NAMES", help=f"comma-separated, as in metrics.json; default: {','.join(SUMMARY)}"
    )
    parser.add_argument(
        "--format", choices=[*FORMATS.values()], help="default: from the suffix of --output, else markdown"
    )
    parser.add_argument("--output", metavar="FILE", type=Path, help="a .md, .tex or .csv; default: the terminal")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    run_script(main)
