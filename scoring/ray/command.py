"""Score images with the Ray engine of `inference.py`."""

import argparse
import os
import sys
from collections import Counter
from collections.abc import Sequence

from ray.data import Dataset

from scoring.command import CPU_BATCH, GPU_BATCH, SHOWN_ERRORS, Tally
from scoring.defaults import is_remote, is_shard
from scoring.loading import build_predictor
from scoring.options import is_folder, with_options
from scoring.output import Output, row_format, unscored
from scoring.ray.engine import Job, build_dataset, cluster, machines, stream, write_rows
from scoring.ray.parquet_output import ParquetFolder
from scoring.ray.shards import require_columns
from scoring.ray.worker_plan import plan_workers
from scoring.records import RowBuilder
from utils.config import load_config


def score_command(args: argparse.Namespace, sources: Sequence[str]) -> int:
    """Score images as the options say; return the number of images that could not be scored.

    Raises:
        UserError: Options contradict each other, the checkpoint does not fit or the cluster does not answer; with
            --strict, a bad image.
    """
    form = None if is_folder(args.output) else row_format(args.format, args.output)
    require_columns(sources, args)
    predictor = build_predictor(with_options(args, device="cpu"))  # for its scale and checkpoint, and early errors
    row_builder = RowBuilder(predictor, args.relative_to)
    checkpoint = predictor.checkpoint
    output = Output(form, args.output, row_builder.columns, checkpoint) if form else ParquetFolder(args.output)
    output.check_overwrite(args.resume, args.overwrite)
    done = output.done(row_builder.run_fields) if args.resume else Counter()
    remaining = remaining_sources(sources, row_builder, done)
    config = load_config(args.config) if args.config is not None else None
    if row_builder.relative_to is not None and not is_remote(row_builder.relative_to):
        row_builder.relative_to = os.path.abspath(row_builder.relative_to)  # workers run in other folders
    tally = Tally()
    with cluster(args.ray_address):
        plan = plan_workers(machines(), args.device, args.workers)
        worker_args = with_options(
            args,
            checkpoint=str(checkpoint),
            config=config,
            device="cuda" if plan.gpus else "cpu",
            batch_size=args.batch_size or (GPU_BATCH if plan.gpus else CPU_BATCH),
            workers=plan.threads,
        )
        job = Job(worker_args, row_builder, os.getcwd(), frozenset(done))
        dataset = build_dataset(remaining, job, plan) if remaining else None
        if isinstance(output, ParquetFolder):
            write_folder(output, dataset, tally, args.overwrite)
        else:
            total = None if any(map(is_shard, remaining)) else len(remaining)
            output.write(tally.count(stream(dataset) if dataset is not None else (), args.strict, total))
    tally.print_errors()
    print(tally.describe(), file=sys.stderr)
    return tally.failed + output.failed


def remaining_sources(sources: Sequence[str], row_builder: RowBuilder, done: Counter[str]) -> list[str]:
    """Return the images without a row, and all shards, since only a worker reads their contents."""
    images = [source for source in sources if not is_shard(source)]
    indices = unscored(map(row_builder.name, images), done)
    return [images[index] for index in indices] + [source for source in sources if is_shard(source)]


def write_folder(folder: ParquetFolder, dataset: Dataset | None, tally: Tally, overwrite: bool) -> None:
    """Write the rows into a folder.

    Args:
        folder: The folder.
        dataset: The rows, or None if no image is left to score.
        tally: Counter, updated in place.
        overwrite: Whether existing Parquet files are removed first.
    """
    if overwrite:
        folder.clear()
    rows_before, errors_before = folder.count()
    if dataset is not None:
        write_rows(dataset, folder)
    rows, errors = folder.count()
    folder.failed = len(errors_before)
    tally.failed = len(errors) - folder.failed
    tally.scored = rows - rows_before - tally.failed
    tally.errors = errors[:SHOWN_ERRORS] if tally.failed else []
