"""A folder of one hundred files that break careless programs."""

import os
import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

SIDE_OF_BOMB = 60_000


def write_hostile_folder(folder: Path) -> tuple[set[str], set[str]]:
    """Makes the folder; returns the names of the files that have a score and of those that have an error."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    rgb = Image.fromarray(rng.integers(0, 256, (48, 64, 3), dtype=np.uint8))
    good, bad = _pictures(folder, rgb, rng), _damaged(folder, rgb)
    for number in range(100 - len(good) - len(bad)):
        name = f"plain_{number:02d}.png"
        rgb.rotate(number).save(folder / name)
        good.add(name)
    return good, bad


def _pictures(folder: Path, rgb: Image.Image, rng: np.random.Generator) -> set[str]:
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        rgb.save(folder / f"exif_{orientation}.jpg", exif=exif)
    made = {
        "one_pixel.png": Image.new("RGB", (1, 1), "teal"),
        "line.png": Image.fromarray(rng.integers(0, 256, (20_000, 1, 3), dtype=np.uint8)),
        "lying.png": Image.fromarray(rng.integers(0, 256, (1, 20_000, 3), dtype=np.uint8)),
        "deep.png": Image.fromarray(rng.integers(0, 2**16, (48, 64)).astype(np.uint16)),
        "cmyk.jpg": rgb.convert("CMYK"),
        "grey.png": rgb.convert("L"),
        "bits.png": rgb.convert("1"),
        "alpha.png": Image.merge("RGBA", [*rgb.split(), rgb.convert("L")]),
        "grey_alpha.png": Image.merge("LA", [rgb.convert("L"), rgb.convert("L")]),
        "UPPER.JPG": rgb,
        "text_named.png": rgb,
        "line\nbreak.png": rgb,
        os.fsdecode(b"not_utf8_\xff\xfe.png"): rgb,
        "<script>alert(1)</script>.png".replace("/", "_"): rgb,
        '"quoted", comma.png': rgb,
        "=1+1.png": rgb,
        "-flag.png": rgb,
        "photo.webp": rgb,
    }
    for name, image in made.items():
        image.save(folder / name)
    rgb.quantize(16).save(folder / "palette.gif", transparency=0)
    rgb.save(folder / "frames.gif", save_all=True, append_images=[rgb.rotate(90)])
    rgb.save(folder / "really_a_jpeg.png", "JPEG")
    os.symlink("grey.png", folder / "link.png")
    names = {*made, "palette.gif", "frames.gif", "really_a_jpeg.png", "link.png"}
    return names | {f"exif_{orientation}.jpg" for orientation in range(1, 9)}


def _damaged(folder: Path, rgb: Image.Image) -> set[str]:
    rgb.save(folder / "whole.jpg")
    jpeg = (folder / "whole.jpg").read_bytes()
    (folder / "whole.jpg").unlink()
    content = {
        "empty.jpg": b"",
        "letter.jpg": b"Dear colleagues, please find attached",
        "page.png": b"<html><body>404</body></html>",
        "half.jpg": jpeg[: len(jpeg) // 2],
        "head.jpg": jpeg[:20],
        "noise.jpg": jpeg[:200] + b"\xff" * 200,
        "zeros.tif": b"\0" * 4096,
        "bad_tiff.tif": b"II*\0" + b"\xff" * 100,
        "bad_gif.gif": b"GIF89a" + b"\xff" * 30,
        "bomb.png": _bomb(),
    }
    for name, data in content.items():
        (folder / name).write_bytes(data)
    Image.new("F", (4, 4)).save(folder / "floats.tif")
    (folder / "a.jpg").mkdir()
    os.symlink("nowhere.png", folder / "broken_link.png")
    os.symlink("circle.png", folder / "circle.png")
    os.mkfifo(folder / "pipe.png")
    return {*content, "floats.tif", "a.jpg", "broken_link.png", "circle.png", "pipe.png"}


def _bomb() -> bytes:
    """A PNG of a few kilobytes that says it is 3.6 billion pixels."""
    head = struct.pack(">IIBBBBB", SIDE_OF_BOMB, SIDE_OF_BOMB, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", head), (b"IDAT", zlib.compress(b"\0" * 10**6)), (b"IEND", b"")]
    packed = [struct.pack(">I", len(x)) + kind + x + struct.pack(">I", zlib.crc32(kind + x)) for kind, x in chunks]
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)
