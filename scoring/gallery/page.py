"""A page of scored images, to be looked through: pictures, scores and distributions, in one file that needs no other.

N images, K bins.
"""

import argparse
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from datasets.scale import RatingScale
from scoring.defaults import PAGE_SUFFIX
from scoring.gallery.charts import histogram, opinion_bars
from scoring.gallery.ranking import DISPUTED_WIDTH, EXTREMES, SHOWN, disputed, sampled
from scoring.pictures import PictureSettings, opened_picture
from scoring.records import ScoreRow
from scoring.scale_text import parse_scale
from utils.errors import UserError, one_line, printable
from utils.files import make_folder, require_place, write_atomically
from utils.html import LONG_SIDE, Thumbnail, page_environment, thumbnail
from utils.progress import Progress

TEMPLATE = "gallery.html.j2"
AT_ONCE = 64  # thumbnails that are held while the page is written
REASONS = 1_000  # of images that were not scored, listed at most

Array = np.ndarray


@dataclass(frozen=True, slots=True)
class ScoredImage:
    """What the page tells of one image; scores in units of the scale, `place` is where its file is."""

    name: str
    place: str
    mos: float
    mos_01: float
    sos: float
    low_90: float
    high_90: float
    gob: float
    pow: float
    dos: tuple[float, ...]
    notes: str


@dataclass(frozen=True, slots=True)
class FailedImage:
    """An image without scores, and why."""

    name: str
    error: str


def image_from_row(row: ScoreRow, place: str) -> ScoredImage | FailedImage:
    """Convert a score row, either new or read back from a file, in which numbers may be text.

    Raises:
        ValueError, KeyError, TypeError: Values are missing, or are not finite numbers.
    """
    name = printable(row["path"])
    if row["error"] is not None:
        return FailedImage(name, printable(row["error"]))
    scale = parse_scale(row["scale"])
    numbers = {key: float(row[key]) for key in ("mos", "mos_01", "sos", "low_90", "high_90", "gob", "pow")}
    dos = tuple(float(row[f"p{k}"]) for k in range(1, scale.num_bins + 1))
    if not (np.isfinite([*numbers.values(), *dos]).all() and sum(dos) > 0):
        raise ValueError(f"{name} contains values that are not numbers")
    return ScoredImage(name, place, **numbers, dos=dos, notes=printable(row["notes"] or ""))


class RunGallery:
    """Collect a few numbers of each image, but no pictures, for `--report`.

    Args:
        args: The options of the run, including `report`.

    Raises:
        UserError: The file exists and may not be replaced, has the wrong suffix, or cannot be written.
    """

    def __init__(self, args: argparse.Namespace):
        self.path = Path(args.report)
        self.relative_to = args.relative_to
        self.images: list[ScoredImage | FailedImage] = []
        if self.path.suffix.lower() != PAGE_SUFFIX:
            raise UserError(f"--report: {self.path} should end with {PAGE_SUFFIX}")
        if args.output is not None and os.path.realpath(args.output) == os.path.realpath(self.path):
            raise UserError(f"--report: {self.path} is also the --output; name another file")
        if self.path.is_dir():
            raise UserError(f"--report: {self.path} is a folder; name a file")
        if self.path.exists() and not (args.resume or args.overwrite):
            raise UserError(f"--report: {self.path} already exists; --overwrite or --resume replaces it")
        require_place(self.path.parent)
        make_folder(self.path.parent)  # fails now rather than after hours of scoring

    def add(self, rows: Iterable[ScoreRow], places: Mapping[str, str]) -> None:
        """Add rows, either new or read back from the output of an earlier run.

        Args:
            rows: The rows.
            places: Paths by the name in the rows; a name without an entry is used as the path.

        Raises:
            UserError: A row was edited and cannot be shown.
        """
        for row in rows:
            try:
                name = row["path"]
                self.images.append(image_from_row(row, places.get(name) or os.path.join(self.relative_to or "", name)))
            except (ValueError, KeyError, TypeError) as error:
                raise UserError(
                    f"--report: an earlier row cannot be shown: {one_line(error)}; --overwrite starts again"
                ) from error

    def collect(self, batches: Iterable[list[ScoreRow]], places: Mapping[str, str]) -> Iterator[list[ScoreRow]]:
        """Add batches of rows and pass them on."""
        for rows in batches:
            self.add(rows, places)
            yield rows

    def write(self, run_fields: ScoreRow, pictures: PictureSettings, workers: int) -> None:
        """Write the page with thumbnails of the images; raises as `write_gallery` does."""
        write_gallery(self.path, self.images, run_fields, pictures, workers)
        print(f"report: {self.path}", file=sys.stderr)


def write_gallery(
    path: Path,
    images: Sequence[ScoredImage | FailedImage],
    run_fields: ScoreRow,
    pictures: PictureSettings = PictureSettings(),
    workers: int = 1,
) -> None:
    """Write the page completely or not at all, with a few thumbnails in memory at a time.

    Args:
        path: Path of the page.
        images: Images in any order.
        run_fields: Scale, preprocessing and checkpoint of all rows.
        pictures: How images are read.
        workers: Number of threads that read and decode.

    Raises:
        UserError: The file cannot be written.
    """
    scale = parse_scale(run_fields["scale"])
    scored = [image for image in images if isinstance(image, ScoredImage)]
    failed = [image for image in images if isinstance(image, FailedImage)]
    mos, mos_01, sos = (np.array([getattr(image, name) for image in scored]) for name in ("mos", "mos_01", "sos"))
    marked = disputed(sos, scale.high - scale.low)
    best_first = np.argsort(-mos_01, kind="stable")  # (N,); ties keep their order
    chosen = sampled(best_first, sos, SHOWN, EXTREMES)
    template = page_environment(Path(__file__).parent).get_template(TEMPLATE)
    page = template.stream(
        title=printable(path.stem),
        folder=common_folder([image.name for image in images]),
        scale=scale,
        same=run_fields,
        date=f"{datetime.now(timezone.utc):%Y-%m-%d} (UTC)",
        summary=_summary(mos, sos, marked, scale) if scored else None,
        shown=len(chosen),
        cards=_cards(scored, chosen, marked, scale, pictures, workers),
        failed=failed[:REASONS],
        failed_count=len(failed),
        limits={"extremes": EXTREMES, "disputed": DISPUTED_WIDTH},
        digits=digits_of(scale),
    )
    write_atomically(path, partial(page.dump, encoding="utf-8"))


def scored_thumbnail(place: str, pictures: PictureSettings = PictureSettings()) -> Thumbnail:
    """A small JPEG of an image file, upright and in RGB as it was scored, or the reason why it cannot be opened."""
    try:
        with opened_picture(place, pictures, coarse=LONG_SIDE) as picture:
            return thumbnail(picture.image)
    except UserError as error:
        return Thumbnail(note=printable(str(error).encode("utf-8", "backslashreplace").decode()))


def common_folder(names: Sequence[str]) -> str:
    """What all names begin with, up to a separator: the folder that they are in, or nothing."""
    start = os.path.commonprefix(list(names))  # noqa: RUF071, it is cut at a separator
    return start[: start.rfind(os.sep) + 1]


def digits_of(scale: RatingScale) -> int:
    """Decimals with which scores are told: 2 on 1..5, 1 on 0..100, 3 on 0..1."""
    return max(0, 3 - int(np.ceil(np.log10(scale.high - scale.low))))


def _summary(mos: Array, sos: Array, marked: Array, scale: RatingScale) -> dict[str, Any]:
    """All scored images (N,), shown or not."""
    chart, highest_bar = histogram(mos, scale)
    of_mos = {"mean": mos.mean(), "lowest": mos.min(), "highest": mos.max()}
    counts = {"count": len(mos), "disputed": int(marked.sum())}
    return {**counts, **of_mos, "mean_sos": sos.mean(), "histogram": chart, "highest_bar": highest_bar}


def _cards(
    scored: Sequence[ScoredImage],
    chosen: Array,
    marked: Array,
    scale: RatingScale,
    pictures: PictureSettings,
    workers: int,
) -> Iterator[dict[str, Any]]:
    """As they are needed: the next thumbnails are made meanwhile."""
    highest = max((max(scored[index].dos) for index in chosen), default=1.0)
    with Progress("report", len(chosen), "image") as progress, ThreadPoolExecutor(max(workers, 1)) as pool:
        for start in range(0, len(chosen), AT_ONCE):
            some = chosen[start : start + AT_ONCE].tolist()
            small = pool.map(lambda index: scored_thumbnail(scored[index].place, pictures), some)
            for index, picture in zip(some, small, strict=True):
                image = scored[index]
                mark = (image.low_90, image.mos, image.high_90)
                bars = opinion_bars({"prediction": image.dos}, scale, highest, mark)
                yield {"image": image, "thumbnail": picture, "disputed": bool(marked[index]), "bars": bars}
            progress.update(len(some))
