"""Image files are told by their content, and what stands beside their pixels does not matter."""

import io
import struct
import sys
import zlib

import numpy as np
import pytest
from PIL import Image, PngImagePlugin, features

from datasets.decoding import bits_per_sample, decode, load_image, to_rgb
from datasets.inspection.images import inspect_image
from datasets.metadata import without_metadata
from utils.errors import MissingFileError, UserError

GREY = np.random.default_rng(0).integers(0, 256, (12, 16), dtype=np.uint8)
PROFILE = bytes(3_000_000)  # more than Pillow unpacks


def encoded(image: Image.Image, kind: str, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def pixels_of(content: bytes) -> np.ndarray:
    return np.asarray(decode(io.BytesIO(content), lambda image, _complete: to_rgb(image)))


def chunk(kind: bytes, content: bytes, checksum: int | None = None) -> bytes:
    checksum = zlib.crc32(kind + content) if checksum is None else checksum
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)


def with_chunk(png: bytes, added: bytes, at_end: bool = False) -> bytes:
    place = len(png) - 12 if at_end else 8 + 25  # before IEND, or after IHDR
    return png[:place] + added + png[place:]


def tiff(content: bytes, bits: int, photometric: int = 1, kind: int = 1) -> bytes:
    """A grey TIFF of GREY's size in one strip."""
    height, width = GREY.shape
    shorts = {258: bits, 259: 1, 262: photometric, 277: 1, 339: kind}
    longs = {256: width, 257: height, 273: 8, 278: height, 279: len(content)}
    entries = [struct.pack("<HHIHH", tag, 3, 1, value, 0) for tag, value in shorts.items()]
    entries += [struct.pack("<HHII", tag, 4, 1, value) for tag, value in longs.items()]
    table = struct.pack("<H", len(entries)) + b"".join(sorted(entries, key=lambda x: x[:2][::-1])) + bytes(4)
    return b"II*\0" + struct.pack("<I", 8 + len(content)) + content + table


def damaged_pngs() -> dict[str, bytes]:
    image = Image.fromarray(GREY)
    plain, text = encoded(image, "PNG"), PngImagePlugin.PngInfo()
    text.add_itxt("workflow", '{"node": 1}' * 200_000, zip=True)
    late = b"Comment\0\0" + zlib.compress(bytes(2_000_000))
    return {
        "text": encoded(image, "PNG", pnginfo=text),
        "much text": with_chunk(plain, chunk(b"tEXt", b"a\0" + b"b" * 70_000_000)),
        "text after the pixels": with_chunk(plain, chunk(b"zTXt", late), at_end=True),
        "profile": encoded(image, "PNG", icc_profile=PROFILE),
        "profile of another compression": with_chunk(plain, chunk(b"iCCP", b"name\0\7abc")),
        "checksum": with_chunk(plain, chunk(b"tEXt", b"Comment\0hi", 1)),
        "checksum of EXIF": with_chunk(plain, chunk(b"eXIf", b"II*\0", 1)),
        "short": with_chunk(plain, chunk(b"pHYs", b"\0")),
        "private": with_chunk(plain, chunk(b"prVt", b"x", 1)),
        "many": with_chunk(with_chunk(plain, chunk(b"gAMA", b"")), chunk(b"tIME", b"now", 3)),
    }


@pytest.mark.parametrize("name", damaged_pngs())
def test_png_with_metadata_that_pillow_refuses(name, tmp_path):
    content = damaged_pngs()[name]
    np.testing.assert_array_equal(pixels_of(content)[..., 0], GREY)
    (tmp_path / "a.jpg").write_bytes(content)
    np.testing.assert_array_equal(np.asarray(load_image(tmp_path / "a.jpg"))[..., 0], GREY)
    file = inspect_image(tmp_path, "a.jpg", decoded=True)
    assert (file.error, file.kind, file.width) == ("", "PNG", 16)
    if "after" in name:  # Pillow opens the others not at all
        with Image.open(tmp_path / "a.jpg") as opened:
            assert decode(opened, lambda image, complete: (to_rgb(image).size, complete)) == ((16, 12), False)


@pytest.mark.parametrize("segment", [b"\xff\xe0\0\x08JFIF\0\1", b"\xff\xee\0\x08Adobe\0"])
def test_jpeg_with_segments_that_are_too_short(segment):
    exif = Image.Exif()
    exif[0x0112] = 6
    content = encoded(Image.fromarray(GREY), "JPEG", exif=exif, comment=b"comment")
    damaged = content[:2] + segment + content[2:]
    np.testing.assert_array_equal(pixels_of(damaged), pixels_of(content))
    kept = Image.open(io.BytesIO(without_metadata(io.BytesIO(damaged))))
    assert kept.getexif()[0x0112] == 6
    assert "comment" not in kept.info
    cmyk = encoded(Image.fromarray(GREY).convert("RGB").convert("CMYK"), "JPEG")
    damaged = cmyk[:2] + segment + cmyk[2:]
    np.testing.assert_array_equal(pixels_of(damaged), pixels_of(cmyk))


def test_tiff_with_damaged_tags():
    content = encoded(Image.fromarray(GREY), "TIFF", description="abc", dpi=(72, 72), icc_profile=b"profile")
    for tag in (270, 282, 283, 34675):
        place = content.index(struct.pack("<H", tag), content.index(struct.pack("<HHI", 256, 4, 1)))
        damaged = content[: place + 2] + b"\xff" * 10 + content[place + 12 :]
        np.testing.assert_array_equal(pixels_of(damaged)[..., 0], GREY)
    kept = without_metadata(io.BytesIO(content))
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(kept))), GREY)
    assert not {270, 282, 34675} & set(Image.open(io.BytesIO(kept)).tag_v2)


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow reads no AVIF")
def test_avif_with_damaged_exif():
    exif = Image.Exif()
    exif[0x010E] = "a description"
    content = encoded(Image.fromarray(GREY).convert("RGB"), "AVIF", exif=exif.tobytes(), quality=100)
    place = content.rindex(b"a description")
    damaged = content[: place - 40] + bytes(50) + content[place + 10 :]
    np.testing.assert_array_equal(pixels_of(damaged), pixels_of(content))


def test_what_is_damaged_itself_keeps_its_error(tmp_path):
    whole = encoded(Image.fromarray(GREY), "PNG", compress_level=0)
    (tmp_path / "a.png").write_bytes(whole[:150])
    with pytest.raises(UserError, match=r"a\.png cannot be decoded: .*truncated"):
        load_image(tmp_path / "a.png")
    assert "truncated" in inspect_image(tmp_path, "a.png", decoded=True).error


@pytest.mark.parametrize("brand", [b"heic", b"heix", b"mif1", b"msf1"])
def test_heic_by_content(brand, tmp_path):
    heif = pytest.importorskip("pillow_heif")
    rgb = Image.fromarray(np.stack([GREY] * 3, axis=-1)).resize((64, 64))
    file = io.BytesIO()
    heif.from_pillow(rgb).save(file, quality=-1)
    content = file.getvalue()[:8] + brand + file.getvalue()[12:]
    (tmp_path / "a.JPG").write_bytes(content)
    np.testing.assert_allclose(np.asarray(load_image(tmp_path / "a.JPG")).astype(int), np.asarray(rgb), atol=12)
    assert inspect_image(tmp_path, "a.JPG", decoded=False).kind == "HEIF"


def test_heic_names_the_package_that_it_needs(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    (tmp_path / "a.jpg").write_bytes(b"\0\0\0\x18ftypheim\0\0\0\0mif1heic")
    with pytest.raises(UserError, match=r"a\.jpg: HEIC needs the package pillow-heif"):
        load_image(tmp_path / "a.jpg")
    assert "pillow-heif" in inspect_image(tmp_path, "a.jpg", decoded=False).error


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"PK\3\4...", r"is not an image but an archive \(zip\)"),
        (b"x" * 257 + b"ustar\0", r"an archive \(tar\)"),
        (b"\x1f\x8b\x08", "an archive or compressed file"),
        (b"PAR1", "a Parquet table"),
        (b"%PDF-1.7", "a PDF"),
        (b"\xff\x0a..", "JPEG XL file, which Pillow does not read; convert it"),
        (b"version https://git-lfs.github.com/spec/v1\n", "`git lfs pull` fetches it"),
        (b"<!DOCTYPE html>", "a web page; its download went wrong"),
        (b"<svg xmlns", "a drawing"),
        (b"\0\0\0\x20ftypisom", "a video"),
        (b"Dear colleagues", "is not an image that Pillow can read"),
        (b"", "is empty"),
    ],
)
def test_what_is_not_an_image_is_named(content, message, tmp_path):
    (tmp_path / "a.jpg").write_bytes(content)
    with pytest.raises(UserError, match=rf"a\.jpg .*{message}"):
        load_image(tmp_path / "a.jpg")


def test_what_is_not_a_file(tmp_path):
    with pytest.raises(MissingFileError, match=r"image .*a\.jpg does not exist"):
        load_image(tmp_path / "a.jpg")
    with pytest.raises(UserError, match="is a folder, not an image"):
        load_image(tmp_path)


def packed_12_bits() -> bytes:
    values = (GREY.astype(np.uint32) * 4095 + 127) // 255
    bits = (values[..., None] >> np.arange(11, -1, -1)) & 1
    return np.packbits(bits.astype(np.uint8).reshape(len(GREY), -1), axis=1).tobytes()


DEEP = GREY.astype("<u2") * 257
SAME_PICTURE = {
    "TIFF of 16 bits": tiff(DEEP.tobytes(), 16),
    "TIFF of 16 bits, white is 0": tiff((65535 - DEEP).astype("<u2").tobytes(), 16, photometric=0),
    "TIFF of 8 bits, white is 0": tiff((255 - GREY).tobytes(), 8, photometric=0),
    "TIFF of 12 bits": tiff(packed_12_bits(), 12),
    "PNG of 16 bits": encoded(Image.fromarray(DEEP), "PNG"),
    "PGM of 16 bits": b"P5 16 12 65535\n" + DEEP.astype(">u2").tobytes(),
    "PGM of 12 bits": b"P5 16 12 4095\n" + ((GREY.astype(int) * 4095 + 127) // 255).astype(">u2").tobytes(),
    "JPEG 2000 of 16 bits": encoded(Image.fromarray(DEEP), "JPEG2000", irreversible=False),
}


@pytest.mark.parametrize("name", SAME_PICTURE)
def test_a_picture_of_any_depth_is_the_same(name):
    np.testing.assert_array_equal(pixels_of(SAME_PICTURE[name]), np.stack([GREY] * 3, axis=-1))
    with Image.open(io.BytesIO(SAME_PICTURE[name])) as image:
        assert bits_per_sample(image) == (12 if name == "TIFF of 12 bits" else 8 if "8 bits" in name else 16)


@pytest.mark.parametrize("mode", ["L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK"])
def test_a_picture_of_any_mode_is_the_same(mode):
    steps = {"La": ("LA", "La"), "PA": ("P", "PA"), "RGBX": ("RGB", "RGBX"), "CMYK": ("RGB", "CMYK")}
    image = Image.fromarray(GREY)
    for step in steps.get(mode, (mode,)):
        image = image.convert(step)
    np.testing.assert_array_equal(np.asarray(to_rgb(image)), np.stack([GREY] * 3, axis=-1))


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (tiff(GREY.astype("<u4").tobytes(), 32), "32-bit integers"),
        (tiff(GREY.astype("<i4").tobytes(), 32, kind=2), "32-bit integers"),
        (tiff(GREY.astype("<f4").tobytes(), 32, kind=3), "floats"),
    ],
)
def test_an_unknown_range_is_refused_from_the_header(content, kind, tmp_path):
    (tmp_path / "a.tif").write_bytes(content)
    message = f"an image of {kind} has no known range of values; save it with 8 or 16 bits"
    with pytest.raises(UserError, match=rf"a\.tif: {message}"):
        load_image(tmp_path / "a.tif")
    assert message in inspect_image(tmp_path, "a.tif", decoded=False).error
    with pytest.raises(UserError, match="32-bit integers has no known range"):
        to_rgb(Image.fromarray(GREY).convert("I"))


def test_exif_that_cannot_be_read_is_no_error_of_the_image(tmp_path):
    Image.fromarray(GREY).save(tmp_path / "a.jpg", exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    file = inspect_image(tmp_path, "a.jpg", decoded=True)
    assert (file.error, file.rotated) == ("", False)


def test_postscript_is_not_run(tmp_path, monkeypatch):
    """Pillow would start Ghostscript, which runs the program that such a file is."""
    Image.new("RGB", (4, 4)).save(tmp_path / "a.eps")
    (tmp_path / "a.eps").rename(tmp_path / "a.jpg")
    monkeypatch.setattr("subprocess.Popen", None)
    monkeypatch.setattr("PIL.EpsImagePlugin.has_ghostscript", lambda: True)
    with pytest.raises(UserError, match=r"a\.jpg: PostScript files are programs and are not run"):
        load_image(tmp_path / "a.jpg")
