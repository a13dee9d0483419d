"""Run one part: `python -m benchmarks.gpu PART --output DIR [--small]`."""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.gpu import epoch, inference, parity, profile, training
from benchmarks.gpu.sizes import Sizes, choose_sizes
from benchmarks.rows import Rows
from utils.script import run_script

PARTS: dict[str, Callable[[Rows, Sizes], None]] = {
    "parity": parity.measure,
    "inference": inference.measure,
    "inference_compiled": inference.measure_compiled,
    "training": training.measure,
    "training_large": training.measure_large,
    "agreement": training.measure_agreement,
    "epoch": epoch.measure,
    "profile": profile.measure,
}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__, allow_abbrev=False)
    parser.add_argument("part", choices=list(PARTS))
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="where PART.jsonl is written")
    parser.add_argument("--small", action="store_true", help="try the code on the CPU, with sizes that measure nothing")
    args = parser.parse_args(arguments)
    PARTS[args.part](Rows(args.output / f"{args.part}.jsonl"), choose_sizes(args.small))
    return 0


if __name__ == "__main__":
    run_script(main)
