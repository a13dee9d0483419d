"""Missing and damaged images: found before the training, refused or left out and counted."""

import io

import numpy as np
import pytest
from PIL import Image

from datasets.dataset import IQADataset
from datasets.decoding import load_image
from datasets.image_files import find_damage
from datasets.ratings import Record
from datasets.readers import load_labels
from datasets.scale import RatingScale
from datasets.transforms import build_test_crop
from tests.databases import picture
from utils.errors import MissingFileError, UserError
from utils.settings import TransformSettings

ACR = RatingScale(1, 5, (1, 2, 3, 4, 5))
KINDS = ("JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF", "PPM")


def encoded(kind: str) -> bytes:
    noise = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, kind)
    return buffer.getvalue()


def damage(tmp_path, content: bytes) -> str:
    (tmp_path / "a.jpg").write_bytes(content)
    return find_damage(tmp_path / "a.jpg").replace(str(tmp_path), "")


@pytest.mark.parametrize("kind", KINDS)
def test_whole_images_are_whole_whatever_follows_them(kind, tmp_path):
    content = encoded(kind)
    assert damage(tmp_path, content) == ""
    assert damage(tmp_path, content + b"\0" * 100) == ""
    assert damage(tmp_path, content + b"the video of a phone's picture") == ""


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "BMP", "WEBP", "PPM"])
@pytest.mark.parametrize("share", [0, 0.01, 0.5, 0.95])
def test_truncated_images_are_found(kind, share, tmp_path):
    content = encoded(kind)
    assert damage(tmp_path, content[: int(share * len(content))])


def test_a_jpeg_without_its_last_bytes_is_found(tmp_path):
    assert "truncated" in damage(tmp_path, encoded("JPEG")[:-2])


@pytest.mark.parametrize(
    "content", [b"", b"<html>404 Not Found</html>", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n"]
)
def test_files_that_are_no_images_are_found(content, tmp_path):
    assert "/a.jpg is " in damage(tmp_path, content)


def test_only_files_without_the_right_ends_are_decoded(tmp_path, monkeypatch):
    decoded = []
    monkeypatch.setattr("datasets.image_files.load_image", decoded.append)
    for kind in KINDS:
        damage(tmp_path, encoded(kind))
    assert len(decoded) == 2  # TIFF and PPM


@pytest.fixture
def root(tmp_path):
    """Four images, of which the second is cut and the third missing."""
    for name in "abd":
        picture(tmp_path / f"{name}.png", 0.5, 0)
    (tmp_path / "b.png").write_bytes((tmp_path / "b.png").read_bytes()[:-40])
    (tmp_path / "labels.csv").write_text("image,mos\n" + "".join(f"{name}.png,3\n" for name in "abcd"))
    return tmp_path


def test_unreadable_images_are_refused_with_the_key_that_leaves_them_out(root):
    with pytest.raises(
        MissingFileError, match=r"1 of 4 .*: c\.png; damaged: 1; dataset\.unreadable=omit leaves them out"
    ):
        load_labels("csv", root, scale=ACR)
    picture(root / "c.png", 0.5, 0)
    with pytest.raises(UserError, match=r"1 of 4 images are damaged: .*line 3: .*b\.png .*dataset\.unread"):
        load_labels("csv", root, scale=ACR)
    with pytest.raises(UserError, match="1 of 4 images are damaged"):
        load_labels("csv", root, scale=ACR, unreadable="omit", strict=True)


def test_unreadable_images_are_left_out_and_counted(root):
    _, records, recipe = load_labels("csv", root, scale=ACR, unreadable="omit")
    assert [record.image for record in records] == ["a.png", "d.png"]
    assert (recipe.images, recipe.left_out, recipe.damaged) == (2, 1, 1)
    assert "1 images missing and left out, 1 images damaged and left out" in recipe.describe()
    for name in "ad":
        (root / f"{name}.png").write_bytes(b"")
    with pytest.raises(UserError, match="3 of 4 images are damaged"):
        load_labels("csv", root, scale=ACR, unreadable="omit")


def test_labels_alone_need_no_whole_images(root):
    assert len(load_labels("csv", root, False, scale=ACR)[1]) == 4


def test_damage_that_only_decoding_finds_names_the_next_step(root):
    content = encoded("PNG")
    (root / "a.png").write_bytes(content[:200] + bytes(100) + content[300:])
    assert find_damage(root / "a.png") == ""
    record = Record("a.png", 3.0, 0.5, (0.2,) * 5)
    crop = build_test_crop(TransformSettings(resize=40, crop=32))
    error = IQADataset(lambda image: load_image(root / image), [record], crop)[0, 0]
    assert isinstance(error, UserError)
    for text in ("a.png", "row", "dataset.unreadable=omit", "check_dataset.py --decode"):
        assert text in str(error)
