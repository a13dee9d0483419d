"""The demo database, written on first use."""

from dataclasses import replace
from pathlib import Path

from datasets.demo import IMAGE_FOLDER, scene_of, write_demo
from datasets.labels import Rating
from datasets.readers import koniq10k


def read(root: Path) -> list[Rating]:
    """The demo's labels, each with its scene as reference; writes the database where root does not exist."""
    if not root.exists():
        write_demo(root)
    ratings = koniq10k.read(root, image_folders=(IMAGE_FOLDER,))
    return [replace(rating, reference=scene_of(rating.image)) for rating in ratings]
