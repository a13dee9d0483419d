"""Checksums in checkpoints: torch and safetensors read a file with flipped bits without an error.

A checksum is the CRC-32 of the whole file, as 8 hexadecimal digits within the file, which count as zeros. It notices
every flipped bit and every error burst of up to 32 bits.
"""

import io
import os
import re
import struct
import zipfile
import zlib
from typing import BinaryIO

from utils.errors import UserError

ZEROS = b"00000000"
BLOCK = 2**20  # bytes
COMMENT = b"richiqa crc32 "  # of a zip archive, the container of torch.save; followed by the digits
COMMENT_LENGTH = struct.pack("<H", len(COMMENT + ZEROS))  # in the archive, the two bytes before the comment
ARCHIVE_END = re.compile(
    rb"PK\x05\x06.{16}(\x00\x00|%b.{8})\Z" % re.escape(COMMENT_LENGTH + COMMENT), re.DOTALL
)  # without a comment, or with ours
LONGEST_END = 22 + len(COMMENT + ZEROS)  # bytes
KEY, VALUE = "checksum", "crc32 " + ZEROS.decode()  # in the metadata of safetensors
ENTRY = f'"{KEY}":"crc32 '.encode()
ADVICE = "copy or download it again, or write it again where it was made"


def add_to_archive(archive: io.BytesIO) -> None:
    """Add a checksum to a file that `torch.save` has written, as the comment of the archive, which readers skip."""
    archive.seek(-len(COMMENT_LENGTH), os.SEEK_END)
    assert archive.read() == bytes(len(COMMENT_LENGTH))
    archive.seek(-len(COMMENT_LENGTH), os.SEEK_END)
    archive.write(COMMENT_LENGTH + COMMENT + ZEROS)
    digits = b"%08x" % zlib.crc32(archive.getbuffer())
    archive.seek(-len(ZEROS), os.SEEK_END)
    archive.write(digits)


def fill_in(content: bytes) -> bytes:
    """Return the content of a .safetensors file with its checksum in place of the VALUE of KEY in its metadata."""
    return content.replace(ENTRY + ZEROS, ENTRY + b"%08x" % zlib.crc32(content), 1)


def check_archive(file: BinaryIO) -> bool:
    """Compare the checksum of a file that `torch.save` has written; return False if it has none.

    Raises:
        UserError: The file has been damaged.
    """
    size = file.seek(0, os.SEEK_END)
    file.seek(max(size - len(COMMENT_LENGTH + COMMENT + ZEROS), 0))
    summed = file.read().startswith(COMMENT_LENGTH + COMMENT)
    if summed:
        _compare(file, size - len(ZEROS))
    return summed


def check_end(file: BinaryIO) -> None:
    """Check that a file ends with its checksum or, as older ones, with none: what is left of one checks nothing.

    Raises:
        UserError: The file has been damaged.
    """
    file.seek(max(file.seek(0, os.SEEK_END) - LONGEST_END, 0))
    if not ARCHIVE_END.search(file.read()):
        raise UserError(f"{file.name} is damaged: its end has changed since it was written; {ADVICE}")


def check_records(file: BinaryIO) -> None:
    """Compare the CRC-32 of each record of an archive, which torch writes and never reads.

    A file that is no archive, as from torch before 1.6, has none.

    Raises:
        UserError: The file has been damaged.
    """
    if not zipfile.is_zipfile(file):
        return
    try:
        with zipfile.ZipFile(file) as archive:
            written = any(record.CRC for record in archive.infolist())  # torch can leave them out
            damaged = archive.testzip() if written else None
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, OSError, ValueError, struct.error, zlib.error):
        damaged = "its directory"
    if damaged is not None:
        raise UserError(f"{file.name} is damaged: {damaged} has changed since it was written; {ADVICE}")


def check_safetensors(file: BinaryIO) -> None:
    """Compare the checksum in a .safetensors file whose metadata have a KEY; it comes first in the file.

    Raises:
        UserError: The file has been damaged.
    """
    file.seek(0)
    position = file.read(BLOCK).find(ENTRY)
    if position < 0:
        raise UserError(f"{file.name} is damaged: its checksum cannot be read; {ADVICE}")
    _compare(file, position + len(ENTRY))


def _compare(file: BinaryIO, position: int) -> None:
    """Compare the checksum of a file with its digits, which are at a position."""
    file.seek(0)
    crc = zlib.crc32(ZEROS, _crc32(file, position))
    stated = file.read(len(ZEROS))
    found = b"%08x" % _crc32(file, None, crc)
    if found != stated:
        was = stated.decode("ascii", "replace")
        raise UserError(
            f"{file.name} is damaged: its checksum is {found.decode()}, and was {was} when it was written; {ADVICE}"
        )


def _crc32(file: BinaryIO, length: int | None, crc: int = 0) -> int:
    """Continue a CRC-32 with the next `length` bytes of a file, or with all that are left."""
    left = length
    while block := file.read(BLOCK if left is None else min(BLOCK, left)):
        crc = zlib.crc32(block, crc)
        left = None if left is None else left - len(block)
    return crc
