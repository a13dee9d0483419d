"""Score images with the Ray engine of `inference.py`."""

import argparse
import os
import sys
from collections import Counter
from collections.abc import Sequence

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
    images, shards = ([source for source in sources if is_shard(source) == kind] for kind in (False, True))
    images = unscored(images, map(row_builder.name, images), done)
    remaining = images + shards  # only a worker reads what is in a shard
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
            if args.overwrite:
                output.clear()
            if dataset is not None:
                write_rows(dataset, output)
            rows, errors = output.count()
            tally.failed = len(errors) - output.failed
            tally.scored = rows - done.total() - tally.failed
            tally.errors = errors[:SHOWN_ERRORS] if tally.failed else []
        else:
            total = None if shards else len(images)
            output.write(tally.count(stream(dataset) if dataset is not None else (), args.strict, total))
    tally.print_errors()
    print(tally.describe(), file=sys.stderr)
    return tally.failed + output.failed
