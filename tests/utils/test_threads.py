"""Cores that a process may use, and threads after a fork."""

import os
import subprocess
import sys

import pytest
import torch

from tests.running import ROOT
from utils.threads import set_threads, usable_cores


def write_group(group, **files):
    group.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (group / name.replace("__", ".")).write_text(text)


@pytest.fixture
def four_cores(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(4)), raising=False)


@pytest.mark.usefixtures("four_cores")
@pytest.mark.parametrize(("quota", "cores"), [("max 100000", 4), ("250000 100000", 3), ("50000 100000", 1), ("bad", 4)])
def test_quota_of_version_2(tmp_path, quota, cores):
    (tmp_path / "groups").write_text("0::/job/step\n")
    write_group(tmp_path / "root/job/step", cpu__max="max 100000")
    write_group(tmp_path / "root/job", cpu__max=quota)
    assert usable_cores(tmp_path / "groups", tmp_path / "root") == cores


@pytest.mark.usefixtures("four_cores")
@pytest.mark.parametrize(("quota", "cores"), [("-1", 4), ("200000", 2)])
def test_quota_of_version_1(tmp_path, quota, cores):
    (tmp_path / "groups").write_text("5:cpu,cpuacct:/a\n6:memory:/a\n")
    write_group(tmp_path / "root/cpu,cpuacct/a", cpu__cfs_quota_us=quota, cpu__cfs_period_us="100000")
    assert usable_cores(tmp_path / "groups", tmp_path / "root") == cores


def test_affinity(monkeypatch, tmp_path):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {1}, raising=False)
    assert usable_cores(tmp_path / "no groups") == 1


def test_threads(monkeypatch):
    monkeypatch.setattr("utils.threads.usable_cores", lambda: 2)
    set_threads(3)
    assert torch.get_num_threads() == 3
    set_threads(None)
    assert torch.get_num_threads() == 2


@pytest.mark.parametrize("script", ["inference.py", pytest.param("main.py", marks=pytest.mark.slow)])
def test_threads_wait_passively(script):
    environment = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    code = f"import runpy, os; runpy.run_path({script!r}, run_name='x'); print(os.environ['OMP_WAIT_POLICY'])"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip().lower() == "passive"
