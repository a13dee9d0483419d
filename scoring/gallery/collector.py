"""Collector for the gallery page: gathers images as `inference.py` scores them, and writes the page at the end."""

import argparse
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from scoring.defaults import PAGE_SUFFIX
from scoring.gallery.page import FailedImage, ScoredImage, image_from_row, write_gallery
from scoring.pictures import PictureSettings
from scoring.records import ScoreRow
from utils.errors import UserError, one_line
from utils.files import make_folder, require_place


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
        self._check_overwrite(args)
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
        """Write the page with thumbnails of the images.

        Raises:
            UserError: The file cannot be written.
        """
        write_gallery(self.path, self.images, run_fields, pictures, workers)
        print(f"report: {self.path}", file=sys.stderr)

    def _check_overwrite(self, args: argparse.Namespace) -> None:
        if self.path.suffix.lower() != PAGE_SUFFIX:
            raise UserError(f"--report: {self.path} should end with {PAGE_SUFFIX}")
        if args.output is not None and os.path.realpath(args.output) == os.path.realpath(self.path):
            raise UserError(f"--report: {self.path} is also the --output; name another file")
        if self.path.is_dir():
            raise UserError(f"--report: {self.path} is a folder; name a file")
        if self.path.exists() and not (args.resume or args.overwrite):
            raise UserError(f"--report: {self.path} already exists; --overwrite or --resume replaces it")
