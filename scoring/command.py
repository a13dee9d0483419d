"""Score images with the local engine of `inference.py`, and write rows for either engine."""

import argparse
import os
import sys
from collections.abc import Iterable, Sequence
from itertools import takewhile
from typing import TYPE_CHECKING

from scoring.loading import build_predictor
from scoring.local import OnScored, Tally, score_rows, with_progress
from scoring.output import Output, StrictError, row_format
from scoring.predictor import Predictor
from scoring.records import RowBuilder, ScoreRow
from utils.errors import UserError, printable
from utils.installation import require_packages
from utils.memory import peak_memory

if TYPE_CHECKING:
    from scoring.gallery.collector import RunGallery

CPU_BATCH, GPU_BATCH = 1, 32
SHOWN_ERRORS = 3  # printed on stderr


def score_command(args: argparse.Namespace, paths: Sequence[str]) -> int:
    """Score images as the options say; return the number of images that could not be scored.

    Raises:
        UserError: Options contradict each other or the checkpoint does not fit; with --strict, a bad image.
    """
    form = row_format(args.format, args.output)
    gallery = build_gallery(args)
    predictor = build_predictor(args)
    row_builder = RowBuilder(predictor, args.relative_to)
    batch_size = args.batch_size or (CPU_BATCH if predictor.device.type == "cpu" else GPU_BATCH)
    output = Output(form, args.output, row_builder.columns, predictor.checkpoint)
    output.check_overwrite(args.resume, args.overwrite)
    check_output_not_input(args, paths)
    if args.resume:
        names = [row_builder.name(path) for path in paths]
        indices = output.resume(names, row_builder.run_fields, batch_size)
        if output.others:
            print(f"{output.others} rows of {args.output} belong to other images and are kept", file=sys.stderr)
        if gallery is not None:
            gallery.keep(output.kept(), dict(zip(names, paths, strict=True)))
        paths = [paths[index] for index in indices]
    workers = args.workers or os.cpu_count() or 1
    tally = Tally()
    rows = score_rows(paths, predictor, row_builder, batch_size, workers, map_writer(args, predictor, row_builder))
    batches = with_progress(rows, tally, len(paths))
    errors = write(gallery.collect(batches, paths) if gallery is not None else batches, output, args.strict)
    if gallery is not None:
        gallery.write(row_builder.run_fields, predictor.pictures, workers)
    print_errors(tally, errors)
    if len(paths) != 1:
        print(tally.describe(peak_memory()), file=sys.stderr)
    return tally.failed + output.failed


def check_output_not_input(args: argparse.Namespace, paths: Sequence[str]) -> None:
    """Refuse an --output that would replace an input of this run."""
    if args.output is None or not os.path.exists(args.output):
        return
    same_name = (path for path in paths if os.path.basename(path) == os.path.basename(args.output))
    for path in [*args.list, *filter(None, (args.checkpoint, args.config)), *same_name]:
        if os.path.realpath(path) == os.path.realpath(args.output):
            raise UserError(f"--output: {args.output} is an input of this run; name another file")


def write(batches: Iterable[list[ScoreRow]], output: Output, strict: bool) -> list[str]:
    """Write batches of rows as they come; return the first few errors in them.

    Raises:
        StrictError: With `strict`, the first error; the rows before it are written.
    """
    errors, stopped = [], None
    with output:
        for rows in batches:
            failed = [row["error"] for row in rows if row["error"] is not None]
            if strict and failed:
                output.write(list(takewhile(lambda row: row["error"] is None, rows)))
                stopped = StrictError(f"--strict: {failed[0]}")
                break
            output.write(rows)
            errors += failed[: SHOWN_ERRORS - len(errors)]
    output.finish()
    if stopped is not None:
        raise stopped
    return errors


def map_writer(args: argparse.Namespace, predictor: Predictor, row_builder: RowBuilder) -> OnScored | None:
    """Return the writer of quality maps if `--map` is given."""
    if args.map is None:
        return None
    require_packages("matplotlib")
    from scoring.maps import MapWriter  # noqa: PLC0415, imports matplotlib

    return MapWriter(args.map, predictor, row_builder)


def build_gallery(args: argparse.Namespace) -> "RunGallery | None":
    """Return the collector for the gallery page if `--report` is given."""
    if args.report is None:
        return None
    require_packages("jinja2")
    from scoring.gallery.collector import RunGallery  # noqa: PLC0415, imports jinja2

    return RunGallery(args)


def print_errors(tally: Tally, errors: Sequence[str]) -> None:
    """Print on stderr how many images could not be scored, and the first errors."""
    if errors:
        more = f" and {tally.failed - len(errors)} more" if tally.failed > len(errors) else ""
        print(f"{tally.failed} could not be scored: {printable('; '.join(errors))}{more}", file=sys.stderr)
