"""What `inference.py` does once its command line is understood."""

import argparse
import os
import sys
import warnings
from collections.abc import Sequence
from itertools import islice
from typing import TYPE_CHECKING

from PIL import Image

from scoring.local import Tally, score
from scoring.options import SOME_FAILED
from scoring.output import Output, format_of
from scoring.pictures import PictureSettings, accept_truncated
from scoring.predictor import Predictor, load_predictor
from scoring.records import Recorder
from utils.errors import UserError, some_of

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
    workers = args.workers or os.cpu_count() or 1
    output = Output(form, args.output, lambda kind: kind(recorder.columns, str(predictor.checkpoint)))
    output.require_leave(args.resume, args.overwrite)
    if args.resume:
        names = [recorder.name(path) for path in paths]
        left = output.resume(names, recorder.same, batch_size)
        if gallery is not None:
            gallery.keep(output.kept(), dict(zip(names, paths, strict=True)))
        paths = [paths[index] for index in left]
    tally, errors, stream = Tally(), [], iter(paths)
    with output:
        for records in score(paths, predictor, recorder, batch_size, workers, tally):
            failed = [record for record in records if record["error"] is not None]
            if args.strict and failed:
                output.write(records[: records.index(failed[0])])
                raise StrictError(f"--strict: {failed[0]['error']}")
            output.write(records)
            errors += [record["error"] for record in failed]
            if gallery is not None:
                gallery.add(records, islice(stream, len(records)))
    output.finish()
    if gallery is not None:
        gallery.write(recorder.same, predictor.pictures, workers)
    report(tally, errors, quiet=len(paths) == 1)
    return tally.failed + output.failed


def build_gallery(args: argparse.Namespace) -> "RunGallery | None":
    """What `--report` gathers, if it is asked for."""
    if args.report is None:
        return None
    from scoring.gallery_run import RunGallery  # noqa: PLC0415, needs jinja2

    return RunGallery(args)


def build_predictor(args: argparse.Namespace) -> Predictor:
    """The network that the options name; sets what Pillow keeps for the whole process."""
    pictures = PictureSettings(args.max_pixels, args.background)
    Image.MAX_IMAGE_PIXELS = None  # `max_pixels` stands for it, and says what to do
    warnings.filterwarnings("ignore", module="PIL")  # odd EXIF and palettes: the picture is read all the same
    if args.truncated == "accept":
        accept_truncated()
    return load_predictor(args.checkpoint, args.device, args.scale, args.config, args.preprocess, pictures)


def report(tally: Tally, errors: Sequence[str], quiet: bool) -> None:
    """What came of it, on the standard error."""
    if errors:
        print(f"{tally.failed} could not be scored: {some_of(errors, 3)}", file=sys.stderr)
    if not quiet:
        print(tally.describe(), file=sys.stderr)
