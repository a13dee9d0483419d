"""Names and defaults that the command line of `inference.py` shares with the code behind it; imports nothing heavy."""

import os
import re
from urllib.parse import unquote_to_bytes

from utils.errors import UserError
from utils.image_names import IMAGE_SUFFIXES

PREPROCESS = ("release", "release-224", "five-crop", "full")
DECODE = EXACT, DRAFT = ("exact", "draft")
PRECISIONS = ("fp32", "bf16", "fp16", "auto")
OUTPUT_SUFFIXES = {".txt": "text", ".json": "json", ".jsonl": "jsonl", ".csv": "csv", ".parquet": "parquet"}
FORMATS = tuple(OUTPUT_SUFFIXES.values())
PAGE_SUFFIX = ".html"
MAX_PIXELS = 200_000_000  # the largest phone sensors; 600 MB as RGB
BACKGROUND = "white"
SHIPPED = "richiqa_lite.safetensors"  # in checkpoint/, beside the code
NEWEST = "newest"
ENGINES = LOCAL, RAY = ("local", "ray")
SOME_FAILED = 3  # exit status
# files that contain many images
SHARD_SUFFIXES = frozenset(
    {".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst", ".zip", ".parquet"}
)
# files that systems leave in folders
SYSTEM_FILES = re.compile(r"\._|\.DS_Store$|\.localized$|Thumbs\.db$|ehthumbs\.db$|desktop\.ini$", re.IGNORECASE)
SYSTEM_FOLDERS = frozenset({"__MACOSX", "@eaDir", "$RECYCLE.BIN", "System Volume Information"})
IMAGE_COLUMNS = ("image", "path")  # default columns of image names; `path` is the column of our own output
BYTES_COLUMN = "bytes"
ADDRESS = re.compile("data:image/|file:/|[a-z][a-z0-9+.-]*://", re.IGNORECASE)
FILE_ADDRESS = re.compile("file:(//[^/]*)?", re.IGNORECASE)
WEB = ("http:", "https:", "ftp:", "ftps:")
READS_STORES = "--engine ray reads it, or download it first"
STORES = ("s3:", "gs:", "gcs:", "abfs:", "abfss:", "hdfs:", "viewfs:")  # those that pyarrow reads


def is_remote(place: str) -> bool:
    """Return whether a place has an address instead of a path, such as `s3://bucket/photos`."""
    return ADDRESS.match(place) is not None and not os.path.lexists(place)


def local_path(place: str, in_store: str = "download it first") -> str:
    """Return the path of a `file://` address; any other path as it is.

    Args:
        place: Path or address.
        in_store: What to do about a file in an object store.

    Raises:
        UserError: The address is on the web, in an object store, or of another kind that is not read.
    """
    if not is_remote(place):
        return place
    if path := FILE_ADDRESS.match(place):
        return os.fsdecode(unquote_to_bytes(place[path.end() :]))
    if place.lower().startswith("data:"):
        raise UserError("an address that contains the image is not read; decode it and pass the bytes")
    if place.lower().startswith(WEB):
        raise UserError(f"{place} is on the web, which is not read; download it first")
    if place.lower().startswith(STORES):
        raise UserError(f"{place} is in an object store; {in_store}")
    raise UserError(f"{place} is an address of an unknown kind; name a local file")


def is_image(path: str, suffixes: frozenset[str] = IMAGE_SUFFIXES) -> bool:
    """Return whether a file in a folder or archive is an image to score, judging by its name; hidden files are not."""
    return path.lower().endswith(tuple(suffixes)) and not os.path.basename(path).startswith(".")


def is_shard(path: str) -> bool:
    """Return whether a file contains many images, judging by its suffix."""
    return path.lower().endswith(tuple(SHARD_SUFFIXES))
