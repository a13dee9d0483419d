"""Score images with the local engine of `inference.py`: one network on one device, with threads that decode images."""

import argparse
import os
import sys
import time
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from itertools import chain, takewhile

from models.timm_backbone import TimmBackbone
from scoring.conditions import RowFilter
from scoring.loading import build_predictor
from scoring.opinions import MOST_IMAGES
from scoring.output import Output, StrictError, row_format
from scoring.pictures import Encoded
from scoring.predictor import Prediction, Predictor, Prepared
from scoring.records import RowBuilder, ScoreRow
from utils.errors import UserError, printable
from utils.installation import require_packages
from utils.memory import peak_memory
from utils.progress import Progress
from utils.threads import usable_cores

CPU_BATCH, GPU_BATCH = 1, 32
CPU_BATCH_OF_CONVOLUTIONS = 8  # twice as fast as 1 with RichIQA-Lite; CvT gains 3 % from batches
SHOWN_ERRORS = 3  # printed on stderr

OnScored = Callable[[str, Prediction, Prepared], None]


def score_command(args: argparse.Namespace, paths: Sequence[str]) -> int:
    """Score images as the options say; return the number of images that could not be scored.

    Raises:
        UserError: Options contradict each other or the checkpoint does not fit; with --strict, a bad image.
    """
    check_best(args, paths)
    form = row_format(args.format, args.output)
    gallery = on_scored = None
    if args.report is not None:
        require_packages("jinja2")
        gallery = import_module("scoring.gallery.page").RunGallery(args)
    predictor = build_predictor(args)
    row_builder = RowBuilder(predictor, args.relative_to, args.panel, bool(args.best))
    keep = RowFilter(args.keep, row_builder.columns)
    batch_size = args.batch_size or default_batch(predictor)
    output = Output(form, args.output, row_builder.columns, predictor.checkpoint)
    output.check_overwrite(args.resume, args.overwrite)
    check_output_not_input(args, paths)
    places = {} if gallery is None else {row_builder.name(path): path for path in paths}
    parts = [paths]
    if args.resume:
        done = output.done(row_builder.run_fields, map(row_builder.name, paths), batch_size)
        remaining = done.unscored(range(len(paths)), map(row_builder.name, paths))
        others = len(done) - (len(paths) - len(remaining))
        if others:
            print(f"{others} rows of {args.output} belong to other images and are kept", file=sys.stderr)
        keep.check_stored(output.kept(), args.output)
        if gallery is not None:
            gallery.add(output.kept(), places)
        first = bisect_left(remaining, output.position)
        parts = [[paths[index] for index in part] for part in (remaining[:first], remaining[first:])]
    if args.map is not None:
        require_packages("matplotlib")
        on_scored = import_module("scoring.maps").MapWriter(args.map, predictor, row_builder)
    workers = args.workers or usable_cores()
    tally = Tally(keep)
    batches = (score_rows(part, predictor, row_builder, batch_size, workers, on_scored) for part in parts)
    batches = tally.count(chain.from_iterable(batches), args.strict, count := sum(map(len, parts)))
    if args.best:
        batches = row_builder.best_first(batches)
    if gallery is not None:
        batches = gallery.collect(batches, places)
    output.write(batches)
    if gallery is not None:
        gallery.write(row_builder.run_fields, predictor.pictures, workers)
    tally.print_errors()
    if count != 1 or args.keep is not None:
        print(tally.describe(peak_memory()), file=sys.stderr)
    return tally.failed + output.failed


@dataclass
class Tally:
    """Select rows, count scored and failed images, keep the first errors, and measure the time.

    `scored` is None if it is not known, since workers have written only the rows that were kept.
    """

    keep: RowFilter
    scored: int | None = 0
    failed: int = 0
    errors: list[str] = field(default_factory=list)
    start: float = field(default_factory=time.monotonic)

    def count(self, batches: Iterable[list[ScoreRow]], strict: bool, total: int | None) -> Iterator[list[ScoreRow]]:
        """Pass on the rows to keep while counting all and showing progress on stderr; `total` None means unknown.

        Raises:
            StrictError: With `strict`, the first error; the rows before it are passed on.
        """
        with Progress("scoring", total, "image") as progress:
            for rows in batches:
                errors = [row["error"] for row in rows if row["error"] is not None]
                if strict and errors:
                    yield self.keep.rows(takewhile(lambda row: row["error"] is None, rows))
                    raise StrictError(f"--strict: {errors[0]}")
                self.failed += len(errors)
                self.scored += len(rows) - len(errors)
                self.errors += errors[: SHOWN_ERRORS - len(self.errors)]
                yield self.keep.rows(rows)
                progress.update(len(rows))

    def print_errors(self) -> None:
        """Print on stderr how many images could not be scored, and the first errors."""
        if self.errors:
            more = f" and {self.failed - len(self.errors)} more" if self.failed > len(self.errors) else ""
            print(f"{self.failed} could not be scored: {printable('; '.join(self.errors))}{more}", file=sys.stderr)

    def describe(self, memory: int | None = None) -> str:
        """Return `98 images scored, 2 not, in 12.3 s (8.1 images/s); peak memory 812 MB`; `memory` is in bytes."""
        seconds = max(time.monotonic() - self.start, 1e-3)
        failed = f", {self.failed} not" if self.failed else ""
        if self.scored is None:
            return f"{self.keep.passed} images passed --keep{failed and failed + ' scored'}, in {seconds:.1f} s"
        total = self.scored + self.failed
        failed += f", {self.keep.passed} passed --keep" if self.keep.text is not None else ""
        peak = f"; peak memory {memory / 1e6:.0f} MB" if memory is not None else ""
        return f"{self.scored} images scored{failed}, in {seconds:.1f} s ({total / seconds:.1f} images/s){peak}"


def default_batch(predictor: Predictor) -> int:
    """Return how many images pass through the network together, unless the user says otherwise."""
    if predictor.device.type != "cpu":
        return GPU_BATCH
    backbone = predictor.model.backbone
    convolutional = isinstance(backbone, TimmBackbone) and backbone.convolutional
    return CPU_BATCH_OF_CONVOLUTIONS if convolutional else CPU_BATCH


def score_rows(
    images: Iterable[str | Encoded],
    predictor: Predictor,
    row_builder: RowBuilder,
    batch_size: int,
    workers: int,
    on_scored: OnScored | None = None,
) -> Iterator[list[ScoreRow]]:
    """Score images and yield their rows batch by batch, in the order of the images.

    Args:
        images: Paths or encoded images, read from the stream only when they are needed.
        predictor: Scores the images.
        row_builder: Builds the rows.
        batch_size: Number of images per forward pass.
        workers: Number of threads that read and decode.
        on_scored: Called with path, prediction and prepared views of each scored image.
    """
    for batch in predictor.scored_batches(images, batch_size, workers):
        rows = []
        for image, prepared, prediction in batch:
            path = image.name if isinstance(image, Encoded) else image
            if prediction is None:
                rows.append(row_builder.failed(path, str(prepared)))
                continue
            rows.append(row_builder.scored(path, prediction, prepared))
            if on_scored is not None:
                on_scored(path, prediction, prepared)
        yield rows


def check_best(args: argparse.Namespace, paths: Sequence[str]) -> None:
    """Refuse a --best of one image, or of too many to compare."""
    if args.best and not 2 <= len(paths) <= MOST_IMAGES:
        raise UserError(f"--best compares 2 to {MOST_IMAGES} images, got {len(paths)}; name others")


def check_output_not_input(args: argparse.Namespace, paths: Sequence[str]) -> None:
    """Refuse an --output that would replace an input of this run."""
    if args.output is None or not os.path.exists(args.output):
        return
    same_name = (path for path in paths if os.path.basename(path) == os.path.basename(args.output))
    for path in [*args.list, *filter(None, (args.checkpoint, args.config)), *same_name]:
        if os.path.realpath(path) == os.path.realpath(args.output):
            raise UserError(f"--output: {args.output} is an input of this run; name another file")
