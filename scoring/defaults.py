"""Names and defaults that the command line of `inference.py` shares with the code behind it; imports nothing heavy."""

import os

from utils.image_names import IMAGE_SUFFIXES

PREPROCESS = ("release", "release-224", "five-crop", "full")
PRECISIONS = ("fp32", "bf16", "fp16", "auto")
OUTPUT_SUFFIXES = {".txt": "text", ".json": "json", ".jsonl": "jsonl", ".csv": "csv", ".parquet": "parquet"}
FORMATS = tuple(OUTPUT_SUFFIXES.values())
PAGE_SUFFIX = ".html"
MAX_PIXELS = 200_000_000  # the largest phone sensors; 600 MB as RGB
BACKGROUND = "white"
ENGINES = LOCAL, RAY = ("local", "ray")
SOME_FAILED = 3  # exit status
SHARD_SUFFIXES = frozenset({".tar", ".parquet"})  # files that contain many images
IMAGE_COLUMNS = ("image", "path")  # default columns of image names; `path` is the column of our own output
BYTES_COLUMN = "bytes"


def is_remote(place: str) -> bool:
    """Return whether a place is in an object store, such as `s3://bucket/photos`."""
    return "://" in place


def is_image(path: str, suffixes: frozenset[str] = IMAGE_SUFFIXES) -> bool:
    """Return whether a file in a folder or archive is an image to score, judging by its name; hidden files are not."""
    return os.path.splitext(path)[1].lower() in suffixes and not os.path.basename(path).startswith(".")


def is_shard(path: str) -> bool:
    """Return whether a file contains many images, judging by its suffix."""
    return os.path.splitext(path)[1].lower() in SHARD_SUFFIXES
