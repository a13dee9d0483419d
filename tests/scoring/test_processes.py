"""A predictor in other threads and processes."""

import multiprocessing
import os
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from unittest.mock import Mock

import pytest
import torch

from inference import load_predictor
from scoring import loading
from scoring.defaults import PREPROCESS
from scoring.options import parse_arguments
from tests.running import ROOT
from utils.errors import UserError

SCRIPT = """
import multiprocessing, sys
from inference import load_predictor

if __name__ == "__main__":
    method, checkpoint, photo = sys.argv[1:]
    predictor = load_predictor(checkpoint, device="cpu", threads=2)
    expected = predictor(photo).mos
    with multiprocessing.get_context(method).Pool(2) as pool:
        scores = pool.map_async(predictor, [photo] * 4).get(90)
    assert all(abs(score.mos - expected) < 1e-3 for score in scores), scores
"""


@pytest.mark.parametrize("preprocess", PREPROCESS)
def test_a_predictor_can_be_pickled(preprocess, checkpoint, photo):
    predictor = load_predictor(checkpoint, device="cpu", preprocess=preprocess)
    predictor.preview_side = 10
    content = pickle.dumps(predictor)
    assert len(content) < 1.5 * checkpoint.stat().st_size  # shared weights are there once
    copy = pickle.loads(content)
    assert copy(photo) == predictor(photo)
    assert copy.prepare(photo).preview.size == (10, 7)
    assert copy.differentiable(torch.rand(1, 3, 50, 60)).shape == (1,)


@pytest.mark.slow
@pytest.mark.parametrize(
    "method",
    [
        pytest.param("fork", marks=pytest.mark.skipif(not hasattr(os, "fork"), reason="not on Windows")),
        pytest.param("spawn", marks=pytest.mark.slow),
        pytest.param("forkserver", marks=[pytest.mark.slow, pytest.mark.skipif(not hasattr(os, "fork"), reason="no")]),
    ],
)
def test_a_pool_of_processes_after_a_first_score(method, checkpoint, photo, tmp_path):
    """With threads of OpenMP, which a fork does not copy."""
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    command = [sys.executable, script, method, checkpoint, photo]
    done = subprocess.run(
        command, env={**environment, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr


def test_a_pool_of_threads(checkpoint, photo):
    predictor = load_predictor(checkpoint, device="cpu")
    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(predictor, [photo] * 16)) == {predictor(photo)}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="not on Windows")
def test_a_forked_process_has_one_thread_and_says_so(checkpoint):
    load_predictor(checkpoint, device="cpu")
    with multiprocessing.get_context("fork").Pool(1) as pool:
        with pytest.raises(UserError, match="threads: 2; a forked process computes on 1, start processes by"):
            pool.apply(load_predictor, (checkpoint,), {"device": "cpu", "threads": 2})
        assert pool.apply(torch.get_num_threads) == 1


def test_a_gpu_after_a_fork_is_one_line(checkpoint, photo, monkeypatch):
    predictor = load_predictor(checkpoint, device="cpu")
    prepared = predictor.prepare(photo)
    monkeypatch.setattr(predictor, "device", torch.device("meta"))
    monkeypatch.setattr(os, "getpid", Mock(return_value=1))
    with pytest.raises(UserError, match="meta cannot be used in a forked process; start processes by"):
        predictor.predict([prepared])


def test_threads(checkpoint, monkeypatch, capsys):
    monkeypatch.setattr(loading, "set_threads", Mock())
    load_predictor(checkpoint, device="cpu")
    loading.build_predictor(parse_arguments(["a.png", "--checkpoint", str(checkpoint), "--threads", "3"]))
    assert [call.args for call in loading.set_threads.call_args_list] == [(None,), (3,)]
    with pytest.raises(UserError, match="threads: 0 is not allowed; use 1 or more"):
        load_predictor(checkpoint, threads=0)
    with pytest.raises(SystemExit):
        parse_arguments(["a.png", "--threads", "0"])
    assert "--threads is 1 or more, got 0" in capsys.readouterr().err
