"""The page of a run of `inference.py`: images are gathered as they are scored, the page is written at the end."""

import argparse
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from scoring.defaults import PAGE_SUFFIX
from scoring.gallery.page import FailedImage, ScoredImage, image_of, write_gallery
from scoring.pictures import PictureSettings
from scoring.records import Record
from utils.errors import UserError, one_line
from utils.files import make_folder, require_place


class RunGallery:
    """Gathers what `--report` shows: a few numbers of each image, no picture.

    Args:
        args: The options of the run, with a `report`.

    Raises:
        UserError: The file is there and may not be replaced, ends otherwise, or cannot be written.
    """

    def __init__(self, args: argparse.Namespace):
        self.path = Path(args.report)
        self.relative_to = args.relative_to
        self.images: list[ScoredImage | FailedImage] = []
        self._check_overwrite(args)
        require_place(self.path.parent)
        make_folder(self.path.parent)  # now rather than after hours of scoring

    def keep(self, records: Iterable[Record], places: Mapping[str, str]) -> None:
        """Takes records of an earlier run.

        Args:
            records: As they were read back.
            places: From names of images, as records tell them, to their paths; of others the name has to do.

        Raises:
            UserError: A record that was changed so that it cannot be shown.
        """
        for record in records:
            try:
                name = record["path"]
                self.images.append(image_of(record, places.get(name) or os.path.join(self.relative_to or "", name)))
            except (ValueError, KeyError, TypeError) as error:
                raise UserError(
                    f"--report: an earlier record cannot be shown: {one_line(error)}; --overwrite begins anew"
                ) from error

    def gathered(self, batches: Iterable[list[Record]], paths: Iterable[str]) -> Iterator[list[Record]]:
        """Passes on batches of records as they are made, and takes them; `paths` are those of their images."""
        stream = iter(paths)
        for records in batches:
            self.images += [image_of(record, next(stream)) for record in records]
            yield records

    def write(self, same: Record, pictures: PictureSettings, workers: int) -> None:
        """Opens the images again and writes the page.

        Raises:
            UserError: The place is not writable.
        """
        write_gallery(self.path, self.images, same, pictures, workers)
        print(f"report: {self.path}", file=sys.stderr)

    def _check_overwrite(self, args: argparse.Namespace) -> None:
        if self.path.suffix.lower() != PAGE_SUFFIX:
            raise UserError(f"--report: {self.path} should end with {PAGE_SUFFIX}")
        if args.output is not None and os.path.realpath(args.output) == os.path.realpath(self.path):
            raise UserError(f"--report: {self.path} is the --output, too; name another file")
        if self.path.is_dir():
            raise UserError(f"--report: {self.path} is a folder; name a file")
        if self.path.exists() and not (args.resume or args.overwrite):
            raise UserError(f"--report: {self.path} is there already; --overwrite replaces it, and so does --resume")
