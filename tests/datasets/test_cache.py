"""The image cache never returns outdated or incomplete images, and reports a full disk."""

import errno
import os
import pickle
import shutil
import signal
import threading
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from filelock import FileLock
from PIL import Image

from datasets import cache as cache_module
from datasets.cache import CachedImages, FileImages, ImageSource
from utils.errors import MachineError, UserError

SIZE = 40
ROW = SIZE * SIZE * 3
KEPT = pytest.mark.parametrize("kind", ["ram", "disk"])


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch):
    """Update the index every few images, and clear the cache in memory."""
    monkeypatch.setattr(cache_module, "CHUNK", 4)
    monkeypatch.setattr(cache_module, "_RAM", {})


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder of ten photographs."""
    root = tmp_path / "photos"
    root.mkdir()
    for number in range(10):
        write_photo(root / f"{number}.jpg", number)
    return root


def write_photo(path: Path, seed: int, size: tuple[int, int] = (64, 48)) -> None:
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1] // 8, size[0] // 8, 3), dtype=np.uint8)
    Image.fromarray(pixels).resize(size).save(path)


def source(root: Path, kind: str = "disk", decode: str = "exact") -> ImageSource:
    return ImageSource("photos", root, decode, kind, root.parent / "cache")


def names(root: Path) -> list[str]:
    return sorted(path.name for path in root.iterdir())


def opened(root: Path, kind: str = "disk", decode: str = "exact") -> CachedImages:
    return source(root, kind, decode).opener(names(root), SIZE)


def expected(root: Path, image: str, decode: str = "exact") -> np.ndarray:
    return FileImages(root, 2 * SIZE if decode == "draft" else None).squash(image, SIZE)


def require_right(pictures: CachedImages, root: Path) -> None:
    """Check that every image comes from the cache and matches its file."""
    for image in names(root):
        assert pictures.rows[image][0] == pictures.files.identity(image)
        np.testing.assert_array_equal(np.asarray(pictures(image)), expected(root, image))


def count_loads(monkeypatch) -> list[Path]:
    """A list that records the files decoded in the test."""
    loaded, load = [], cache_module.load_image
    monkeypatch.setattr(cache_module, "load_image", lambda path, draft: (loaded.append(path), load(path, draft))[1])
    return loaded


def rows_files(root: Path) -> list[Path]:
    return sorted((root.parent / "cache").glob("*.rows"))


@KEPT
def test_each_picture_is_decoded_once(root, kind, monkeypatch):
    loaded = count_loads(monkeypatch)
    first = source(root, kind).opener(names(root)[:6], SIZE)
    second = opened(root, kind)
    assert sorted(path.name for path in loaded) == names(root)
    loaded.clear()
    for pictures in (first, second, opened(root, kind)):
        assert pictures("3.jpg").size == (SIZE, SIZE)
    assert not loaded
    require_right(second, root)


@KEPT
def test_changed_files_are_noticed(root, kind):
    before = opened(root, kind)
    write_photo(root / "2.jpg", 99)
    os.utime(root / "4.jpg", ns=(0, 0))
    np.testing.assert_array_equal(np.asarray(before("2.jpg").resize((SIZE, SIZE), 2)), expected(root, "2.jpg"))
    after = opened(root, kind)
    require_right(after, root)
    assert [file.stat().st_size for file in rows_files(root)] == ([12 * ROW] if kind == "disk" else [])


@KEPT
def test_removed_images_are_missing(root, kind):
    pictures = opened(root, kind)
    (root / "5.jpg").unlink()
    with pytest.raises(FileNotFoundError, match=r"5\.jpg does not exist"):
        pictures("5.jpg")
    require_right(opened(root, kind), root)


@KEPT
def test_undecodable_images_are_errors_where_they_are_asked_for(root, kind):
    (root / "5.jpg").write_bytes((root / "5.jpg").read_bytes()[:200])
    pictures = opened(root, kind)
    with pytest.raises(UserError, match=r"5\.jpg cannot be decoded"):
        pictures("5.jpg")
    assert pictures("6.jpg").size == (SIZE, SIZE)
    assert "5.jpg" not in pictures.rows


def test_sizes_roots_and_decoders_are_told_apart(root, tmp_path):
    other = tmp_path / "others"
    shutil.copytree(root, other)  # the same paths, sizes and times
    write_photo(other / "0.jpg", 77)
    os.utime(other / "0.jpg", ns=(0, (root / "0.jpg").stat().st_mtime_ns))
    for number in range(10):
        write_photo(root / f"{number}.jpg", number, (256, 256))
    require_right(opened(root), root)
    require_right(opened(other), other)
    assert source(root).opener(["0.jpg"], 20)("0.jpg").size == (20, 20)
    draft = opened(root, decode="draft")
    np.testing.assert_array_equal(np.asarray(draft("0.jpg")), expected(root, "0.jpg", "draft"))
    assert not np.array_equal(expected(root, "0.jpg", "draft"), expected(root, "0.jpg"))
    assert len(rows_files(root)) == 4


def test_another_pillow_decodes_again(root, monkeypatch):
    opened(root)
    monkeypatch.setattr("PIL.__version__", "99.0")
    loaded = count_loads(monkeypatch)
    opened(root)
    assert len(loaded) == 10


def test_a_cache_of_old_rows_starts_empty(root):
    reader = opened(root)
    old = {image: np.asarray(reader(image)) for image in names(root)}
    for number in range(6):
        write_photo(root / f"{number}.jpg", 50 + number)
    require_right(opened(root), root)
    (path,) = rows_files(root)
    assert path.stat().st_size == 10 * ROW
    for image, (_, row) in reader.rows.items():  # who reads the old file keeps it
        np.testing.assert_array_equal(reader.pixels[row], old[image])


class Crash(BaseException):
    """Exception that simulates the death of the process."""


@pytest.mark.parametrize("step", ["open", "load_image", "fsync", "write_text"])
@pytest.mark.parametrize("after", [0, 1, 2])
def test_killed_at_any_step(root, monkeypatch, step, after):
    place = {"open": cache_module, "load_image": cache_module, "fsync": cache_module.os, "write_text": cache_module}
    calls, real = [], {"open": open, "load_image": cache_module.load_image}.get(step) or getattr(place[step], step)

    def dying(*arguments):
        calls.append(arguments)
        if len(calls) > after:
            raise Crash
        return real(*arguments)

    def fill_often():
        for time in range(3):
            opened(root)
            write_photo(root / "1.jpg", 60)  # so that the next one has something to write
            os.utime(root / "1.jpg", ns=(0, time))

    with monkeypatch.context() as patch:
        patch.setattr(place[step], step, dying, raising=False)
        with pytest.raises(Crash):
            fill_often()
    require_right(opened(root), root)
    assert len(rows_files(root)) == 1


def in_child(work) -> int:
    """Run `work` in a forked process and return its id."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            work()
            status = 0
        finally:
            os._exit(status)
    return child


def test_killed_by_the_system(root, monkeypatch):
    def fill_and_die():
        written = []

        def note(file, *arguments, real=os.fsync):
            written.append(file)
            if len(written) > 6:  # three for each note: rows, index and its folder
                os.kill(os.getpid(), signal.SIGKILL)
            real(file, *arguments)

        os.fsync = note
        opened(root)

    _, status = os.waitpid(in_child(fill_and_die), 0)
    assert os.WTERMSIG(status) == signal.SIGKILL
    with monkeypatch.context() as patch:
        loaded = count_loads(patch)
        pictures = opened(root)
    assert sorted(path.name for path in loaded) == names(root)[8:]  # after two notes, of four pictures each
    require_right(pictures, root)


def test_two_processes_fill_it_at_once(root):
    children = [in_child(lambda: require_right(opened(root), root)) for _ in range(3)]
    assert [os.waitpid(child, 0)[1] for child in children] == [0, 0, 0]
    require_right(opened(root), root)
    (path,) = rows_files(root)
    assert path.stat().st_size == 10 * ROW  # each picture once


def test_says_what_it_waits_for(root, capsys):
    opened(root)
    held, done = threading.Event(), threading.Event()

    def other():
        with FileLock(next((root.parent / "cache").glob("*.lock"))):
            held.set()
            done.wait(0.2)

    threading.Thread(target=other).start()
    held.wait()
    require_right(opened(root), root)
    assert "waiting for another process to fill" in capsys.readouterr().err


DAMAGES = {
    "cut": lambda index, _: index.write_text(index.read_text()[:100]),
    "a list": lambda index, _: index.write_text("[]"),
    "without rows": lambda index, _: index.write_text(index.read_text().replace('"rows": {', '"lines": {')),
    "no index": lambda index, _: index.unlink(),
    "no rows": lambda _, rows: rows.unlink(),
    "cut rows": lambda _, rows: os.truncate(rows, 10 * ROW - 1),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_files_are_written_again(root, damage):
    opened(root)
    (index,) = (root.parent / "cache").glob("*.json")
    DAMAGES[damage](index, rows_files(root)[0])
    require_right(opened(root), root)
    assert len(rows_files(root)) == 1


def full(*_, **__):
    """Raise the error of a full disk."""
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_disk_that_is_too_small_is_not_begun(root, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=10 * ROW - 1))
        with pytest.raises(MachineError, match=r"^dataset\.cache: disk needs 0\.0 GB for photos, but 0\.0 GB are free"):
            opened(root)
    assert not rows_files(root)
    require_right(opened(root), root)


@pytest.mark.parametrize(("place", "step"), [(os, "fsync"), (FileLock, "acquire"), (cache_module, "open")])
def test_a_full_disk_is_one_clear_line(root, monkeypatch, place, step):
    with monkeypatch.context() as patch:
        patch.setattr(place, step, full, raising=False)
        with pytest.raises(MachineError, match=r"^dataset\.cache: .*cache cannot be used \(No space left on device\)"):
            opened(root)
    require_right(opened(root), root)


def test_the_disk_fills_up_on_the_way(root, monkeypatch):
    """Images that were complete before the error are kept."""
    synced, real = [], os.fsync

    def filling_up(file):
        synced.append(file)
        if len(synced) > 6:  # rows, index and its folder, two times
            full()
        real(file)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", filling_up)
        with pytest.raises(MachineError, match="No space left on device"):
            opened(root)
    loaded = count_loads(monkeypatch)
    opened(root)
    assert sorted(path.name for path in loaded) == ["8.jpg", "9.jpg"]


def test_a_folder_that_is_none(root):
    (root.parent / "cache").write_text("")
    with pytest.raises(MachineError, match=r"cannot be used .*set dataset\.cache_folder to another folder"):
        opened(root)


@pytest.mark.parametrize("change", [Path.unlink, lambda path: os.truncate(path, ROW)])
def test_rows_that_have_gone_are_named(root, change):
    saved = pickle.dumps(opened(root))  # as for a loader worker
    change(*rows_files(root))
    with pytest.raises(MachineError, match=r"dataset\.cache: \S+\.rows has gone \(.*set dataset\.cache_folder"):
        pickle.loads(saved)


def test_memory_that_does_not_suffice(root, monkeypatch):
    monkeypatch.setattr(cache_module, "available_memory", lambda: 9 * ROW)
    with pytest.raises(MachineError, match=r"ram needs 0\.0 GB for photos, but 0\.0 GB are free; use"):
        opened(root, "ram")


def test_memory_is_never_copied_to_other_processes(root):
    mapped = pickle.dumps(opened(root))
    assert len(mapped) < ROW
    require_right(pickle.loads(mapped), root)
    with pytest.raises(UserError, match=r"ram cannot be shared .* use dataset.cache=disk or train.workers=0"):
        pickle.dumps(opened(root, "ram"))


def test_memory_makes_room_for_another_size(root):
    small = source(root, "ram").opener(names(root), 20)
    large = opened(root, "ram")
    assert next(iter(cache_module._RAM.values()))[-1] is large.pixels
    assert (small("1.jpg").size, large("1.jpg").size) == ((20, 20), (SIZE, SIZE))


def test_drafts_are_never_smaller_than_is_asked(tmp_path):
    for width, height, draft in ((400, 300, (100, 75)), (160, 120, (80, 60)), (159, 79, (159, 79)), (30, 20, (30, 20))):
        write_photo(tmp_path / "photo.jpg", 0, (width, height))
        assert FileImages(tmp_path, SIZE)("photo.jpg").size == draft
    Image.new("L", (400, 300), 7).save(tmp_path / "grey.jpg")
    assert FileImages(tmp_path, SIZE)("grey.jpg").getpixel((0, 0)) == (7, 7, 7)
    Image.new("RGB", (400, 300)).save(tmp_path / "whole.png")
    assert FileImages(tmp_path, SIZE)("whole.png").size == (400, 300)
