"""Pictures of every kind, and files that are none."""

import io
import os
import struct
import sys
import zlib
from threading import Thread
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms, ImageFile

from datasets.cache import ImageSource
from datasets.transforms import build_test_transform
from inference import load_predictor
from scoring import defaults, pictures
from scoring.pictures import PictureSettings, open_picture, opened_picture
from scoring.records import RowBuilder
from utils.errors import MissingFileError, UserError

POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"
RNG = np.random.default_rng(0)


def colours(height=20, width=30):
    return RNG.integers(0, 256, (height, width, 3), dtype=np.uint8)


def pixels_of(path, **settings):
    return np.asarray(open_picture(path, PictureSettings(**settings)).image)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_is_turned_upright(orientation, tmp_path):
    upright = colours()
    turned = {  # how a camera stores it, by the definition of EXIF: where row 0 and column 0 of what is stored lie
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: upright.transpose(1, 0, 2)[::-1],
        7: upright.transpose(1, 0, 2)[::-1, ::-1],
        8: upright.transpose(1, 0, 2)[:, ::-1],
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.ascontiguousarray(turned)).save(tmp_path / "a.png", exif=exif)
    picture = open_picture(tmp_path / "a.png")
    np.testing.assert_array_equal(np.asarray(picture.image), upright)
    assert picture.notes == (() if orientation == 1 else ("turned as EXIF says",))


def test_exif_that_cannot_be_read_is_said_and_costs_nothing(tmp_path, monkeypatch):
    rgb = colours()
    Image.fromarray(rgb).save(tmp_path / "a.png")
    monkeypatch.setattr(Image.Image, "getexif", Mock(side_effect=SyntaxError("not a TIFF file")))
    picture = open_picture(tmp_path / "a.png")
    np.testing.assert_array_equal(np.asarray(picture.image), rgb)
    assert picture.notes == ("EXIF cannot be read",)
    monkeypatch.setattr(Image.Image, "getexif", Mock(return_value={0x0112: 99}))
    assert open_picture(tmp_path / "a.png").notes == ()


@pytest.mark.parametrize(("background", "shown"), [("white", 255), ("#808080", 128), ("black", 0)])
def test_transparency_lets_the_background_through(background, shown, tmp_path):
    rgba = np.dstack([colours(), np.full((20, 30), 255, np.uint8)])
    rgba[5:10, :, 3] = 0
    rgba[10:15, :, 3] = 51  # a fifth
    Image.fromarray(rgba).save(tmp_path / "a.png")
    found = pixels_of(tmp_path / "a.png", background=background)
    np.testing.assert_array_equal(found[:5], rgba[:5, :, :3])
    assert (found[5:10] == shown).all()
    np.testing.assert_allclose(found[10:15], 0.2 * rgba[10:15, :, :3] + 0.8 * shown, atol=1)
    note = open_picture(tmp_path / "a.png", PictureSettings(background=background)).notes
    assert note == (f"transparency over {background}",)


def test_palettes_with_transparency_and_opaque_alpha(tmp_path):
    palette = Image.fromarray(colours()).quantize(8)
    palette.save(tmp_path / "p.gif", transparency=3)
    found = pixels_of(tmp_path / "p.gif")
    indices = np.asarray(palette)
    assert (found[indices == 3] == 255).all()
    np.testing.assert_array_equal(found[indices != 3], np.asarray(palette.convert("RGB"))[indices != 3])
    rgb = colours()
    Image.fromarray(np.dstack([rgb, np.full((20, 30), 255, np.uint8)])).save(tmp_path / "o.png")
    picture = open_picture(tmp_path / "o.png")
    np.testing.assert_array_equal(np.asarray(picture.image), rgb)
    assert picture.notes == ()
    grey = Image.fromarray(rgb).convert("LA")
    grey.putalpha(0)
    grey.save(tmp_path / "la.png")
    assert (pixels_of(tmp_path / "la.png") == 255).all()


def test_sixteen_bits_are_scaled_not_clipped(tmp_path):
    values = np.linspace(0, 65535, 600).astype(np.uint16).reshape(20, 30)
    for name in ("a.png", "a.tif"):
        Image.fromarray(values).save(tmp_path / name)
        found = pixels_of(tmp_path / name)
        np.testing.assert_allclose(found[..., 0], values / 257, atol=0.51)
        assert (found[..., 0] == found[..., 2]).all()
    deep = RNG.integers(0, 65536, (6, 5, 3)).astype(">u2")  # Pillow writes no such PNG
    rows = b"".join(b"\0" + row.tobytes() for row in deep)
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", 5, 6, 16, 2, 0, 0, 0)), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    packed = [struct.pack(">I", len(x)) + kind + x + struct.pack(">I", zlib.crc32(kind + x)) for kind, x in chunks]
    (tmp_path / "deep.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(packed))
    np.testing.assert_allclose(pixels_of(tmp_path / "deep.png"), deep / 257, atol=1)


@pytest.mark.parametrize("suffix", ["jpg", "tif"])
def test_cmyk(suffix, tmp_path):
    smooth = np.tile(np.linspace(20, 235, 64).astype(np.uint8), (48, 1))
    rgb = Image.fromarray(np.dstack([smooth, smooth[:, ::-1], smooth // 2]))
    rgb.convert("CMYK").save(tmp_path / f"a.{suffix}")
    np.testing.assert_allclose(pixels_of(tmp_path / f"a.{suffix}").astype(int), np.asarray(rgb).astype(int), atol=12)


def test_black_and_white_grey_and_webp(tmp_path):
    Image.fromarray(colours()).convert("1").save(tmp_path / "one.png")
    assert set(np.unique(pixels_of(tmp_path / "one.png"))) == {0, 255}
    grey = Image.fromarray(colours()).convert("L")
    grey.save(tmp_path / "grey.bmp")
    np.testing.assert_array_equal(pixels_of(tmp_path / "grey.bmp")[..., 1], np.asarray(grey))
    rgb = colours()
    Image.fromarray(rgb).save(tmp_path / "a.webp", lossless=True)
    np.testing.assert_array_equal(pixels_of(tmp_path / "a.webp"), rgb)


def test_the_first_frame_of_an_animation(tmp_path):
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "lime", "blue")]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    picture = open_picture(tmp_path / "a.gif")
    assert picture.image.getpixel((0, 0)) == (255, 0, 0)
    assert picture.notes == ("first frame of several",)


def test_colour_profiles_are_left_alone_and_said_so(tmp_path):
    rgb = Image.fromarray(colours())
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    rgb.save(tmp_path / "a.png", icc_profile=lab)
    picture = open_picture(tmp_path / "a.png")
    np.testing.assert_array_equal(np.asarray(picture.image), np.asarray(rgb))
    assert picture.notes == ("colour profile ignored",)
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    rgb.save(tmp_path / "b.png", icc_profile=srgb)
    assert open_picture(tmp_path / "b.png").notes == ()


def test_too_many_pixels_are_refused_before_they_are_decoded(tmp_path, monkeypatch):
    Image.fromarray(colours()).save(tmp_path / "a.png")
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda *_: pytest.fail("decoded"))
    with pytest.raises(UserError, match=r"a\.png: 30x20 is 600 pixels, more than the limit of 599; .*--max-pixels"):
        open_picture(tmp_path / "a.png", PictureSettings(max_pixels=599))


def test_truncated_files(tmp_path, monkeypatch):
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", False)
    file = io.BytesIO()
    Image.fromarray(colours(200, 300)).save(file, "JPEG")
    (tmp_path / "a.jpg").write_bytes(file.getvalue()[: len(file.getvalue()) // 2])
    with pytest.raises(UserError, match=r"a\.jpg cannot be decoded: .*truncated"):
        open_picture(tmp_path / "a.jpg")
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    found = pixels_of(tmp_path / "a.jpg")
    assert found[:50].std() > 20
    assert found[-20:].std() < 1


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (str, "does not exist"),
        (lambda path: path.write_bytes(b""), "is empty"),
        (lambda path: path.write_text("Dear colleagues"), "is not an image that Pillow can read"),
        (lambda path: path.mkdir(), "is a folder, not an image"),
        (lambda path: path.symlink_to("nowhere.png"), r"is a link to nowhere\.png, which does not exist"),
        (os.mkfifo, "is not a file but a device, pipe or socket"),
        (lambda path: Image.new("F", (4, 4)).save(path, "TIFF"), "image of floats has no known range"),
        (
            lambda path: path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"),
            "PostScript files are programs",
        ),
        (lambda path: path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"\0" * 50), "a.jpg"),
        (lambda path: path.write_bytes(b"II*\0" + b"\xff" * 60), "a.jpg"),
    ],
)
def test_what_is_no_image(make, message, tmp_path):
    make(tmp_path / "a.jpg")
    with pytest.raises(UserError, match=message) as caught:
        open_picture(tmp_path / "a.jpg")
    assert "a.jpg" in str(caught.value)
    assert isinstance(caught.value, MissingFileError) == ("exist" in message)


def test_a_plugin_that_breaks_is_an_error_of_that_file(tmp_path, monkeypatch):
    Image.fromarray(colours()).save(tmp_path / "a.png")

    broken = Mock(side_effect=struct.error("unpack requires a buffer of 4 bytes"))
    monkeypatch.setattr(ImageFile.ImageFile, "load", broken)
    with pytest.raises(UserError, match=r"a\.png cannot be decoded: error: unpack requires"):
        open_picture(tmp_path / "a.png")
    monkeypatch.setattr(ImageFile.ImageFile, "load", Mock(side_effect=MemoryError))
    with pytest.raises(UserError, match=r"a\.png cannot be decoded: not enough memory"):
        open_picture(tmp_path / "a.png")


def test_settings_that_make_no_sense():
    with pytest.raises(UserError, match="max_pixels: 0"):
        PictureSettings(max_pixels=0)
    with pytest.raises(UserError, match="'whit' is not a colour"):
        PictureSettings(background="whit")


def test_pictures_of_pil_are_seen_alike(tmp_path):
    rgb = colours()
    Image.fromarray(rgb).save(tmp_path / "a.png")
    np.testing.assert_array_equal(np.asarray(open_picture(Image.open(tmp_path / "a.png")).image), rgb)


@pytest.mark.parametrize("name", ["a.HEIC", "a.jpg"])
def test_heic_names_the_package_that_it_needs(name, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    (tmp_path / name).write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")
    with pytest.raises(UserError, match=rf"{name}: HEIC needs the package pillow-heif"):
        open_picture(tmp_path / name)


def test_metadata_that_cannot_be_read_are_left_out_and_said_so(tmp_path):
    rgb = colours()
    exif = Image.Exif()
    exif[0x0112] = 3
    Image.fromarray(rgb).save(tmp_path / "a.png", icc_profile=bytes(3_000_000), exif=exif)
    picture = open_picture(tmp_path / "a.png")
    np.testing.assert_array_equal(np.asarray(picture.image), rgb[::-1, ::-1])
    assert picture.notes == ("metadata that cannot be read are left out", "turned as EXIF says")
    assert open_picture((tmp_path / "a.png").read_bytes()).notes == picture.notes


def test_grey_of_16_bits_with_transparency(tmp_path):
    values = np.linspace(0, 65535, 600).astype(np.uint16).reshape(20, 30)
    Image.fromarray(values).save(tmp_path / "a.png")  # Pillow before 11 writes no transparency of 16 bits
    png, chunk = (tmp_path / "a.png").read_bytes(), b"tRNS" + struct.pack(">H", values[3, 4])
    chunk = struct.pack(">I", 2) + chunk + struct.pack(">I", zlib.crc32(chunk))
    (tmp_path / "a.png").write_bytes(png[:33] + chunk + png[33:])  # after the signature and the header
    picture = open_picture(tmp_path / "a.png", PictureSettings(background="black"))
    expected = (values.astype(int) + 128) // 257
    expected[3, 4] = 0
    np.testing.assert_array_equal(np.asarray(picture.image)[..., 0], expected)
    assert picture.notes == ("transparency over black",)


def test_dark_pictures_of_16_bits_are_said_to_be(tmp_path):
    Image.fromarray(np.full((20, 30), 300, np.uint16)).save(tmp_path / "a.tif")
    assert open_picture(tmp_path / "a.tif").notes == ("16 bits with values up to 300 only: dark",)


def test_archives_name_the_engine_that_reads_them(tmp_path):
    for name in ("a.tar", "a.tar.gz", "a.TGZ", "a.zip", "a.parquet"):
        (tmp_path / name).write_bytes(b"any")
        with pytest.raises(UserError, match=rf"{name} contains many images; .*--engine ray"):
            open_picture(tmp_path / name)
        with pytest.raises(UserError, match=rf"{name}x? does not exist"):
            open_picture(tmp_path / "sub" / name)


def test_large_pictures_are_held_one_at_a_time_to_the_end(tmp_path, monkeypatch):
    monkeypatch.setattr(pictures, "LARGE", 500)
    Image.fromarray(colours()).save(tmp_path / "large.png")
    Image.fromarray(colours(10, 10)).save(tmp_path / "small.png")
    order = []

    def other(name):
        with opened_picture(tmp_path / name):
            order.append(name)

    threads = [Thread(target=other, args=(name,)) for name in ("large.png", "small.png")]
    with opened_picture(tmp_path / "large.png"):
        for thread in threads:
            thread.start()
        threads[1].join()
        threads[0].join(timeout=0.3)
        assert order == ["small.png"]
    threads[0].join()
    assert order == ["small.png", "large.png"]
    with pytest.raises(ZeroDivisionError), opened_picture(tmp_path / "large.png"):
        _ = 1 / 0  # not the picture's error, and the next one has its turn
    assert open_picture(tmp_path / "large.png").image.size == (30, 20)


def test_drafts_of_large_jpegs(checkpoint, tmp_path):
    side = load_predictor(checkpoint).preprocess.side
    turned = Image.Exif()
    turned[0x0112] = 6
    noise = Image.effect_noise((9 * side, 8 * side), 60).convert("RGB")
    for name, sides in (("large", (9 * side, 8 * side)), ("small", (4 * side, 4 * side - 1))):
        noise.crop((0, 0, *sides)).save(tmp_path / f"{name}.jpg", exif=turned)
    exact, draft = (load_predictor(checkpoint, pictures=PictureSettings(decode=how)) for how in defaults.DECODE)
    large, small = tmp_path / "large.jpg", tmp_path / "small.jpg"
    assert (exact.prepare(large).width, draft.prepare(large).width) == (8 * side, 8 * side)
    assert not torch.equal(exact.prepare(large).views, draft.prepare(large).views)
    assert torch.equal(exact.prepare(small).views, draft.prepare(small).views)  # half would be too small
    views = draft.prepare(large).views
    draft.preview_side = 8 * side
    assert torch.equal(draft.prepare(large).views, views)  # a score does not depend on whether a preview is needed
    noise.save(tmp_path / "upright.jpg")  # evaluation does not turn images
    crop = build_test_transform(draft.transform)
    as_evaluated = ImageSource("a", tmp_path, decode="draft").opener(["upright.jpg"], side)("upright.jpg")
    assert torch.equal(draft.prepare(tmp_path / "upright.jpg").views[0], crop(as_evaluated))
    assert RowBuilder(draft).run_fields["preprocess"].endswith(",decode=draft")
    with pytest.raises(UserError, match=r"decode: unknown 'drafts' .did you mean 'draft'"):
        PictureSettings(decode="drafts")
