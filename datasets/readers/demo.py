"""The demo database, written on first use."""

from dataclasses import replace
from pathlib import Path

from datasets.demo import IMAGE_FOLDER, scene_of, write_demo
from datasets.ratings import Rating
from datasets.readers.folder import under
from datasets.readers.koniq10k import KONIQ10K, SCORES
from utils.errors import UserError, one_line

DEMO = replace(KONIQ10K, title="the demo", layouts=(under(IMAGE_FOLDER),), reference_of=scene_of)


def read(root: Path, labels: str | None = None) -> list[Rating]:
    """The demo's labels, each with its scene as reference; writes the database where there is none.

    Raises:
        UserError: The folder holds something else.
    """
    if not (root / SCORES).is_file():
        try:
            write_demo(root)
        except OSError as error:
            if not (root / SCORES).is_file():  # else another process was faster
                raise UserError(
                    f"dataset.root: the demo cannot be written to {root} ({one_line(error)}); give a folder that does "
                    "not exist yet"
                ) from error
    return DEMO.read(root, labels)
