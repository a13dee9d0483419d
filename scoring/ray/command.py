"""What `inference.py --engine ray` does once its command line is understood."""

import argparse
import os
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from ray.data import Dataset

from scoring.command import CPU_BATCH, GPU_BATCH, describe_errors, write
from scoring.defaults import is_remote, is_shard
from scoring.loading import build_predictor
from scoring.local import Tally, progress
from scoring.options import changed, is_folder
from scoring.output import Output, format_of, left_of
from scoring.ray.engine import Job, build_dataset, cluster, machines, stream, write_parts
from scoring.ray.parquet_output import ParquetFolder
from scoring.ray.shards import Columns, require_columns
from scoring.ray.worker_plan import WorkerPlan, plan_workers
from scoring.records import Record, Recorder
from utils.config import load_config

SHOWN_ERRORS = 3


def score_command(args: argparse.Namespace, sources: Sequence[str]) -> int:
    """Scores images as the options say; returns how many could not be scored.

    Raises:
        UserError: Options that do not go together, a checkpoint that does not fit, a cluster that does not answer; with
            --strict, a bad image.
    """
    form = None if is_folder(args.output) else format_of(args.format, args.output)
    columns = Columns(args.image_column, args.image_bytes)
    require_columns([source for source in sources if is_shard(source)], columns)
    predictor = build_predictor(changed(args, device="cpu"))  # here for its scale, its checkpoint and early errors
    recorder = Recorder(predictor, args.relative_to)
    checkpoint = predictor.checkpoint
    if form is None:
        output = ParquetFolder(args.output)
    else:
        output = Output(form, args.output, lambda kind: kind(recorder.columns, str(checkpoint)))
    output.check_overwrite(args.resume, args.overwrite)
    done = output.done(recorder.same) if args.resume else Counter()
    left = remaining(sources, recorder, done)
    tally = Tally()
    with cluster(args.ray_address):
        plan = plan_workers(machines(), args.device, args.workers)
        job = job_of(args, checkpoint, recorder, columns, plan, done)
        dataset = build_dataset(left, job, plan, checkpoint) if left else None
        if isinstance(output, ParquetFolder):
            errors = fill(output, dataset, tally, args.overwrite)
        else:
            rows = stream(dataset) if dataset is not None else iter(())
            total = None if any(map(is_shard, left)) else len(left)
            errors = write(counted(rows, tally, total), output, args.strict)
    describe_errors(tally, errors)
    print(tally.describe(), file=sys.stderr)
    return tally.failed + output.failed


def remaining(sources: Sequence[str], recorder: Recorder, done: Counter[str]) -> list[str]:
    """What is not done: of single images those without a record; shards all, since only a worker sees inside."""
    images = [source for source in sources if not is_shard(source)]
    left = left_of(map(recorder.name, images), done)
    return [images[index] for index in left] + [source for source in sources if is_shard(source)]


def job_of(
    args: argparse.Namespace,
    checkpoint: Path,
    recorder: Recorder,
    columns: Columns,
    plan: WorkerPlan,
    done: Counter[str],
) -> Job:
    """What workers are told, so that nothing of it depends on the machine that they are on."""
    config = load_config(args.config) if args.config is not None else None
    device = "cuda" if plan.gpus else "cpu"
    told = changed(args, checkpoint=str(checkpoint), config=config, device=device)
    if recorder.relative_to is not None and not is_remote(recorder.relative_to):
        recorder.relative_to = os.path.abspath(recorder.relative_to)
    batch_size = args.batch_size or (GPU_BATCH if plan.gpus else CPU_BATCH)
    return Job(told, recorder, columns, batch_size, plan.threads, os.getcwd(), frozenset(done))


def counted(rows: Iterator[list[Record]], tally: Tally, total: int | None) -> Iterator[list[Record]]:
    """The same rows, counted, with progress on the standard error."""
    with progress(total) as bar:
        for records in rows:
            tally.add(records)
            yield records
            bar.update(len(records))


def fill(parts: ParquetFolder, dataset: Dataset | None, tally: Tally, overwrite: bool) -> list[str]:
    """Writes a folder; returns some of the errors that are in it.

    Args:
        parts: The folder.
        dataset: Records; None: there is nothing left to score.
        tally: Is kept.
        overwrite: Whether what is there is removed.
    """
    if overwrite:
        parts.clear()
    rows, parts.failed = parts.count()
    if dataset is not None:
        write_parts(dataset, parts)
    now, failed = parts.count()
    tally.failed = failed - parts.failed
    tally.scored = now - rows - tally.failed
    return parts.errors(SHOWN_ERRORS) if tally.failed else []
