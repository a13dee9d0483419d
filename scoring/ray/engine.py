"""The engine of many processes, GPUs or machines: Ray Data hands files to workers, each with a network of its own.

Ray schedules, replaces workers that die, repeats what they had begun and takes each result once. A worker does with its
share what the local engine does with all. Needs the packages of requirements-scale.txt.
"""

import argparse
import logging
import os
import socket
import sys
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from functools import partial
from pathlib import Path

# before Ray is imported, which reads them: nothing is reported to anybody, and what dies is told in our own words
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")

import pyarrow as pa
import ray
import torch
from ray.data import ActorPoolStrategy, Dataset

from scoring.defaults import is_remote, is_shard
from scoring.loading import build_predictor
from scoring.local import records_of
from scoring.options import changed
from scoring.parquet import schema_of
from scoring.pictures import Encoded
from scoring.ray.parquet_output import ParquetFolder
from scoring.ray.remote_files import remote_image
from scoring.ray.shards import Columns, images_in
from scoring.ray.worker_plan import WorkerPlan, tasks_of
from scoring.records import Record, Recorder
from utils.errors import MachineError, UserError, one_line, shortened

ROOT = Path(__file__).parents[2]
PACKAGES = ("scoring", "models", "datasets", "utils")  # what workers import, on machines that may not have it
TRIES_AFTER_DEATH = 3  # of one task: an image that kills its worker each time must not keep all waiting forever
BLOCK = 2**16  # bytes of records that a worker gathers before it hands them over; a megabyte would be thousands
ROWS_A_PART = 1000
SECONDS_TO_ANSWER = 10
SOURCE = "source"


@dataclass(frozen=True)
class Job:
    """What all workers are told.

    Args:
        args: The options; `checkpoint` and `config` are what they load, `device` is the worker's.
        recorder: Makes the records.
        columns: Of Parquet tables of images.
        batch_size: Images that go through a network at once.
        threads: As in WorkerPlan.
        folder: Which relative paths are below, on machines where it is there.
        done: Names of those images in shards that have a record already.
    """

    args: argparse.Namespace
    recorder: Recorder
    columns: Columns
    batch_size: int
    threads: int
    folder: str
    done: frozenset[str] = frozenset()


class Scorer:
    """A network in a worker process; from a table of names of files to tables of records."""

    def __init__(self, references: Sequence[ray.ObjectRef]):
        content, self.job = ray.get(list(references))
        if os.path.isdir(self.job.folder):
            os.chdir(self.job.folder)
        torch.set_num_threads(self.job.threads)
        self.schema = schema_of(self.job.recorder.columns)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "checkpoint.pt"
            path.write_bytes(content)
            self.predictor = build_predictor(changed(self.job.args, checkpoint=path))
        self.predictor.checkpoint = Path(self.job.args.checkpoint)  # as errors name it

    def __call__(self, table: pa.Table) -> Iterator[pa.Table]:
        images = (image for source in table[SOURCE].to_pylist() for image in self._images_at(os.fsdecode(source)))
        job = self.job
        for records in records_of(images, self.predictor, job.recorder, job.batch_size, job.threads):
            yield pa.Table.from_pylist(records, schema=self.schema)

    def _images_at(self, source: str) -> Iterator[str | Encoded]:
        if not is_shard(source):
            yield remote_image(source) if is_remote(source) else source
            return
        for image in images_in(source, self.job.columns):
            if self.job.recorder.name(image.name) not in self.job.done:
                yield image


@contextmanager
def cluster(address: str | None) -> Iterator[None]:
    """A Ray cluster: the one that runs in this process already, the one at an address, or one of this machine's own.

    What Ray says, such as that a worker died, goes to the standard error.

    Raises:
        UserError: Nothing answers at the address.
    """
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # its errors are raised, too
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.target_max_block_size = BLOCK
    with redirect_stdout(sys.stderr):
        if ray.is_initialized():
            yield
            return
        _start(address)
        try:
            yield
        finally:
            ray.shutdown()


def _start(address: str | None) -> None:
    packages = {"py_modules": [str(ROOT / name) for name in PACKAGES]}
    start = partial(ray.init, log_to_driver=False, logging_level=logging.ERROR, runtime_env=packages)
    try:
        if address is None:
            start(include_dashboard=False)
        else:
            _require_answer(address)
            start(address=address)
    except (OSError, ValueError, RuntimeError) as error:
        place = f"--ray-address: {address}" if address is not None else "--engine ray"
        raise UserError(f"{place}: no Ray cluster to be had: {one_line(error)}") from error


def _require_answer(address: str) -> None:
    """Asks a HOST:PORT, with or without ray://, whether anybody is there: Ray itself would try for minutes.

    Raises:
        OSError: Nobody is.
    """
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host, int(port)), timeout=SECONDS_TO_ANSWER).close()


def machines() -> list[tuple[int, int]]:
    """Cores and GPUs of each machine of the cluster."""
    alive = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    return [(int(there.get("CPU", 0)), int(there.get("GPU", 0))) for there in alive]


def build_dataset(sources: Sequence[str], job: Job, plan: WorkerPlan, checkpoint: Path) -> Dataset:
    """Records of all images, in no particular order; nothing runs before they are asked for."""
    kind = pa.binary()  # a path need not be UTF-8
    tasks = tasks_of(sources, job.batch_size, plan.workers)
    blocks = [pa.table({SOURCE: pa.array([os.fsencode(path) for path in task], kind)}) for task in tasks]
    references = [ray.put(checkpoint.read_bytes()), ray.put(job)]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`ray_remote_args` is deprecated")  # the last two cannot be said otherwise
        return ray.data.from_arrow(blocks).map_batches(
            Scorer,
            fn_constructor_args=[references],
            batch_size=None,
            batch_format="pyarrow",
            compute=ActorPoolStrategy(size=min(plan.workers, len(blocks))),
            num_cpus=plan.cpus,
            num_gpus=plan.gpus,
            max_restarts=-1,
            max_task_retries=TRIES_AFTER_DEATH,
        )


def stream(dataset: Dataset) -> Iterator[list[Record]]:
    """Records as they come, some at a time.

    Raises:
        UserError: As the local engine.
        MachineError: A worker dies again and again.
    """
    with _in_our_words():
        for batch in dataset.iter_batches(batch_size=None, batch_format="pyarrow"):
            if batch.num_rows:
                yield batch.to_pylist()


def write_parts(dataset: Dataset, parts: ParquetFolder) -> None:
    """Records into a folder, each part as soon as there are enough rows; raises as `stream`."""
    with _in_our_words():  # all cores are the workers', so writing asks for none
        dataset.write_parquet(
            parts.path, filesystem=parts.filesystem, min_rows_per_file=ROWS_A_PART, ray_remote_args={"num_cpus": 0}
        )


@contextmanager
def _in_our_words() -> Iterator[None]:
    """What ended the workers, without Ray's tracebacks."""
    try:
        yield
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, UserError):
            raise type(error.cause)(str(error.cause).splitlines()[0]) from None  # advice of Ray's follows
        raise MachineError(f"a worker failed: {type(error.cause).__name__}: {one_line(error.cause)}") from error
    except ray.exceptions.RayActorError as error:
        if "creation task" in str(error):  # Ray gives its error as text alone, a traceback
            raise MachineError(f"a worker cannot start: {shortened(str(error).splitlines()[-1])}") from error
        raise MachineError(
            f"a worker died {1 + TRIES_AFTER_DEATH} times over the same images, which have no row: one of them breaks "
            "the decoder, or memory is not enough for so many --workers; --resume goes on"
        ) from error
    except ray.exceptions.RayError as error:
        raise MachineError(f"Ray gives up: {one_line(error)}") from error
