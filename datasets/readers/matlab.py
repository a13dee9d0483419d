"""Variables of MATLAB files, versions 5 to 7: arrays of numbers, and cell arrays of texts.

SciPy's reader is compiled and can crash the process on a damaged file; this one can only raise errors.

Source: MathWorks, MAT-File Format, R2023a.
"""

import math
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from utils.errors import UserError, one_line, some_of
from utils.files import read_limited

HEADER, VERSION = 128, 124  # bytes; the last four are the version and the order of the bytes
ORDERS = {b"IM": "<", b"MI": ">"}
HDF5 = 0x200  # least version of another format
TAG, ALIGNMENT, SMALL = 8, 8, 4  # bytes: of a tag, of the place of an element, of the content within a short tag
MATRIX, COMPRESSED = 14, 15  # types of elements
NUMBERS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
ENCODINGS = {1: "latin-1", 2: "latin-1", 4: "utf-16", 16: "utf-8", 17: "utf-16", 18: "utf-32"}
WIDE, BYTE_ORDERS = ("utf-16", "utf-32"), {"<": "-le", ">": "-be"}
CELL, CHAR, NUMERIC = 1, 4, range(6, 16)  # classes of arrays
CLASS, COMPLEX = 0xFF, 0x800  # bits of the flags of an array
LARGEST = 2**26  # bytes of a variable; scores of a million images are 2**23

SHOWN = 8  # names in one message

Array = np.ndarray


@dataclass(frozen=True)
class _Variable:
    """An array in a file: the bits of its flags, its shape as stored, its name, and the elements with its values."""

    bits: int
    shape: memoryview
    name: str
    parts: Iterator[tuple[int, memoryview]]


def read_mat(path: Path, *variables: str, texts: bool = False) -> list[Array]:
    """Return variables of a MATLAB file.

    Args:
        path: Path of the file.
        variables: Their names.
        texts: Whether they are cell arrays of texts, which become arrays of `str`; else they are arrays of numbers,
            which become float64.

    Raises:
        UserError: The file is not a MATLAB file, or lacks a variable, or one is of another kind.
    """
    content = memoryview(read_limited(path))
    found: dict[str, Array] = {}
    names = []
    try:
        order = _byte_order(content)
        for kind, element in _elements(content[HEADER:], order):
            variable = _variable(*_decompressed(kind, element, order), order)
            names.append(variable.name)
            if variable.name in variables:
                found[variable.name] = (_texts if texts else _numbers)(variable, order)
    except (ValueError, struct.error, zlib.error) as error:
        raise UserError(f"{path}: cannot be read as a MATLAB file: {one_line(error)}") from error
    for name in variables:
        if name not in found:
            raise UserError(f"{path}: no variable {name!r}; it has {some_of(list(map(repr, names)), SHOWN) or 'none'}")
    return [found[name] for name in variables]


def _byte_order(content: memoryview) -> str:
    version, mark = bytes(content[VERSION : VERSION + 2]), bytes(content[VERSION + 2 : HEADER])
    if mark not in ORDERS:
        raise ValueError("it has no header of version 5 or later")
    if struct.unpack(f"{ORDERS[mark]}H", version)[0] >= HDF5:
        raise ValueError("it is of version 7.3; save it in MATLAB with the option -v7")
    return ORDERS[mark]


def _elements(content: memoryview, order: str) -> Iterator[tuple[int, memoryview]]:
    """Yield type and content of the data elements, one after another.

    Raises:
        ValueError, struct.error: An element is longer than what is left.
    """
    place = 0
    while place < len(content):
        kind, size = struct.unpack_from(f"{order}II", content, place)
        start = place + TAG
        if short := kind >> 16:  # size and type share the first four bytes, and the content follows at once
            kind, size, start = kind & 0xFFFF, short, place + SMALL
            if size > SMALL:
                raise ValueError(f"a short element of {size} bytes")
        if start + size > len(content):
            raise ValueError(f"an element of {size} bytes, of which {len(content) - start} are there")
        yield kind, content[start : start + size]
        place = max(start + size, place + TAG)
        if kind != COMPRESSED:
            place += -place % ALIGNMENT


def _decompressed(kind: int, element: memoryview, order: str) -> tuple[int, memoryview]:
    """Return an element as it was before it was compressed, if it was."""
    if kind != COMPRESSED:
        return kind, element
    packed = zlib.decompressobj()
    content = packed.decompress(element, LARGEST)
    if packed.unconsumed_tail:
        raise ValueError(f"a variable of more than {LARGEST // 2**20} MB")
    return next(_elements(memoryview(content), order), (kind, element))


def _variable(kind: int, content: memoryview, order: str) -> _Variable:
    if kind != MATRIX:
        raise ValueError(f"an element of type {kind} instead of an array")
    nothing = (0, memoryview(b""))
    if not content:  # as MATLAB stores an empty cell
        return _Variable(0, nothing[1], "", iter(()))
    parts = _elements(content, order)
    (_, flags), (_, shape), (_, name) = (next(parts, nothing) for _ in range(3))
    return _Variable(struct.unpack_from(f"{order}I", flags)[0], shape, bytes(name).decode("utf-8", "replace"), parts)


def _numbers(variable: _Variable, order: str) -> Array:
    parts = list(variable.parts)
    if (
        variable.bits & CLASS not in NUMERIC
        or variable.bits & COMPLEX
        or [kind in NUMBERS for kind, _ in parts] != [True]
    ):
        raise ValueError(f"{variable.name} is not an array of real numbers")
    ((kind, content),) = parts
    return _shaped(np.frombuffer(content, order + NUMBERS[kind]).astype(np.float64), variable, order)


def _texts(variable: _Variable, order: str) -> Array:
    if variable.bits & CLASS != CELL:
        raise ValueError(f"{variable.name} is not a cell array of texts")
    texts = [_text(_variable(*part, order), order) for part in variable.parts]
    return _shaped(np.array(texts, dtype=object), variable, order)


def _text(cell: _Variable, order: str) -> str:
    """Return the text in a cell, which is a row of characters."""
    kind, content = next(cell.parts, (0, b""))
    if not content:
        return ""
    if cell.bits & CLASS != CHAR or kind not in ENCODINGS or _shape(cell, order)[:1] != (1,):
        raise ValueError("a cell contains something else than a line of text")
    encoding = ENCODINGS[kind]
    return bytes(content).decode(encoding + BYTE_ORDERS[order] if encoding in WIDE else encoding)


def _shape(variable: _Variable, order: str) -> tuple[int, ...]:
    return struct.unpack(f"{order}{len(variable.shape) // 4}i", variable.shape)


def _shaped(values: Array, variable: _Variable, order: str) -> Array:
    shape = _shape(variable, order)
    if min(shape, default=-1) < 0 or math.prod(shape) != values.size:
        raise ValueError(f"{variable.name} has {values.size} values and the shape {shape}")
    return values.reshape(shape, order="F")
