"""The demo database, written on first use."""

from pathlib import Path

from datasets.demo import IMAGE_FOLDER, scene_of, write_demo
from datasets.ratings import Rating
from datasets.readers.assembly import Reader
from datasets.readers.folder import under
from datasets.readers.koniq10k import KONIQ10K, SCORES
from utils.errors import UserError, one_line


class DemoReader(Reader):
    """Reads the demo in the form of KonIQ-10k, each image with its scene as reference."""

    def read(self, root: Path, labels: str | None = None) -> list[Rating]:
        """Return the demo's labels; writes the database where there is none.

        Raises:
            UserError: The folder holds something else.
        """
        if not (root / SCORES).is_file():
            try:
                write_demo(root)
            except OSError as error:
                if not (root / SCORES).is_file():  # else another process was faster
                    raise UserError(
                        f"dataset.root: the demo cannot be written to {root} ({one_line(error)}); give a folder that "
                        "does not exist yet"
                    ) from error
        return super().read(root, labels)


DEMO = DemoReader("the demo", KONIQ10K.scale, KONIQ10K.forms, (under(IMAGE_FOLDER),), reference_of=scene_of)
