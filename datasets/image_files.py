"""A cheap check of the image files of a database before they are used: are they whole?"""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import chain
from pathlib import Path

from datasets.decoding import load_image
from datasets.ratings import Rating
from utils.errors import UserError

THREADS = 16  # enough to keep a network drive busy
CHUNK = 32  # images that a thread takes at a time; one by one takes twice as long
HEAD, TAIL = 16, 64  # bytes that are read
JPEG, JPEG_END = b"\xff\xd8\xff", b"\xff\xd9"
PNG, PNG_END = b"\x89PNG\r\n\x1a\n", b"IEND\xaeB`\x82"
GIF, GIF_END = b"GIF8", b";"
BMP, RIFF = b"BM", b"RIFF"  # their headers state the size


def with_damage(ratings: Sequence[Rating], root: Path) -> list[Rating]:
    """Return the ratings with what is wrong with their image files, see `find_damage`."""
    there = list(dict.fromkeys(rating.image for rating in ratings if not rating.missing))
    chunks = [there[start : start + CHUNK] for start in range(0, len(there), CHUNK)]
    with ThreadPoolExecutor(THREADS) as pool:
        found = pool.map(lambda chunk: [find_damage(root / image) for image in chunk], chunks)
        damage = dict(zip(there, chain.from_iterable(found), strict=True))
    return [replace(rating, damage=damage[rating.image]) if damage.get(rating.image) else rating for rating in ratings]


def find_damage(path: Path) -> str:
    """Return why an image file cannot be read, or an empty string if nothing is found.

    It finds empty and truncated files, and files that are no images, but not damage within a file, whose ends are
    right. Only a file that does not begin and end as a JPEG, PNG, GIF, BMP or WebP does is decoded, so that what
    follows the image, such as the video of a phone's picture, is no damage.
    """
    try:
        if not _is_whole(path):
            load_image(path)
    except OSError as error:
        return f"{path} cannot be read: {error.strerror or error}"
    except UserError as error:
        return str(error)
    return ""


def _is_whole(path: Path) -> bool:
    with open(path, "rb") as file:
        head = file.read(HEAD)
        size = file.seek(0, os.SEEK_END)
        file.seek(max(size - TAIL, 0))
        tail = file.read().rstrip(b"\0\r\n")
    if head.startswith(BMP):
        return 0 < int.from_bytes(head[2:6], "little") <= size
    if head.startswith(RIFF):
        return int.from_bytes(head[4:8], "little") + 8 <= size
    ends = {JPEG: JPEG_END, PNG: PNG_END, GIF: GIF_END}
    return any(head.startswith(start) and tail.endswith(end) for start, end in ends.items())
