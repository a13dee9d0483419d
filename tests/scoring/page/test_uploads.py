"""Uploads: kept while a session uses them, then deleted; nothing else is read or deleted."""

import os

import pytest

from scoring.page.uploads import Uploads
from utils.errors import UserError


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "uploads").mkdir()
    for name in ("a.png", "b.png"):
        (tmp_path / "uploads" / name).write_bytes(b"x")
    (tmp_path / "mine.png").write_bytes(b"x")
    return tmp_path / "uploads"


def test_files_are_deleted_with_the_last_session_that_uses_them(folder):
    uploads = Uploads(folder)
    uploads.claim("first", [folder / "a.png", str(folder / "b.png")])
    uploads.claim("second", [str(folder / "a.png")])
    uploads.release("first")
    assert os.listdir(folder) == ["a.png"]
    uploads.release("unknown")
    uploads.release("first")
    assert os.listdir(folder) == ["a.png"]
    uploads.release("second")
    assert os.listdir(folder) == []


def test_a_request_keeps_its_files_until_it_is_answered(folder):
    uploads = Uploads(folder)
    uploads.claim("page", [folder / "b.png"])
    with uploads.claimed([str(folder / "a.png"), str(folder / "b.png")]) as paths:
        assert paths == [str(folder / "a.png"), str(folder / "b.png")]
        assert sorted(os.listdir(folder)) == ["a.png", "b.png"]
    assert os.listdir(folder) == ["b.png"]


@pytest.mark.parametrize("name", ["../mine.png", "/etc/hostname", "link.png", 7, None, ["a.png"]])
def test_only_uploads_are_read(folder, name):
    (folder / "link.png").symlink_to(folder.parent / "mine.png")
    path = str(folder / name) if isinstance(name, str) else name
    with pytest.raises(UserError, match="is not an uploaded file; upload it"), Uploads(folder).claimed([path]):
        pass


def test_only_uploads_are_deleted(folder):
    uploads = Uploads(folder)
    uploads.claim("page", [folder / "../mine.png", folder / "gone.png"])
    uploads.release("page")
    assert (folder.parent / "mine.png").exists()
