"""Run the benchmarks: `python benchmarks/run.py [--only NAME ...] [--json FILE]`.

Each benchmark runs in its own process, so that memory left over from another cannot change its ratio.
"""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from datetime import date
from multiprocessing import get_context
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from utils.script import run_script, start_imports

if __name__ == "__main__":
    start_imports()

from utils.installation import require_installation

require_installation()

import torch
from tqdm import tqdm

from benchmarks import beside_others, cold_start, data_cache, evaluation, inference, lite, memory, training
from benchmarks.rows import Measured, table_of
from models.precision import AUTO, FP32
from utils.files import to_json, write_text
from utils.runtime import environment, pick_device
from utils.tables import to_markdown

BENCHMARKS: dict[str, Callable[[], list[Measured]]] = {
    "cold_start": cold_start.measure,
    "beside_others": beside_others.measure,
    "inference_fp32_b1": lambda: inference.measure(FP32),
    "inference_auto_b1": lambda: inference.measure(AUTO),
    "inference_fp32_best": inference.measure_batches,
    "lite": lite.measure,
    "evaluation": evaluation.measure,
    "peak_memory": memory.measure,
    "matmul_ceiling": inference.measure_ceiling,
    "data_cache": data_cache.measure,
    "train_parts": training.measure_parts,
    "train_step_fp32": training.measure,
}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--only", nargs="+", choices=list(BENCHMARKS), metavar="NAME", help=", ".join(BENCHMARKS))
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the rows as JSON")
    args = parser.parse_args(arguments)
    chosen = [name for name in BENCHMARKS if name in (args.only or BENCHMARKS)]
    with tqdm(chosen, disable=None, leave=False) as bar:
        rows = [row for name in bar for row in _in_new_process(name, bar)]
    print(to_markdown(table_of(rows)))
    versions = ", ".join(f"{name} {version}" for name, version in environment(pick_device("auto")).items())
    print(f"\n{date.today():%Y-%m-%d}, {torch.get_num_threads()} threads, {versions}")
    print("GPU benchmarks: benchmarks/gpu_all.sh")
    if args.json:
        write_text(args.json, to_json(rows, indent=2) + "\n")
    return 0


def _in_new_process(name: str, bar: tqdm) -> list[dict]:
    bar.set_description(name)
    forked = os.name == "posix" and not torch.cuda.is_available()  # forking saves the imports but cannot use a GPU
    context = get_context("forkserver" if forked else "spawn")
    if forked:
        context.set_forkserver_preload(["benchmarks.run"])
    with ProcessPoolExecutor(1, mp_context=context) as process:
        return process.submit(rows_of, name).result()


def rows_of(name: str) -> list[dict]:
    """Run one benchmark in this process and return its rows."""
    return [row.as_row() for row in BENCHMARKS[name]()]


if __name__ == "__main__":
    run_script(main)
