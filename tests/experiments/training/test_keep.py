"""Older states that `train.keep` keeps: which, and that going back to one loses nothing."""

import os
import re
import shutil
from pathlib import Path

import pytest

from experiments.training.run_folder import RunFolder
from experiments.training.setup import resumable
from scoring.loading import newest_best
from tests.identical import assert_same_run
from tests.running import folder_of, train
from tests.test_resume import STATEFUL
from utils.checkpoint import read_checkpoint
from utils.errors import MachineError, UserError

OPTIONS = [*STATEFUL, "train.epochs=3", "train.keep=2"]


@pytest.fixture(scope="module")
def beside(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("kept")


@pytest.fixture
def whole(quick, beside) -> Path:
    """A finished run of three epochs with two older states, made by the first test that asks for it."""
    folder = beside / "quick" / "split_01"
    if not folder.exists():
        train([*quick, *OPTIONS], f"run.root={beside}")
    return folder


@pytest.fixture
def kept(whole, tmp_path) -> Path:
    """A copy of it that the test may change; settings name other folders, which may differ."""
    return Path(shutil.copytree(whole, folder_of(tmp_path)))


def damage(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def older(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("*_epoch_*"))


def test_the_last_epochs_are_kept_with_the_best_of_their_time(whole):
    assert older(whole) == [f"{name}_epoch_00{epoch}.pt" for name in ("best", "last") for epoch in (2, 3)]
    best_so_far = {
        epoch: record["epoch"] if (record := read_checkpoint(whole / f"best_epoch_00{epoch}.pt")["metrics"]) else None
        for epoch in (2, 3)
    }
    history = read_checkpoint(whole / "last.pt")["history"]
    assert best_so_far == {n: max(history[:n], key=lambda record: record["test"]["srcc"])["epoch"] for n in (2, 3)}
    state = read_checkpoint(whole / "last_epoch_002.pt")
    assert (state["epoch"], state["step"]) == (1, 4)  # after the steps of epoch 2, before its evaluation
    assert not os.path.samefile(whole / "last.pt", whole / "last_epoch_003.pt")
    assert newest_best(whole.parents[1]) == whole / "best.pt"


def test_nothing_is_kept_by_default(run):
    assert older(run) == []


def test_going_back_as_the_error_says_ends_like_an_uninterrupted_run(quick, whole, kept):
    (kept / "metrics.json").unlink()
    damage(kept / "last.pt")
    damage(kept / "last_epoch_003.pt")
    command = [*quick, *OPTIONS, "--resume"]
    for epoch, others in ((3, r" \(also kept: 2\)"), (2, "")):
        with pytest.raises(
            UserError, match=rf"last\.pt is damaged: .*go back to epoch {epoch}{others}, `mv "
        ) as caught:
            train(command)
        for words in re.search("`(.*)`", str(caught.value))[1].split(" && "):
            _, source, target = words.split()
            Path(source).replace(target)
    assert train(command) == 0
    assert_same_run(whole, kept)
    assert older(kept) == older(whole)


def test_states_of_an_abandoned_course_are_deleted(tmp_path):
    """Somebody went back from epoch 9 to epoch 6, whose evaluation now ends."""
    for name in ("last", "best"):
        for epoch in (5, 6, 8, 9):
            (tmp_path / f"{name}_epoch_00{epoch}.pt").write_text("older")
        (tmp_path / f"{name}.pt").write_text("now")
    RunFolder(tmp_path)._keep_older(6, 2)
    assert older(tmp_path) == [f"{name}_epoch_00{epoch}.pt" for name in ("best", "last") for epoch in (5, 6)]
    assert (tmp_path / "last_epoch_006.pt").read_text() == "now"


def test_files_that_cannot_be_deleted_are_named(run, quick, monkeypatch):
    """An older state, and the results of a run that is to have more epochs."""
    (run / "last_epoch_001.pt").touch()

    def refuse(path, *rest, **options):
        if Path(path).name in ("last_epoch_001.pt", "metrics.json"):
            raise OSError(30, "Read-only file system")
        return unlink(path, *rest, **options)

    unlink = os.unlink
    monkeypatch.setattr(os, "unlink", refuse)
    with pytest.raises(UserError, match=r"last_epoch_001\.pt cannot be written: Read-only file system; mount the disk"):
        RunFolder(run)._keep_older(3, 1)
    with pytest.raises(UserError, match=r"metrics\.json cannot be written: Read-only file system; mount the disk"):
        train(quick, "train.epochs=3", "--resume")


@pytest.mark.parametrize(
    "name",
    ["last.pt", *(pytest.param(name, marks=pytest.mark.slow) for name in ("config.yaml", "log.jsonl", "metrics.json"))],
)
def test_a_run_that_cannot_be_written_says_how_to_continue(name, quick, tmp_path, monkeypatch):
    """Whatever the file, the run then ends as it would have."""

    def full(path, target):
        if Path(target).name == name:
            raise OSError(28, "No space left on device")
        replace(path, target)

    replace, command = os.replace, [*quick, "train.epochs=1"]
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", full)
        message = (
            rf"{name} cannot be written: No space left on device; free some space or files there and try again with"
        )
        with pytest.raises(MachineError, match=f"{message} --resume$"):
            train(command)
    assert not (folder_of(tmp_path) / name).exists()
    assert train([*command, "--resume"]) == 0


def test_without_an_older_state_the_error_names_other_ways(quick, run):
    (run / "metrics.json").unlink()
    damage(run / "last.pt")
    message = (
        r"damaged: .*no older state was kept \(train\.keep\); --overwrite restarts .*model\.pretrained=.*best\.pt run"
    )
    with pytest.raises(UserError, match=message):
        train(quick, "--resume")


@pytest.mark.parametrize("message", ["a.jpg cannot be decoded: truncated", "last.pt cannot be read: No such file"])
def test_only_what_cannot_be_written_is_tried_again(message):
    """Errors of reading come from OSError as well."""
    with pytest.raises(UserError) as caught, resumable():
        raise UserError(message) from OSError("truncated")
    assert str(caught.value) == message
