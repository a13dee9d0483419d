"""Damaged variants of valid files: random changes of bytes, and changes that keep checksums and lengths right."""

import io
import json
import re
import struct
import zipfile
import zlib
from collections.abc import Callable, Sequence
from random import Random

NUMBERS = (
    *(0, 1, 2, 3, 127, 128, 255, 256, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF),
    *(2**40, 2**63 - 1, 2**64 - 1),
)
TEXTS = (
    *(b"", b"0", b"-1", b"1e999", b"nan", b"-inf", b"9" * 400, b"0x" + b"f" * 40, b"1_000", b"\xc2\xb2", b"null", b"~"),
    *(b"../../etc/passwd", b"/etc/passwd", b"/dev/zero", b"CON", b"C:\\a", b"..", b"%s%n", b"\0", b"\r\n", b"\n\n"),
    *(b"\xff\xfe", b"\xef\xbb\xbf", b"\xed\xa0\x80", b"\xf0\x9f\x98\x80", b"\xe2\x80\xae", b"=1+1", b"@SUM(A1)"),
    *(b'"', b"'", b",", b";", b"\t", b"[", b"{", b"(", b"}" * 9, b"[" * 60, b"(" * 60, b"- " * 60, b"a" * 300),
    *(b"&a ", b"*a ", b"<<: *a", b"!!python/object/apply:os.system [x] ", b"!!timestamp x", b"!!binary x"),
    *(b"!!set ", b"!!omap ", b"!!int ", b"? "),
)

Change = Callable[[bytes, Random], bytes]


def mutated(seeds: Sequence[bytes], random: Random, changes: Sequence[Change] = ()) -> bytes:
    """Return one of the seeds after a few random changes; `changes` are those that know the format."""
    data = random.choice(seeds)
    for _ in range(1 + min(int(random.expovariate(0.5)), 8)):
        change = random.choice(changes) if changes and random.random() < 0.6 else random.choice(ANY)
        data = change(data, random) if data else random.choice(seeds)
        if random.random() < 0.05:
            other = random.choice(seeds)
            data = data[: random.randrange(len(data) + 1)] + other[random.randrange(len(other) + 1) :]
    return data


def _flip(data: bytes, random: Random) -> bytes:
    changed = bytearray(data)
    for _ in range(random.choice((1, 1, 2, 4, 16))):
        changed[random.randrange(len(data))] ^= 1 << random.randrange(8)
    return bytes(changed)


def _number(data: bytes, random: Random) -> bytes:
    size, order = random.choice((1, 2, 4, 8)), random.choice(("little", "big"))
    place = random.randrange(len(data))
    value = (random.choice(NUMBERS) % 256**size).to_bytes(size, order)
    return data[:place] + value + data[place + size :]


def _cut(data: bytes, random: Random) -> bytes:
    start = random.randrange(len(data))
    length = random.choice((1, 2, 8, 64, len(data)))
    return data[:start] + data[start + length :]


def _repeat(data: bytes, random: Random) -> bytes:
    start = random.randrange(len(data))
    part = data[start : start + random.choice((1, 4, 32, 200))]
    return data[:start] + part * random.choice((1, 2, 30)) + data[start:]


def _text(data: bytes, random: Random) -> bytes:
    place = random.randrange(len(data) + 1)
    return data[:place] + random.choice(TEXTS) + data[place + random.choice((0, 1, 5)) :]


def _word(data: bytes, random: Random) -> bytes:
    words = list(re.finditer(rb"[\w.+-]+", data[:20_000]))
    if not words:
        return data
    word = random.choice(words)
    other = random.choice((random.choice(TEXTS), random.choice(words)[0], word[0] * 2))
    return data[: word.start()] + other + data[word.end() :]


ANY: tuple[Change, ...] = (_flip, _number, _cut, _repeat, _text, _word)


def _nothing(data: bytes, _random: Random) -> bytes:
    return data


def in_zip(*changes: Change, members: str = "") -> Change:
    """Return the change of one member of a zip file, whose checksums and lengths are right again.

    Args:
        changes: The changes of the member; any if there are none.
        members: Pattern of the names of the members.
    """

    def change(data: bytes, random: Random) -> bytes:
        try:
            with zipfile.ZipFile(io.BytesIO(data)) as archive:
                parts = [(name, archive.read(name)) for name in archive.namelist()]
        except Exception:  # it is damaged already
            return data
        chosen = random.choice([name for name, _ in parts if re.search(members, name)] or [""])
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w") as archive:
            for name, content in parts:
                archive.writestr(
                    name, random.choice(changes or ANY)(content or b"\0", random) if name == chosen else content
                )
        return file.getvalue()

    return change


def in_header(data: bytes, random: Random) -> bytes:
    """Return a safetensors file with a change in its header, whose length is right again."""
    length = min(int.from_bytes(data[:8], "little"), len(data))
    header = random.choice((_word, _text, _repeat, _cut, _offsets))(data[8 : 8 + length] or b"{}", random)
    return struct.pack("<Q", len(header)) + header + data[8 + length :]


def _offsets(header: bytes, random: Random) -> bytes:
    try:
        content = json.loads(header)
        tensor = random.choice([value for value in content.values() if "data_offsets" in value])
        key = random.choice(("data_offsets", "shape"))
        tensor[key] = [random.choice((*NUMBERS, -1, *tensor[key])) for _ in range(random.choice((1, 2, 2, 2, 3, 90)))]
        tensor["dtype"] = random.choice(("F32", "F64", "BF16", "F16", "I8", "BOOL", "F8_E4M3", "X9"))
    except (ValueError, TypeError, LookupError):
        return header
    return json.dumps(content).encode()


def png_chunks(data: bytes, random: Random) -> bytes:
    """Return a PNG file with a change in a chunk, whose checksum and length are right again."""
    chunks, position = [], 8
    while position + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, position)
        chunks.append((kind, data[position + 8 : position + 8 + length]))
        position += 12 + length
    if not chunks:
        return data
    chosen = random.randrange(len(chunks))
    kind, content = chunks[chosen]
    if kind == b"IDAT" and random.random() < 0.7:
        chunks[chosen] = (kind, zlib.compress(random.choice(ANY)(_inflated(content), random)))
    else:
        chunks[chosen] = (kind, random.choice(ANY)(content or b"\0", random))
    packed = [struct.pack(">I", len(x)) + kind + x + struct.pack(">I", zlib.crc32(kind + x)) for kind, x in chunks]
    return data[:8] + b"".join(packed)


def _inflated(content: bytes) -> bytes:
    try:
        return zlib.decompressobj().decompress(content, 2**20) or b"\0"
    except zlib.error:
        return content or b"\0"


def mat_elements(data: bytes, random: Random) -> bytes:
    """Return a MATLAB file with a change in one variable, which is compressed again if it was."""
    if len(data) < 140:
        return data
    kind, length = struct.unpack_from("<II", data, 128)
    content = data[136 : 136 + length]
    if kind != 15:
        return data[:128] + random.choice(ANY)(data[128:], random)
    packed = zlib.compress(random.choice(ANY)(_inflated(content), random))
    return data[:128] + struct.pack("<II", 15, len(packed)) + packed + data[136 + length :]
