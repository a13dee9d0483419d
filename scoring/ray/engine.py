"""Engine for many processes, GPUs or machines: Ray Data runs workers, and replaces those that crash.

Ray schedules the tasks, replaces workers that die, repeats their tasks and takes each result once. A worker processes
its tasks as the local engine processes all images. Needs the packages in requirements-scale.txt.
"""

import argparse
import logging
import os
import signal
import socket
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

# read by Ray on import: it sends no usage statistics, and crashes are reported in our own messages
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")

import pyarrow as pa
import ray
from ray.data import ActorPoolStrategy, Dataset

from scoring.command import CPU_BATCH, GPU_BATCH, SHOWN_ERRORS, Tally, score_rows
from scoring.conditions import RowFilter
from scoring.defaults import is_remote, is_shard
from scoring.done_images import DoneImages
from scoring.loading import build_predictor
from scoring.options import is_folder, with_options
from scoring.output import Output, row_format
from scoring.parquet import schema_for
from scoring.pictures import Encoded
from scoring.ray.parquet_output import ParquetFolder
from scoring.ray.remote_files import remote_image
from scoring.ray.shards import images_in, require_columns
from scoring.ray.worker_plan import WorkerPlan, plan_workers, split_tasks
from scoring.records import RowBuilder
from utils.config import load_config
from utils.errors import MachineError, UserError, one_line, shortened
from utils.files import temporary_folder
from utils.threads import usable_cores

ROOT = Path(__file__).parents[2]
PACKAGES = ("scoring", "models", "datasets", "utils")  # sent to workers, whose machines may not have them
RETRIES = 3  # of one task: an image that always kills its worker must not block the run forever
BLOCK_BYTES = 2**16  # of rows that a worker collects before it returns them; a megabyte would be thousands
ROWS_PER_FILE = 1000
CONNECT_SECONDS = 10
SOURCE = "source"


def score_command(args: argparse.Namespace, sources: Sequence[str]) -> int:
    """Score images as the options say; return the number of images that could not be scored.

    Raises:
        UserError: Options contradict each other, the checkpoint does not fit or the cluster does not answer; with
            --strict, a bad image.
    """
    form = None if is_folder(args.output) else row_format(args.format, args.output)
    sources = require_columns(sources, args)
    predictor = build_predictor(with_options(args, device="cpu"))  # for its scale and checkpoint, and early errors
    row_builder = RowBuilder(predictor, args.relative_to, args.panel)
    keep = RowFilter(args.keep, row_builder.columns)
    checkpoint = predictor.checkpoint
    columns = row_builder.columns
    output = Output(form, args.output, columns, checkpoint) if form else ParquetFolder(args.output, columns)
    output.check_overwrite(args.resume, args.overwrite)
    done = output.done(row_builder.run_fields) if args.resume else DoneImages()
    if args.resume:
        keep.check_stored(output.kept(), args.output)
    images, shards = ([source for source in sources if is_shard(source) == kind] for kind in (False, True))
    images = done.unscored(images, map(row_builder.name, images))
    remaining = images + shards  # only a worker reads what is in a shard
    config = load_config(args.config) if args.config is not None else None
    if row_builder.relative_to is not None and not is_remote(row_builder.relative_to):
        row_builder.relative_to = os.path.abspath(row_builder.relative_to)  # workers run in other folders
    tally = Tally(keep)
    with cluster(args.ray_address):
        plan = plan_workers(machines(), args.device, args.workers)
        worker_args = with_options(
            args,
            checkpoint=str(checkpoint),
            config=config,
            device="cuda" if plan.gpus else "cpu",
            batch_size=args.batch_size or (GPU_BATCH if plan.gpus else CPU_BATCH),
            workers=plan.threads,
            threads=args.threads or plan.threads,
        )
        job = Job(worker_args, row_builder, os.getcwd(), done, RowFilter(None, ()) if form else keep)
        dataset = build_dataset(remaining, job, plan) if remaining else None
        total = None if shards else len(images)
        with _translated_errors():
            if isinstance(output, ParquetFolder):
                write_folder(output, dataset, args.overwrite, len(done), tally, total)
            else:
                tables = dataset.iter_batches(batch_size=None, batch_format="pyarrow") if dataset is not None else ()
                batches = (table.to_pylist() for table in tables if table.num_rows)
                output.write(tally.count(batches, args.strict, total))
    tally.print_errors()
    print(tally.describe(), file=sys.stderr)
    return tally.failed + output.failed


@dataclass(frozen=True)
class Job:
    """What all workers share.

    Args:
        args: The options; those of the checkpoint, config, device, batch size and threads are the worker's.
        row_builder: Builds the rows.
        folder: Working folder for relative paths, on machines that have it.
        done: Images that already have a row, also those in shards.
        keep: Selects the rows that a worker returns.
    """

    args: argparse.Namespace
    row_builder: RowBuilder
    folder: str
    done: DoneImages
    keep: RowFilter


class Scorer:
    """Score a table of file names in a worker process; holds the worker's network."""

    def __init__(self, references: Sequence[ray.ObjectRef]):
        content, self.job = ray.get(list(references))
        if os.path.isdir(self.job.folder):
            os.chdir(self.job.folder)
        with temporary_folder() as folder:
            path = folder / "checkpoint.pt"
            path.write_bytes(content)
            self.predictor = build_predictor(with_options(self.job.args, checkpoint=path))
        self.predictor.checkpoint = Path(self.job.args.checkpoint)  # its name in errors

    def __call__(self, table: pa.Table) -> Iterator[pa.Table]:
        images = (image for source in table[SOURCE].to_pylist() for image in self._images_at(os.fsdecode(source)))
        args, row_builder = self.job.args, self.job.row_builder
        for rows in score_rows(images, self.predictor, row_builder, args.batch_size, args.workers):
            yield pa.Table.from_pylist(self.job.keep.rows(rows), schema=schema_for(row_builder.columns))

    def _images_at(self, source: str) -> Iterator[str | Encoded]:
        if not is_shard(source):
            yield remote_image(source) if is_remote(source) else source
            return
        for image in images_in(source, self.job.args):
            if self.job.row_builder.name(image.name) not in self.job.done:
                yield image


@contextmanager
def cluster(address: str | None) -> Iterator[None]:
    """Connect to a Ray cluster: the one this process already uses, the one at an address, or a new local one.

    Messages from Ray, such as that a worker died, go to stderr.

    Raises:
        UserError: The address does not answer.
    """
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # its errors are also raised
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.target_max_block_size = BLOCK_BYTES
    with redirect_stdout(sys.stderr):
        if ray.is_initialized():
            yield
            return
        where = {"include_dashboard": False} if address is None else {"address": address}
        if address is None and not os.environ.get("RAY_ADDRESS"):  # Ray ignores limits of the process
            where["num_cpus"] = usable_cores()
        packages = {"py_modules": [str(ROOT / name) for name in PACKAGES]}
        try:
            host, _, port = (address or "").rpartition("://")[2].rpartition(":")
            if host and port.isdigit():  # HOST:PORT, with or without ray://; Ray itself would try for minutes
                socket.create_connection((host, int(port)), timeout=CONNECT_SECONDS).close()
            handler = signal.getsignal(signal.SIGTERM)
            ray.init(log_to_driver=False, logging_level=logging.ERROR, runtime_env=packages, **where)
            signal.signal(signal.SIGTERM, handler)  # Ray's exits with status 1 or 15
        except SystemExit as error:  # from Ray's handler, before it is replaced
            raise KeyboardInterrupt from error
        except (OSError, ValueError, RuntimeError) as error:
            place = f"--ray-address: {address}" if address is not None else "--engine ray"
            raise UserError(f"{place}: no Ray cluster is available: {one_line(error)}") from error
        try:
            yield
        finally:
            ray.shutdown()


def machines() -> list[tuple[int, int]]:
    """Return the numbers of cores and GPUs of each machine in the cluster."""
    alive = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    return [(int(resources.get("CPU", 0)), int(resources.get("GPU", 0))) for resources in alive]


def build_dataset(sources: Sequence[str], job: Job, plan: WorkerPlan) -> Dataset:
    """Return the rows of all images as a lazy dataset, in no particular order."""
    tasks = split_tasks(sources, job.args.batch_size, plan.workers)
    blocks = [pa.table({SOURCE: [os.fsencode(path) for path in task]}) for task in tasks]  # not always UTF-8
    references = [ray.put(Path(job.args.checkpoint).read_bytes()), ray.put(job)]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`ray_remote_args` is deprecated")  # the last two have no other way
        return ray.data.from_arrow(blocks).map_batches(
            Scorer,
            fn_constructor_args=[references],
            batch_size=None,
            batch_format="pyarrow",
            compute=ActorPoolStrategy(size=min(plan.workers, len(blocks))),
            num_cpus=plan.cpus,
            num_gpus=plan.gpus,
            max_restarts=-1,
            max_task_retries=RETRIES,
        )


def write_folder(
    folder: ParquetFolder, dataset: Dataset | None, overwrite: bool, before: int, tally: Tally, total: int | None
) -> None:
    """Let the workers write rows into a folder, one file per ROWS_PER_FILE rows, and count the new ones.

    Args:
        folder: The folder.
        dataset: The rows, or None if no image is left to score.
        overwrite: Whether existing files are removed first.
        before: Number of rows in the folder that are kept.
        tally: Counter, updated in place.
        total: Number of images to score; None if it is unknown.
    """
    if overwrite:
        folder.clear()
    if dataset is not None:  # the workers use all cores, so writing reserves none
        dataset.write_parquet(
            folder.path, filesystem=folder.filesystem, min_rows_per_file=ROWS_PER_FILE, ray_remote_args={"num_cpus": 0}
        )
    rows, errors = folder.count()
    tally.failed = len(errors) - folder.failed
    tally.scored = rows - before - tally.failed
    if tally.keep.text is not None:  # nothing else was written
        tally.keep.passed, tally.scored = tally.scored, None if total is None else total - tally.failed
    tally.errors = errors[:SHOWN_ERRORS] if tally.failed else []


@contextmanager
def _translated_errors() -> Iterator[None]:
    """Turn Ray's errors into one-line errors without its tracebacks."""
    try:
        yield
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, UserError):
            raise type(error.cause)(str(error.cause).splitlines()[0]) from None  # Ray's advice follows
        raise MachineError(f"a worker failed: {type(error.cause).__name__}: {one_line(error.cause)}") from error
    except ray.exceptions.RayActorError as error:
        if "creation task" in str(error):  # Ray passes on its error only as the text of a traceback
            raise MachineError(f"a worker cannot start: {shortened(str(error).splitlines()[-1])}") from error
        raise MachineError(
            f"a worker died {1 + RETRIES} times on the same images, which have no row: one of them crashes the "
            "decoder, or there is not enough memory for so many --workers; --resume continues"
        ) from error
    except ray.exceptions.RayError as error:
        raise MachineError(f"Ray failed: {one_line(error)}") from error
