"""The demo database, which is generated on first use."""

from pathlib import Path

from datasets.demo import IMAGE_FOLDER, scene_name, write_demo
from datasets.ratings import Rating
from datasets.readers.assembly import Reader
from datasets.readers.folder import under
from datasets.readers.koniq10k import KONIQ10K, SCORES
from utils.errors import UserError, one_line
from utils.files import REMEDIES, not_written


class DemoReader(Reader):
    """Reader of the demo, which is stored like KonIQ-10k; the reference of an image is its scene."""

    def read(self, root: Path, labels: str | None = None) -> list[Rating]:
        """Return the labels of the demo; generates the database if it does not exist.

        Raises:
            UserError: The folder contains something else, or cannot be written.
        """
        if not (root / SCORES).is_file():
            try:
                write_demo(root)
            except OSError as error:
                if (root / SCORES).is_file():  # another process has just written it
                    return super().read(root, labels)
                if error.errno in REMEDIES:
                    raise not_written(f"dataset.root: {root}", error) from error
                raise UserError(
                    f"dataset.root: the demo cannot be written to {root} ({one_line(error)}); give a folder that "
                    "does not exist yet"
                ) from error
        return super().read(root, labels)


DEMO = DemoReader(
    "the demo", KONIQ10K.scale, KONIQ10K.label_files, (under(IMAGE_FOLDER),), reference_from_name=scene_name
)
