"""Encoded images without what stands beside their pixels, for files whose metadata keep Pillow from reading them.

Only what the pixels need is kept, and the EXIF orientation where it can be read.
"""

import re
import struct
import zlib
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import IO

from utils.files import read_at_most

PNG = b"\x89PNG\r\n\x1a\n"
PNG_KEPT = {b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS", b"eXIf"}  # the last two only if their checksum is right
PNG_ANCILLARY = 0x20  # bit of the first letter of a chunk's name
JPEG, JPEG_PIXELS = b"\xff\xd8\xff", 0xDA  # its beginning, and the marker before the pixels
JPEG_COLOURS = {0xE0: 16, 0xEE: 14}  # segments that say which colours are stored, and their least number of bytes
JPEG_EXIF, JPEG_DROPPED = b"Exif\0", {*range(0xE0, 0xF0), 0xFE}  # the second: markers of metadata
TIFF_HEADS = {b"II*\0": "<", b"MM\0*": ">"}
TIFF_KEPT = {  # numbers of the tags that describe the pixels, and of the orientation
    *(254, 255, 256, 257, 258, 259, 262, 266, 273, 274, 277, 278, 279, 284, 292, 293, 317, 320, 322, 323, 324, 325),
    *(332, 334, 338, 339, 347, 512, 513, 514, 515, 519, 520, 521, 529, 530, 532),
}
TIFF_ENTRY = 12  # bytes
BOXES = b"ftyp"  # AVIF and HEIF
BOXES_EXIF = re.compile(rb"(infe.{8})Exif", re.DOTALL)  # entry of a list of contents: version, flags, number, index
LARGEST = 2**29  # bytes; larger files are not read twice, to limit memory


def without_metadata(file: str | Path | IO[bytes] | None) -> bytes | None:
    """Return the image file with the metadata left out; None if it has none that are known, or cannot be read."""
    try:
        with open(file, "rb") if isinstance(file, (str, Path)) else nullcontext(file) as opened:
            opened.seek(0)
            content = read_at_most(opened, LARGEST + 1)
        pixels = _pixels_alone(content) if len(content) <= LARGEST else None
    except (OSError, AttributeError, ValueError, struct.error):  # ValueError: the file is closed
        return None
    return None if pixels == content else pixels


def _pixels_alone(content: bytes) -> bytes | None:
    if content.startswith(PNG):
        return PNG + b"".join(_png_chunks(content))
    if content.startswith(JPEG):
        return b"".join(_jpeg_segments(content))
    if content[:4] in TIFF_HEADS:
        return _tiff(content, TIFF_HEADS[content[:4]])
    if content[4:8] == BOXES:
        return BOXES_EXIF.sub(rb"\1free", content)  # a kind that readers pass over
    return None


def _png_chunks(content: bytes) -> Iterator[bytes]:
    position = len(PNG)
    while position + 8 <= len(content):
        length, kind = struct.unpack_from(">I4s", content, position)
        end = position + 12 + length
        chunk, position = content[position:end], end
        if kind not in PNG_KEPT:
            continue
        checked = zlib.crc32(chunk[4:-4]).to_bytes(4, "big") == chunk[-4:]
        if checked or not kind[0] & PNG_ANCILLARY:
            yield chunk


def _jpeg_segments(content: bytes) -> Iterator[bytes]:
    """Yield the segments of a JPEG file that the pixels need, the EXIF data, and all from the pixels on."""
    yield content[:2]
    position = 2
    while position + 4 <= len(content):
        _, marker, length = struct.unpack_from(">BBH", content, position)
        if marker == JPEG_PIXELS:
            break
        end = position + 2 + length
        segment, position = content[position:end], end
        colours = length >= JPEG_COLOURS.get(marker, length + 1)
        if marker not in JPEG_DROPPED or colours or segment[4:].startswith(JPEG_EXIF):
            yield segment
    yield content[position:]


def _tiff(content: bytes, order: str) -> bytes:
    """Return a TIFF file whose first list of tags has only those of TIFF_KEPT."""
    (start,) = struct.unpack_from(f"{order}I", content, 4)
    (count,) = struct.unpack_from(f"{order}H", content, start)
    first, last = start + 2, start + 2 + count * TIFF_ENTRY
    entries = [content[place : place + TIFF_ENTRY] for place in range(first, last, TIFF_ENTRY)]
    kept = [entry for entry in entries if struct.unpack_from(f"{order}H", entry)[0] in TIFF_KEPT]
    after = content[last : last + 4]  # where the next list is
    table = struct.pack(f"{order}H", len(kept)) + b"".join(kept) + after
    return content[:start] + table.ljust(last + 4 - start, b"\0") + content[last + 4 :]
