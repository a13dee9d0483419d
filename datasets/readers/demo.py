"""The demo database, written on first use."""

from dataclasses import replace
from pathlib import Path

from datasets.demo import IMAGE_FOLDER, scene_of, write_demo
from datasets.labels import Rating
from datasets.readers import koniq10k
from utils.errors import UserError, one_line


def read(root: Path) -> list[Rating]:
    """The demo's labels, each with its scene as reference; writes the database where there is none.

    Raises:
        UserError: The folder holds something else.
    """
    if not (root / koniq10k.SCORES).is_file():
        try:
            write_demo(root)
        except OSError as error:
            if not (root / koniq10k.SCORES).is_file():  # else another process was faster
                raise UserError(
                    f"dataset.root: the demo cannot be written to {root} ({one_line(error)}); give a folder that does "
                    "not exist yet"
                ) from error
    ratings = koniq10k.read(root, image_folders=(IMAGE_FOLDER,))
    return [replace(rating, reference=scene_of(rating.image)) for rating in ratings]
