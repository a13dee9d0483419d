"""Attack the project at length and write what came out into docs/RELIABILITY.md.

python -m tests.torture                    all parts; interrupt it at will, the next call continues
python -m tests.torture --parts NAME ...   some of them
python -m tests.torture --share 0.05       a twentieth of each, for a first look; the page is left as it is
"""

import argparse
import math
import subprocess
import sys
from pathlib import Path

from tests.torture import (
    bits,
    command_crashes,
    disk,
    fuzz,
    hostile,
    load,
    mutants,
    numbers,
    portability,
    score_crashes,
    train_crashes,
    visitors,
)
from tests.torture.part import Part, Result, read_results, run_part

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "RELIABILITY.md"
BEGIN, END = "<!-- made by `make torture`: begin -->\n", "<!-- end -->\n"
PARTS: tuple[Part, ...] = (
    *train_crashes.PARTS,
    *score_crashes.PARTS,
    *command_crashes.PARTS,
    *disk.PARTS,
    *bits.PARTS,
    *numbers.PARTS,
    *mutants.PARTS,
    *hostile.PARTS,
    *fuzz.PARTS,
    *load.PARTS,
    *visitors.PARTS,
    *portability.PARTS,
)


def table(results: dict[Part, list[Result]]) -> str:
    """Return the results as Markdown, a row for each part."""
    rows = ["| attack | tried | must hold | defects | measured | time |", "|---|---|---|---|---|---|"]
    for part, outcomes in results.items():
        tried = f"{len(outcomes) * part.inputs:,} of {part.count * part.inputs:,}"
        defects = sum(bool(result.defect) for result in outcomes)
        figures = "; ".join(dict.fromkeys(result.figure for result in outcomes if result.figure))
        minutes = sum(result.seconds for result in outcomes) / 60
        rows.append(f"| {part.attack} | {tried} | {part.holds} | {defects} | {figures} | {minutes:.0f} min |")
    return "\n".join(rows) + "\n"


def write_page(results: dict[Part, list[Result]]) -> None:
    """Replace what the page says between its two marks."""
    commit = subprocess.check_output(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, text=True).strip()
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    made = f"Ended on commit {commit}.\n\n{table(results)}"
    PAGE.write_text(f"{before}{BEGIN}\n{made}\n{END}{rest.partition(END)[2]}", encoding="utf-8")


def main() -> int:
    """Run the parts; return 1 if there was a defect."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [part.name for part in PARTS]
    parser.add_argument("--parts", nargs="+", choices=names, default=names, help="parts to run (all)")
    parser.add_argument("--share", type=float, default=1, help="share of the attempts to make (1)")
    parser.add_argument("--folder", type=Path, default=ROOT / ".torture", help="results of attempts (.torture)")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    for part in PARTS:
        if part.name in options.parts:
            print(f"{part.name}: {part.attack}", flush=True)
            run_part(part, options.folder, math.ceil(part.count * options.share))
    results = {part: read_results(part, options.folder) for part in PARTS}
    print(table(results))
    if all(len(outcomes) >= part.count for part, outcomes in results.items()):
        write_page(results)
    return int(any(result.defect for outcomes in results.values() for result in outcomes))


if __name__ == "__main__":
    sys.exit(main())
