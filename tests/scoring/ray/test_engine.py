"""The Ray engine on two local workers: the rows of the local engine, whatever is killed; `pytest -m slow`."""

import os
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from inference import main
from models.compiling import CompiledScorer
from scoring import defaults
from scoring.output import StrictError
from tests.running import ROOT
from tests.scoring.hostile import write_hostile_folder
from tests.scoring.scored import rows_of, scored
from utils.errors import MachineError, UserError

pytestmark = pytest.mark.slow

IMAGES, BAD = 40, 2


@pytest.fixture(scope="module")
def cluster():
    """Two cores and little memory, in this process, so that the engine finds it running."""
    ray = pytest.importorskip("ray")
    from scoring.ray import engine  # noqa: F401, PLC0415, sets what Ray reads of the environment

    folder = tempfile.mkdtemp(prefix="ray")  # short: sockets are below it
    quiet = {"log_to_driver": False, "include_dashboard": False}
    ray.init(num_cpus=2, num_gpus=0, object_store_memory=200 * 2**20, _temp_dir=folder, **quiet)
    yield ray
    ray.shutdown()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def photos(tmp_path):
    """Pictures, two of them damaged."""
    rng = np.random.default_rng(1)
    (tmp_path / "photos").mkdir()
    for number in range(IMAGES - BAD):
        pixels = rng.integers(0, 256, (30 + number, 60, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "photos" / f"p{number:02d}.png")
    (tmp_path / "photos" / "p02b.png").write_bytes(b"")
    (tmp_path / "photos" / "p05b.png").write_text("no\nimage")
    return tmp_path / "photos"


@pytest.fixture
def local(checkpoint, photos, tmp_path, monkeypatch):
    """The rows of the local engine, by path; relative ones, since a worker need not stand where the command does."""
    monkeypatch.chdir(photos.parent)
    _, rows = scored(tmp_path / "local.jsonl", "photos", "--checkpoint", checkpoint)
    assert len(rows) == IMAGES
    return by_path(rows)


def by_path(rows, before=""):
    """Rows by the end of their path; each path once."""
    found = {row["path"].removeprefix(before): row for row in rows}
    assert len(found) == len(rows)
    return found


def on_ray(output, checkpoint, *arguments):
    """Exit status and rows of a run on Ray."""
    command = [*map(str, arguments), "--checkpoint", str(checkpoint), "--engine", "ray", "--output", str(output)]
    return main(command), rows_of(Path(output))


def assert_same(rows, expected):
    """The same rows in any order, numbers to 1e-5 of the scale."""
    rows = by_path(rows)
    assert rows.keys() == expected.keys()
    for path, row in rows.items():
        for name, value in expected[path].items():
            if isinstance(value, float):
                assert row[name] == pytest.approx(value, abs=1e-3 if name != "mos_01" else 1e-5), (path, name)
            else:
                assert row[name] == value, (path, name)


@pytest.mark.usefixtures("cluster")
@pytest.mark.parametrize("output", ["rows.csv", "rows.jsonl", "rows.parquet", "rows/"])
def test_the_same_rows_as_the_local_engine(output, checkpoint, local, tmp_path, capsys):
    status, rows = on_ray(f"{tmp_path}/{output}", checkpoint, "photos")
    assert status == defaults.SOME_FAILED
    assert_same(rows, local)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "2 could not be scored: " in captured.err
    assert f"{IMAGES - BAD} images scored, 2 not, in" in captured.err
    with pytest.raises(UserError, match=r"already (exists|contains .*); --resume continues"):
        on_ray(f"{tmp_path}/{output}", checkpoint, "photos")
    if output == "rows/":
        assert_same(on_ray(f"{tmp_path}/{output}", checkpoint, "photos", "--overwrite")[1], local)


@pytest.mark.usefixtures("cluster")
@pytest.mark.parametrize("output", ["rows.csv", "rows/"])
def test_rows_that_pass(output, checkpoint, local, tmp_path, capsys):
    mos = sorted(row["mos_01"] for row in local.values() if not row["error"])
    keep = ["--keep", f"mos_01 > {(mos[9] + mos[10]) / 2}"]
    expected = {path: row for path, row in local.items() if row["error"] or row["mos_01"] > (mos[9] + mos[10]) / 2}
    assert len(expected) == IMAGES - 10
    assert_same(on_ray(f"{tmp_path}/{output}", checkpoint, "photos", *keep)[1], expected)
    told = f"{IMAGES - BAD} images scored, 2 not, {IMAGES - BAD - 10} passed --keep, in"
    assert told in capsys.readouterr().err
    assert_same(on_ray(f"{tmp_path}/{output}", checkpoint, "photos", *keep, "--resume")[1], expected)
    assert "10 images scored, 0 passed --keep, in" in capsys.readouterr().err
    with pytest.raises(UserError, match="was written with another --keep"):
        on_ray(f"{tmp_path}/{output}", checkpoint, "photos", "--keep", "mos < -1", "--resume")
    none = f"{tmp_path}/none{output[4:]}"
    main(["photos/p00.png", "--checkpoint", str(checkpoint), "--engine", "ray", "--output", none, "--keep", "mos < -1"])
    assert "1 images scored, 0 passed --keep, in" in capsys.readouterr().err


def test_rows_of_compiled_networks(cluster, checkpoint, local, tmp_path, monkeypatch):
    from scoring.ray import engine  # noqa: PLC0415, imports Ray
    from tests.scoring.ray.workers import NETWORK, Telling  # noqa: PLC0415, as well

    assert cluster.is_initialized()
    monkeypatch.setattr(engine, "Scorer", Telling)
    status, rows = on_ray(tmp_path / "rows.csv", checkpoint, "photos", "--compile")
    assert status == defaults.SOME_FAILED
    assert_same(rows, local)
    assert NETWORK.read_text() == CompiledScorer.__name__


@pytest.mark.parametrize("output", ["rows.jsonl", "rows/"])
def test_a_worker_killed_in_the_middle_loses_and_doubles_nothing(
    output, cluster, checkpoint, local, tmp_path, monkeypatch
):
    from scoring.ray import engine  # noqa: PLC0415, imports Ray
    from tests.scoring.ray.workers import Reporting  # noqa: PLC0415, as well

    assert cluster.is_initialized()
    monkeypatch.setattr(engine, "Scorer", Reporting)
    pids, killed = tmp_path / "pids", []

    def kill_one():
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and (not pids.exists() or len(list(pids.iterdir())) < 2):
            time.sleep(0.05)
        time.sleep(0.8)  # eight of twenty images
        killed.append(sorted(int(path.name) for path in pids.iterdir())[0])
        os.kill(killed[0], signal.SIGKILL)

    killer = threading.Thread(target=kill_one)
    killer.start()
    status, rows = on_ray(f"{tmp_path}/{output}", checkpoint, "photos")
    killer.join()
    assert killed
    assert len(list(pids.iterdir())) == 3, "the worker that was killed was not replaced"
    assert status == defaults.SOME_FAILED
    assert_same(rows, local)


def test_an_image_that_kills_every_worker_ends_the_run_and_resume_continues(
    cluster, checkpoint, local, photos, tmp_path, monkeypatch
):
    from scoring.ray import engine  # noqa: PLC0415, imports Ray
    from tests.scoring.ray.workers import Dying  # noqa: PLC0415, as well

    assert cluster.is_initialized()
    monkeypatch.setattr(engine, "Scorer", Dying)
    shutil.copy(photos / "p01.png", photos / "poison.png")
    with pytest.raises(MachineError, match="a worker died 4 times on the same images") as caught:
        on_ray(tmp_path / "rows.csv", checkpoint, "photos")
    assert "\n" not in str(caught.value)
    (photos / "poison.png").unlink()
    status, rows = on_ray(tmp_path / "rows.csv", checkpoint, "photos", "--resume")
    assert status == defaults.SOME_FAILED
    assert_same(rows, local)


@pytest.mark.usefixtures("cluster")
@pytest.mark.parametrize("output", ["rows.jsonl", "rows.csv", "rows/"])
def test_resume(output, checkpoint, local, photos, tmp_path, capsys):
    first = [photos / f"p{number:02d}.png" for number in (3, 1)]
    assert on_ray(f"{tmp_path}/{output}", checkpoint, *(path.relative_to(tmp_path) for path in first))[0] == 0
    if output == "rows.jsonl":
        with open(tmp_path / output, "ab") as file:
            file.write(b'{"path": "photos/p0')  # as a kill leaves it
    if output == "rows/":
        (tmp_path / "rows" / "cut.parquet").write_bytes(next((tmp_path / "rows").iterdir()).read_bytes()[:-9])
    capsys.readouterr()
    status, rows = on_ray(f"{tmp_path}/{output}", checkpoint, "photos", "--resume")
    assert status == defaults.SOME_FAILED
    assert_same(rows, local)
    assert f"{IMAGES - BAD - 2} images scored, 2 not" in capsys.readouterr().err
    status, rows = on_ray(f"{tmp_path}/{output}", checkpoint, "photos", "--resume")
    assert status == defaults.SOME_FAILED
    assert_same(rows, local)
    assert "0 images scored, in" in capsys.readouterr().err
    with pytest.raises(UserError, match="other settings: preprocess release@40x32 then, full@40 now"):
        on_ray(f"{tmp_path}/{output}", checkpoint, "photos", "--resume", "--preprocess", "full")


@pytest.mark.usefixtures("cluster")
def test_shards_tables_and_object_stores(checkpoint, local, photos, tmp_path):
    names = sorted(path.name for path in photos.iterdir())
    (tmp_path / "shards").mkdir()
    for number in range(2):
        with tarfile.open(tmp_path / "shards" / f"{number}.tar", "w") as shard:
            for name in names[number:20:2]:
                shard.add(photos / name, name)
    content = [(photos / name).read_bytes() for name in names[20:30]]
    pq.write_table(pa.table({"path": [f"t/{name}" for name in names[20:30]], "jpg": content}), tmp_path / "t.parquet")
    (tmp_path / "store").mkdir()
    for name in names[30:]:
        shutil.copy(photos / name, tmp_path / "store" / name)
    sources = ["shards", "t.parquet", f"file://{tmp_path}/store", "--image-bytes", "jpg"]

    def renamed(rows):
        for row in rows:
            told = row["path"]
            row["path"] = "photos/" + told.rsplit("/", 1)[1]
            row["error"] = row["error"] and row["error"].replace(told, row["path"])
        return rows

    status, rows = on_ray(tmp_path / "rows.csv", checkpoint, *sources)
    assert status == defaults.SOME_FAILED
    assert {row["path"].split("/")[0] for row in rows} == {"shards", "t", "file:"}
    assert any(row["path"] == f"shards/0.tar/{names[0]}" for row in rows)
    assert_same(renamed(rows), local)
    lines = (tmp_path / "rows.csv").read_bytes().splitlines(keepends=True)
    (tmp_path / "rows.csv").write_bytes(b"".join(lines[:17]) + lines[17][:9])
    assert_same(renamed(on_ray(tmp_path / "rows.csv", checkpoint, *sources, "--resume")[1]), local)
    assert renamed(on_ray(tmp_path / "one.csv", checkpoint, "t.parquet")[1])  # its only column of bytes


@pytest.mark.usefixtures("cluster")
def test_one_hundred_hostile_files(checkpoint, tmp_path):
    good, bad = write_hostile_folder(tmp_path / "hostile")
    arguments = [tmp_path / "hostile", "--relative-to", tmp_path / "hostile"]
    _, expected = scored(tmp_path / "local.jsonl", *arguments, "--checkpoint", checkpoint)
    status, rows = on_ray(tmp_path / "rows.jsonl", checkpoint, *arguments)
    assert status == defaults.SOME_FAILED
    assert_same(rows, by_path(expected))
    assert sum(row["error"] is not None for row in rows) == len(bad) == 100 - len(good)


@pytest.mark.usefixtures("cluster", "local")
def test_strict(checkpoint, tmp_path):
    with pytest.raises(StrictError, match=r"--strict: .*(p02b\.png is empty|p05b\.png is not an image)"):
        on_ray(tmp_path / "rows.csv", checkpoint, "photos", "--strict")
    assert len(rows_of(tmp_path / "rows.csv")) < IMAGES


@pytest.mark.usefixtures("cluster", "local")
def test_errors_of_workers_are_one_line(checkpoint, photos, tmp_path, monkeypatch):
    from scoring.ray import engine  # noqa: PLC0415, imports Ray
    from tests.scoring.ray.workers import Refusing  # noqa: PLC0415, as well

    for output in ("refused.csv", "refused/"):
        with monkeypatch.context() as patch:
            patch.setattr(engine, "Scorer", Refusing)
            with pytest.raises(MachineError, match=r"^cuda has not enough memory$"):
                on_ray(f"{tmp_path}/{output}", checkpoint, "photos")
    monkeypatch.setattr(engine, "build_dataset", None)  # nothing is scored where nothing is to be written
    with pytest.raises(UserError, match="3 workers, but the Ray cluster has 2 cores"):
        on_ray(tmp_path / "none.csv", checkpoint, photos, "--workers", 3)
    with pytest.raises(UserError, match="Ray cluster has no GPU"):
        on_ray(tmp_path / "none.csv", checkpoint, photos, "--device", "cuda")


def test_a_signal_that_the_handler_of_ray_answers_is_an_interruption(monkeypatch):
    """It does between its start and the return of ray.init."""
    pytest.importorskip("ray")
    from scoring.ray import engine  # noqa: PLC0415, imports Ray

    def interrupted(**_):
        raise SystemExit(signal.SIGTERM)

    monkeypatch.setattr("ray.init", interrupted)
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    with pytest.raises(KeyboardInterrupt), engine.cluster(None):
        pass


def test_from_the_command_line(checkpoint, local, photos, tmp_path):
    pytest.importorskip("ray")
    command = [sys.executable, ROOT / "inference.py", "photos", "--checkpoint", checkpoint, "--engine", "ray"]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    arguments = {"cwd": photos.parent, "capture_output": True, "text": True, "env": environment}
    done = subprocess.run([*command, "--workers", "1", "--output", "rows.jsonl"], check=False, **arguments)
    assert done.returncode == defaults.SOME_FAILED, done.stderr
    assert_same(rows_of(tmp_path / "rows.jsonl"), local)
    assert "Traceback" not in done.stderr
    done = subprocess.run([*command, "--ray-address", "127.0.0.1:1", "--output", "none.csv"], check=False, **arguments)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("error: --ray-address: 127.0.0.1:1: no Ray cluster is available: ")
