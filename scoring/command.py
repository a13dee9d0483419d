"""What `inference.py` does once its command line is understood."""

import argparse
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from itertools import takewhile
from typing import TYPE_CHECKING

from scoring.loading import build_predictor
from scoring.local import Scored, Tally, score
from scoring.output import Output, StrictError, format_of
from scoring.predictor import Predictor
from scoring.records import Record, Recorder
from utils.errors import UserError, printable
from utils.installation import require_packages
from utils.memory import peak_memory

if TYPE_CHECKING:
    from scoring.gallery.collector import RunGallery

CPU_BATCH, GPU_BATCH = 1, 32
SHOWN = 3  # errors on the standard error


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
    output.check_overwrite(args.resume, args.overwrite)
    require_other_place(args, paths)
    if args.resume:
        names = [recorder.name(path) for path in paths]
        left = output.resume(names, recorder.same, batch_size)
        if output.others:
            print(f"{output.others} rows of {args.output} are of other images; they stay", file=sys.stderr)
        if gallery is not None:
            gallery.keep(output.kept(), dict(zip(names, paths, strict=True)))
        paths = [paths[index] for index in left]
    workers = args.workers or os.cpu_count() or 1
    tally = Tally()
    batches = score(paths, predictor, recorder, batch_size, workers, tally, watcher(args, predictor, recorder))
    errors = write(gallery.gathered(batches, paths) if gallery is not None else batches, output, args.strict)
    if gallery is not None:
        gallery.write(recorder.same, predictor.pictures, workers)
    describe_errors(tally, errors)
    if len(paths) != 1:
        print(tally.describe(peak_memory()), file=sys.stderr)
    return tally.failed + output.failed


def require_other_place(args: argparse.Namespace, paths: Sequence[str]) -> None:
    """Refuses an --output that would replace what is read."""
    if args.output is None or not os.path.exists(args.output):
        return
    place = os.path.realpath(args.output)
    read = [*args.list, *([args.checkpoint] if args.checkpoint else []), *([args.config] if args.config else [])]
    same_name = (path for path in paths if os.path.basename(path) == os.path.basename(args.output))
    for path in [*read, *same_name]:
        if os.path.realpath(path) == place:
            raise UserError(f"--output: {args.output} is read in this run; name another file")


def write(batches: Iterable[list[Record]], output: Output, strict: bool) -> list[str]:
    """Writes batches of records as they come; returns the first few errors in them.

    Raises:
        StrictError: With `strict`, at the first error; what came before it is written.
    """
    errors, stopped = [], None
    with output:
        for records in batches:
            failed = [record["error"] for record in records if record["error"] is not None]
            if strict and failed:
                output.write(list(takewhile(lambda record: record["error"] is None, records)))
                stopped = StrictError(f"--strict: {failed[0]}")
                break
            output.write(records)
            errors += failed[: SHOWN - len(errors)]
    output.finish()
    if stopped is not None:
        raise stopped
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
    from scoring.gallery.collector import RunGallery  # noqa: PLC0415, imports jinja2

    return RunGallery(args)


def describe_errors(tally: Tally, errors: Sequence[str]) -> None:
    """What could not be scored, on the standard error."""
    if errors:
        more = f" and {tally.failed - len(errors)} more" if tally.failed > len(errors) else ""
        print(f"{tally.failed} could not be scored: {printable('; '.join(errors))}{more}", file=sys.stderr)
