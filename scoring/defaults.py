"""Names and defaults that the command line of `inference.py` shares with what it calls; imports nothing heavy."""

import os

PREPROCESS = ("release", "release-224", "five-crop", "full")
PRECISIONS = ("fp32", "bf16", "fp16", "auto")
FORMATS = ("text", "json", "jsonl", "csv", "parquet")
OUTPUT_SUFFIXES = {".txt": "text", ".json": "json", ".jsonl": "jsonl", ".csv": "csv", ".parquet": "parquet"}
PAGE_SUFFIX = ".html"
MAX_PIXELS = 200_000_000  # the largest sensors of phones; 600 MB as RGB
BACKGROUND = "white"
ENGINES = LOCAL, RAY = ("local", "ray")
SOME_FAILED = 3
# what is picked from folders, in any case of letters; a file that is named itself may end as it likes
SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".avif", ".heic", ".heif", ".tif", ".tiff", ".bmp", ".dib"}
    | {".gif", ".jp2", ".j2k", ".jpx", ".ppm", ".pgm", ".pbm", ".pnm", ".tga"}
)
SHARDS = frozenset({".tar", ".parquet"})  # files with many images inside
IMAGE_COLUMNS = ("image", "path")  # of a CSV, unless it is said; `path` is what our own output has
IMAGE_BYTES = "bytes"


def is_remote(place: str) -> bool:
    """Whether a place lies in an object store: `s3://bucket/photos`."""
    return "://" in place


def is_shard(path: str) -> bool:
    """Whether a file is one with many images inside, by its suffix."""
    return os.path.splitext(path)[1].lower() in SHARDS
