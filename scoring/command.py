"""What `inference.py` does once its command line is understood."""

import argparse
import os
import sys
import warnings
from collections.abc import Callable, Iterable, Sequence
from itertools import takewhile
from typing import TYPE_CHECKING

from PIL import Image

from scoring.loading import load_predictor
from scoring.local import Scored, Tally, score
from scoring.options import SOME_FAILED
from scoring.output import Output, format_of
from scoring.pictures import PictureSettings, accept_truncated
from scoring.predictor import Predictor
from scoring.records import Record, Recorder
from utils.errors import UserError, some_of
from utils.installation import require_packages

if TYPE_CHECKING:
    from scoring.gallery_run import RunGallery

CPU_BATCH, GPU_BATCH = 1, 32


class StrictError(UserError):
    """With --strict, the first image that cannot be scored."""

    status = SOME_FAILED


def score_command(args: argparse.Namespace, paths: Sequence[str]) -> int:
    """Scores images as the options say; returns how many could not be scored.

    Raises:
        UserError: Options that do not go together, a checkpoint that does not fit; with --strict, a bad image.
    """
    form = format_of(args.format, args.output)
    gallery = build_gallery(args)
    predictor = build_predictor(args)
    recorder = Recorder(predictor, args.relative_to)
    batch_size = args.batch_size or (CPU_BATCH if predictor.device.type == "cpu" else GPU_BATCH)
    output = Output(form, args.output, lambda kind: kind(recorder.columns, str(predictor.checkpoint)))
    output.require_leave(args.resume, args.overwrite)
    if args.resume:
        names = [recorder.name(path) for path in paths]
        left = output.resume(names, recorder.same, batch_size)
        if gallery is not None:
            gallery.keep(output.kept(), dict(zip(names, paths, strict=True)))
        paths = [paths[index] for index in left]
    workers = args.workers or os.cpu_count() or 1
    tally = Tally()
    batches = score(paths, predictor, recorder, batch_size, workers, tally, watcher(args, predictor, recorder))
    errors = write(gallery.gathered(batches, paths) if gallery is not None else batches, output, args.strict)
    if gallery is not None:
        gallery.write(recorder.same, predictor.pictures, workers)
    describe(tally, errors, quiet=len(paths) == 1)
    return tally.failed + output.failed


def write(batches: Iterable[list[Record]], output: Output, strict: bool) -> list[str]:
    """Writes batches of records as they come; returns the errors in them.

    Raises:
        StrictError: With `strict`, at the first error; what came before it is written.
    """
    errors = []
    with output:
        for records in batches:
            failed = [record["error"] for record in records if record["error"] is not None]
            if strict and failed:
                output.write(list(takewhile(lambda record: record["error"] is None, records)))
                raise StrictError(f"--strict: {failed[0]}")
            output.write(records)
            errors += failed
    output.finish()
    return errors


def watcher(args: argparse.Namespace, predictor: Predictor, recorder: Recorder) -> Callable[[Scored], None] | None:
    """What is done with each image beside its record."""
    if args.map is None:
        return None
    require_packages("matplotlib")
    from scoring.maps import MapWriter  # noqa: PLC0415, imports matplotlib

    return MapWriter(args.map, predictor, recorder)


def build_gallery(args: argparse.Namespace) -> "RunGallery | None":
    """What `--report` gathers, if it is asked for."""
    if args.report is None:
        return None
    require_packages("jinja2")
    from scoring.gallery_run import RunGallery  # noqa: PLC0415, imports jinja2

    return RunGallery(args)


def build_predictor(args: argparse.Namespace) -> Predictor:
    """The network that the options name; sets what Pillow keeps for the whole process."""
    pictures = PictureSettings(args.max_pixels, args.background)
    Image.MAX_IMAGE_PIXELS = None  # `max_pixels` stands for it, and says what to do
    warnings.filterwarnings("ignore", module="PIL")  # odd EXIF and palettes: the picture is read all the same
    if args.truncated == "accept":
        accept_truncated()
    return load_predictor(
        args.checkpoint, args.device, args.scale, args.config, args.preprocess, pictures, args.precision
    )


def describe(tally: Tally, errors: Sequence[str], quiet: bool) -> None:
    """What came of it, on the standard error."""
    if errors:
        print(f"{tally.failed} could not be scored: {some_of(errors, 3)}", file=sys.stderr)
    if not quiet:
        print(tally.describe(), file=sys.stderr)
