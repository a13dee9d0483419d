"""Splits side by side: the same as one after the other."""

import json
import os
import signal
import subprocess
import time
from threading import Thread

import pytest
import torch

from experiments.training.parallel import process_environments, run_processes
from tests.identical import assert_same_run
from tests.running import ROOT, folder_of, train
from utils.config import load_config
from utils.errors import UserError
from utils.runtime import Interruption

SPLITS = ["protocol.splits=2", "train.epochs=1", "model.drop_path=0.3", "optim.lr=1e-3", "protocol.parallel_splits=2"]


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


@pytest.mark.slow
def test_two_at_a_time_are_what_one_after_the_other_is(quick, tmp_path, capsys):
    """Files, summary and report; then nothing is left to resume."""
    cached = ["dataset.cache=disk", f"dataset.cache_folder={tmp_path / 'cache'}"]
    assert train(quick, *SPLITS, *cached) == 0
    output = capsys.readouterr().out
    assert train(quick, *SPLITS, "protocol.parallel_splits=1", "run.name=serial") == 0
    serial = capsys.readouterr().out
    for number in (1, 2):
        assert_same_run(folder_of(tmp_path, number), tmp_path / "runs" / "serial" / f"split_{number:02d}")
        assert f"split {number} | epoch 1/1  loss " in output
    summary = "2 splits, mean (standard deviation)"
    assert output.replace("/quick/", "/serial/").partition(summary)[2] == serial.partition(summary)[2] != ""
    assert (tmp_path / "runs" / "quick" / "report.html").stat().st_size > 50_000
    rows = json.loads(next((tmp_path / "cache").glob("*.json")).read_text())["rows"]
    assert len(rows) == 20


@pytest.mark.slow
def test_interruption_reaches_all_and_resume_continues(quick, tmp_path, capfd):
    many = [*SPLITS, "train.epochs=30"]
    folders = [folder_of(tmp_path, number) for number in (1, 2)]

    def interrupt() -> None:
        deadline = time.monotonic() + 300
        while not all((folder / "last.pt").exists() for folder in folders) and time.monotonic() < deadline:
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGINT)

    thread = Thread(target=interrupt)
    thread.start()
    assert train(quick, *many) == 130
    thread.join()
    assert "--resume continues it" in capfd.readouterr().out
    before = [json.loads((folder / "log.jsonl").read_text().splitlines()[0]) for folder in folders]
    assert not any((folder / "metrics.json").exists() for folder in folders)
    assert train(quick, *many, "--resume") == 0
    for folder, first in zip(folders, before, strict=True):
        log = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
        assert len(log) == 30
        assert log[0] == first


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
    """A script in place of main.py, which knows its split as `split`."""

    def write(text: str) -> None:
        (tmp_path / "main.py").write_text(f"import sys, time\nsplit = int(sys.argv[4])\n{text}")
        monkeypatch.setattr("experiments.training.parallel.MAIN", tmp_path / "main.py")

    return write


def test_what_fails_is_collected(stand_in, capsys):
    stand_in("print('on', split)\nif split > 1: sys.exit(f'error: {split} is damaged' if split == 2 else 7)\n")
    with Interruption() as interruption, pytest.raises(UserError) as error:
        run_processes(settings(), [1, 2, 3], [{}, {}], False, interruption)
    assert sorted(str(error.value).removeprefix("2 of 3 splits failed: ").split("; ")) == [
        "split 2: 2 is damaged",
        "split 3: its process ended with status 7",
    ]
    output = capsys.readouterr()
    assert sorted(output.out.splitlines()) == ["split 1 | on 1", "split 2 | on 2", "split 3 | on 3"]
    assert "split 2 | error: 2 is damaged\n" in output.err


def test_what_is_killed_says_so_rather_than_how_far_it_was(stand_in):
    stand_in("""
import os, signal
print('epoch 1/2: step 3/4', file=sys.stderr, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
""")
    killed = (
        r"^1 of 1 splits failed: split 1: its process was ended by signal 9 \(its last line: epoch 1/2: step 3/4\)$"
    )
    with Interruption() as interruption, pytest.raises(UserError, match=killed):
        run_processes(settings(), [1], [{}], False, interruption)


@pytest.mark.slow
def test_interruption_reaches_each_once_and_starts_no_more(stand_in, tmp_path):
    """Also those that have not set up yet what they do then."""
    stand_in(f"""
sys.path.insert(0, {str(ROOT)!r})
from utils.runtime import Interruption
open(f"{tmp_path}/begun_{{split}}", "w").close()
time.sleep(0.5)
with Interruption() as interruption:
    while not interruption.requested:
        time.sleep(0.01)
    time.sleep(0.3)  # saving
    open(f"{tmp_path}/saved_{{split}}", "w").close()
sys.exit(130)
""")
    with Interruption() as interruption:

        def interrupt() -> None:
            while len(list(tmp_path.glob("begun_*"))) < 2:
                time.sleep(0.01)
            interruption.requested = True

        Thread(target=interrupt).start()
        assert not run_processes(settings(), [1, 2, 3], [{}, {}], False, interruption)
    assert sorted(path.name for path in tmp_path.glob("saved_*")) == ["saved_1", "saved_2"]


def test_what_ends_this_process_ends_them(stand_in, monkeypatch):
    stand_in("print('here', flush=True)\ntime.sleep(60)\n")
    started, popen = [], subprocess.Popen

    def keep(*arguments, **options) -> subprocess.Popen:
        started.append(popen(*arguments, **options))
        return started[-1]

    monkeypatch.setattr(subprocess, "Popen", keep)
    monkeypatch.setattr(time, "sleep", lambda _: signal.raise_signal(signal.SIGINT))
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background ignores it
    try:
        with pytest.raises(KeyboardInterrupt):
            run_processes(settings(), [1], [{}], False, Interruption())
    finally:
        signal.signal(signal.SIGINT, before)
    monkeypatch.undo()
    assert started[0].wait(60) == -signal.SIGKILL


def test_overwriting_waits_until_the_new_run_is_sound(run, quick):
    before = (run / "last.pt").read_bytes()
    for mistake in ("model.pretrained=imagenet22k", "train.batch_size=18", "transform.crop=2", "dataset.cache=ram"):
        with pytest.raises(UserError):
            train(quick, *SPLITS, "--overwrite", mistake)
    assert (run / "last.pt").read_bytes() == before


def test_overwriting_leaves_no_splits_of_the_old_run(quick, tmp_path, monkeypatch):
    for number in (1, 2, 3):
        folder_of(tmp_path, number).mkdir(parents=True)
        (folder_of(tmp_path, number) / "metrics.json").write_text("{}")
    monkeypatch.setattr("experiments.training.parallel.run_processes", lambda *_: False)  # as if interrupted at once
    assert train(quick, *SPLITS, "--overwrite") == 130
    assert not any(folder_of(tmp_path, number).exists() for number in (1, 2, 3))


def settings(*overrides: str):
    return load_config(None, list(overrides))


def test_threads_are_divided(monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 8)
    assert process_environments(settings("train.device=cpu"), 3) == [{"OMP_NUM_THREADS": "2"}] * 3
    assert process_environments(settings("train.device=cpu"), 9)[0] == {"OMP_NUM_THREADS": "1"}


def test_each_split_has_its_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert process_environments(settings(), 2) == [{"CUDA_VISIBLE_DEVICES": "0"}, {"CUDA_VISIBLE_DEVICES": "1"}]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3, GPU-8932f937")
    found = process_environments(settings("train.device=cuda"), 2)
    assert found == [{"CUDA_VISIBLE_DEVICES": "3"}, {"CUDA_VISIBLE_DEVICES": "GPU-8932f937"}]
    with pytest.raises(UserError, match=r"3 splits at a time need 3 GPUs, and 2 are visible"):
        process_environments(settings(), 3)
    with pytest.raises(UserError, match=r"cannot share cuda:1; set train\.device to auto"):
        process_environments(settings("train.device=cuda:1"), 2)
