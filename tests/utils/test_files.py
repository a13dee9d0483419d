"""Files that are there whole or not at all, whoever else writes them; folders that cannot be deleted."""

import errno
import os
import platform
import shutil
import signal
import subprocess
import sys
import threading
import tracemalloc
from pathlib import Path
from types import ModuleType

import pytest

from datasets.demo import write_demo
from experiments.training.run_folder import RunFolder
from experiments.training.tensorboard import write_events
from utils.errors import MachineError, UserError
from utils.files import (
    delete_folder,
    link_or_copy,
    make_folder,
    new_folder,
    read_at_most,
    read_json,
    read_limited,
    read_object,
    require_place,
    temporary_folder,
    to_json,
    write_atomically,
    write_text,
)


def test_two_writers_do_not_mix(tmp_path):
    """One begins, another writes all of its file, the first goes on."""
    path = tmp_path / "file"
    begun, done = threading.Event(), threading.Event()

    def slow(file):
        file.write(b"slow ")
        file.flush()
        begun.set()
        assert done.wait(10)
        file.write(b"writer")

    thread = threading.Thread(target=write_atomically, args=(path, slow))
    thread.start()
    assert begun.wait(10)
    write_text(path, "quick writer")
    assert path.read_text() == "quick writer"
    done.set()
    thread.join()
    assert path.read_text() == "slow writer"
    assert [file.name for file in tmp_path.iterdir()] == ["file"]


@pytest.mark.skipif(os.name != "posix", reason="elsewhere there is no harmless way to ask")
def test_leftovers_of_killed_writers_are_removed_and_no_others(tmp_path):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    node = platform.node()
    kept = [
        f".file.{node}.{os.getppid()}.1.tmp",
        f".file.elsewhere.{dead.pid}.1.tmp",
        f".other.{node}.{dead.pid}.1.tmp",
    ]
    for name in (*kept, f".file.{node}.{dead.pid}.1.tmp"):
        (tmp_path / name).touch()
    write_text(tmp_path / "file", "text")
    assert {file.name for file in tmp_path.iterdir()} == {"file", *kept}
    for name in ("folder", "demo"):
        write_text(tmp_path / f".{name}.{node}.{dead.pid}.1.tmp" / "half", "text")
    with new_folder(tmp_path / "folder"):
        pass
    write_demo(tmp_path / "demo", scenes=1)
    assert {file.name for file in tmp_path.iterdir()} == {"file", "folder", "demo", *kept}


def test_a_write_that_fails_leaves_what_was_there(tmp_path):
    write_text(tmp_path / "file", "old")

    def full(file):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    with pytest.raises(UserError, match="file cannot be written: No space left"):
        write_atomically(tmp_path / "file", full)
    assert (tmp_path / "file").read_text() == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["file"]


def test_json_of_another_kind_is_damaged(tmp_path):
    write_text(tmp_path / "a.json", "[1]")
    with pytest.raises(UserError, match=r"a\.json is missing or damaged \(an object is expected, got list\)"):
        read_object(tmp_path / "a.json")


def test_a_folder_that_cannot_be_deleted_is_named(tmp_path, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied", str(Path(path) / "file"))

    (tmp_path / "tensorboard").mkdir()
    monkeypatch.setattr(shutil, "rmtree", refuse)
    delete_folder(tmp_path / "none")
    for deleting in (lambda: delete_folder(tmp_path / "tensorboard"), lambda: write_events(tmp_path, [])):
        with pytest.raises(UserError, match=r"tensorboard cannot be deleted: Permission denied \(.*file\)"):
            deleting()


def test_a_deletion_that_is_cut_short_leaves_nothing_under_the_name(tmp_path, monkeypatch):
    """A killed process: the folder is gone as a whole, and its rest goes with the next deletion."""
    for name in ("metrics.json", "best.pt", "last.pt"):
        write_text(tmp_path / "split_01" / name, "old")

    def killed(path):
        next(path.iterdir()).unlink()
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", killed)
        with pytest.raises(KeyboardInterrupt):
            delete_folder(tmp_path / "split_01")
    assert not (tmp_path / "split_01").exists()
    assert len(list(tmp_path.glob(".*/*"))) == 2
    write_text(tmp_path / "split_01" / "last.pt", "new")
    delete_folder(tmp_path / "split_01")
    assert list(tmp_path.iterdir()) == []


def test_the_rest_of_a_split_goes_with_the_other_splits(tmp_path):
    write_text(tmp_path / ".split_02.deleted" / "last.pt", "old")
    write_text(tmp_path / "split_03" / "last.pt", "old")
    write_text(tmp_path / "split_01" / "last.pt", "kept")
    RunFolder(tmp_path / "split_01").delete_other_splits()
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == ["split_01"]


def test_a_folder_that_is_a_link_is_neither_deleted_nor_renamed(tmp_path):
    write_text(tmp_path / "elsewhere" / "last.pt", "kept")
    (tmp_path / "split_01").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UserError, match=r"split_01 cannot be deleted: .*symbolic link"):
        delete_folder(tmp_path / "split_01")
    assert (tmp_path / "split_01" / "last.pt").exists()


def test_a_place_that_cannot_be_written_is_refused_and_nothing_made(tmp_path, monkeypatch):
    write_text(tmp_path / "file", "text")
    for place in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(UserError, match=r"cannot be created: .*file is a file"):
            require_place(place)
    require_place(tmp_path / "new" / "below")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    monkeypatch.setattr(os, "access", lambda place, _: Path(place) != tmp_path)
    with pytest.raises(UserError, match=r"new/below cannot be created: .* is not writable"):
        require_place(tmp_path / "new" / "below")
    with pytest.raises(UserError, match="cannot be written"):
        require_place(tmp_path)


@pytest.mark.parametrize(
    ("number", "kind", "remedy"),
    [(errno.ENOSPC, MachineError, "free some space or files there"), (errno.EROFS, UserError, "mount the disk")],
)
def test_a_folder_that_cannot_be_created_names_the_next_step(tmp_path, monkeypatch, number, kind, remedy):
    def refuse(*_, **__):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(kind, match=rf"^folder \S+new cannot be created: .*; {remedy}.* and try again$"):
        make_folder(tmp_path / "new")


def test_a_small_file_takes_little_memory_to_read(tmp_path):
    write_text(tmp_path / "a", "text")
    tracemalloc.start()
    try:
        with open(tmp_path / "a", "rb") as file:
            assert read_at_most(file, 2**30) == b"text"
        with open(tmp_path / "a", "rb") as file:
            assert read_at_most(file, 3) == b"tex"
        assert tracemalloc.get_traced_memory()[1] < 2**22
    finally:
        tracemalloc.stop()


def test_json_keeps_names_that_are_no_utf_8(tmp_path):
    content = {"run": os.fsdecode(b"gr\xfcn"), "of": "größer"}
    write_text(tmp_path / "a.json", to_json(content))
    assert read_object(tmp_path / "a.json") == content
    assert "größer" in (tmp_path / "a.json").read_text(encoding="utf-8")


def test_events_are_written_without_tensorflow(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow", ModuleType("tensorflow"))  # in which nothing is
    write_events(tmp_path, [{"epoch": 1, "lr": 0.1}])
    assert len(list((tmp_path / "tensorboard").iterdir())) == 1


def test_events_that_cannot_be_written_are_named(tmp_path):
    (tmp_path / "run").write_text("no folder")
    with pytest.raises(UserError, match=r"tensorboard cannot be written: Not a directory; .* --resume"):
        write_events(tmp_path / "run", [{"epoch": 1, "lr": 0.1}])


def test_a_new_folder_is_there_whole_or_not_at_all(tmp_path):
    """The one before stays until the new one is complete; nothing else is left."""
    for text in ("first", "second"):
        with new_folder(tmp_path / "parent" / "folder") as draft:
            (draft / text).write_text(text)
            others = [path for path in (tmp_path / "parent").iterdir() if path != draft]
            assert [path.name for folder in others for path in folder.iterdir()] == (["first"] * (text == "second"))
        assert [path.name for path in (tmp_path / "parent" / "folder").iterdir()] == [text]

    def fail(error):
        with new_folder(tmp_path / "parent" / "folder") as draft:
            (draft / "third").write_text("half")
            raise error

    for error, message in ((UserError("broken"), "^broken$"), (OSError(28, "full"), "folder cannot be written: full")):
        with pytest.raises(UserError, match=message):
            fail(error)
    assert [path.name for path in tmp_path.rglob("*")] == ["parent", "folder", "second"]


def test_a_disk_without_links_gets_copies(tmp_path, monkeypatch):
    (tmp_path / "a").write_text("first")
    link_or_copy(tmp_path / "a", tmp_path / "b")
    assert os.path.samefile(tmp_path / "a", tmp_path / "b")

    def refuse(*_):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    link_or_copy(tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "b").read_text() == "first"
    assert not os.path.samefile(tmp_path / "a", tmp_path / "b")


@pytest.mark.parametrize(
    ("number", "kind", "remedy"),
    [
        (errno.ENOSPC, MachineError, "free some space or files there and try again"),
        (errno.EFBIG, MachineError, r"raise the limit on the size of a file \(`ulimit -f`\) and try again"),
        (errno.EIO, MachineError, "check the disk and try again"),
        (errno.EROFS, UserError, "mount the disk for writing and try again"),
        (errno.EACCES, UserError, "change the permissions and try again"),
        (errno.ENOTDIR, UserError, "mend that, or name another place and try again"),
    ],
)
def test_the_error_for_a_file_that_cannot_be_written_says_what_to_do(number, kind, remedy, tmp_path):
    def fail(_):
        raise OSError(number, os.strerror(number))

    with pytest.raises(kind, match=rf"file cannot be written: {os.strerror(number)}; {remedy}$") as caught:
        write_atomically(tmp_path / "file", fail)
    assert type(caught.value) is kind


def test_a_full_disk_of_temporary_files_is_named(tmp_path, monkeypatch):
    def full(prefix):
        raise OSError(errno.ENOSPC, "No space left on device", str(tmp_path / prefix))

    with temporary_folder() as folder:
        (folder / "file").touch()
    assert not folder.exists()
    monkeypatch.setattr("tempfile.mkdtemp", full)
    with pytest.raises(MachineError, match=r"folder for temporary files \(.*richiqa_\) cannot be written: No space"):  # noqa: SIM117
        with temporary_folder():
            pass


def test_files_beyond_all_measure_are_refused(tmp_path):
    """A sparse file states a size that fits in no memory, and takes no place on the disk."""
    with open(tmp_path / "a.json", "wb") as file:
        file.truncate(2**42)
    with pytest.raises(UserError, match=r"a\.json .*has more than 256 MB"):
        read_json(tmp_path / "a.json")
    with pytest.raises(UserError, match=r"/dev/zero has more than 1 MB; a file of this kind is much smaller"):
        read_limited("/dev/zero", 2**20)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_folder_that_a_killed_process_was_making_is_removed(tmp_path):
    if (process := os.fork()) == 0:
        with new_folder(tmp_path / "folder") as draft:
            (draft / "half").touch()
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(process, 0)
    assert len(list(tmp_path.iterdir())) == 1
    with new_folder(tmp_path / "folder") as draft:
        (draft / "whole").touch()
    assert [path.name for path in tmp_path.rglob("*")] == ["folder", "whole"]
