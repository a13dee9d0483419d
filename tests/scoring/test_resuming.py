"""Outputs that were cut short, and what --resume makes of them."""

import io
import os
import subprocess
import sys
import time
import tracemalloc

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from inference import main
from scoring import defaults
from scoring.formats import ROW_FORMATS
from scoring.output import Output
from scoring.predictor import Predictor
from scoring.records import RUN_FIELDS
from tests.running import ROOT
from tests.scoring.scored import SUFFIXES, rows_of, scored
from utils.errors import UserError


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("batch", [1, 3])
def test_stopped_anywhere_resume_ends_in_the_same_file(suffix, batch, checkpoint, photos, tmp_path, monkeypatch):
    whole, output = tmp_path / f"whole.{suffix}", tmp_path / f"out.{suffix}"
    arguments = [photos, "--checkpoint", checkpoint, "--batch-size", batch]
    scored(whole, *arguments)
    written = tmp_path / (output.name + (".part.jsonl" if suffix == "parquet" else ""))
    (tmp_path / "all.jsonl").unlink(missing_ok=True)
    scored(tmp_path / "all.jsonl", *arguments)
    content = (tmp_path / "all.jsonl" if suffix == "parquet" else whole).read_bytes()
    calls, predict = [], Predictor.predict
    monkeypatch.setattr(Predictor, "predict", lambda self, items: calls.append(len(items)) or predict(self, items))
    for cut in (0, 1, 30, len(content) // 3, len(content) // 2, len(content) - 3, len(content)):
        output.unlink(missing_ok=True)
        written.write_bytes(content[:cut])
        calls.clear()
        status, _ = scored(output, *arguments, "--resume")
        assert status == defaults.SOME_FAILED
        assert output.read_bytes() == whole.read_bytes() if suffix != "parquet" else rows_of(output) == rows_of(whole)
        assert not (tmp_path / f"out.{suffix}.part.jsonl").exists()
        if cut > len(content) // 2:
            assert sum(calls) < 6
    calls.clear()
    assert scored(output, *arguments, "--resume")[1] == rows_of(whole)
    assert not calls


def test_with_keep_the_batches_after_a_stop_are_those_of_the_whole_run(checkpoint, photos, tmp_path, monkeypatch):
    """Others change the last digits of scores, also where the images between the rows did not pass."""
    scored(tmp_path / "all.csv", photos, "--checkpoint", checkpoint)
    mos = sorted(row["mos"] for row in rows_of(tmp_path / "all.csv") if row["mos"] is not None)
    keep = ["--keep", f"mos < {(mos[2] + mos[3]) / 2} or mos > {(mos[5] + mos[6]) / 2}", "--batch-size", "4"]
    scored(tmp_path / "whole.csv", photos, "--checkpoint", checkpoint, *keep)
    content, batches = (tmp_path / "whole.csv").read_bytes(), []
    predict = Predictor.predict
    monkeypatch.setattr(Predictor, "predict", lambda self, items: batches.append(len(items)) or predict(self, items))
    for cut in range(0, len(content), 97):
        (tmp_path / "out.csv").write_bytes(content[:cut])
        batches.clear()
        scored(tmp_path / "out.csv", photos, "--checkpoint", checkpoint, *keep, "--resume")
        assert (tmp_path / "out.csv").read_bytes() == content
        assert batches[-1:] == [3]  # p6, p7 and p8


@pytest.mark.parametrize(("rows", "kept"), [(3, 2), (4, 4), (5, 5)])
def test_only_an_incomplete_batch_is_scored_again(rows, kept, checkpoint, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = [f"{number}.png" for number in range(5)]
    found = scored(tmp_path / "out.jsonl", *names, "--checkpoint", checkpoint)[1]
    lines = (tmp_path / "out.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "out.jsonl").write_text("".join(lines[:rows]))
    output = Output("jsonl", str(tmp_path / "out.jsonl"), tuple(found[0]), checkpoint)
    run_fields = {name: found[0][name] for name in RUN_FIELDS}
    assert len(output.done(run_fields, iter(names), batch_size=2)) == kept


@pytest.mark.parametrize("suffix", SUFFIXES[:3])
def test_cut_at_any_byte_resume_ends_in_the_same_file(suffix, checkpoint, tmp_path, monkeypatch):
    """With names, repeated in errors, that hold every sign of the formats."""
    monkeypatch.chdir(tmp_path)
    names = ["no\nwhere.png", 'car\rriage "quoted", comma.png', "}]{.png", "ünï.png"]
    arguments = [*names, "--checkpoint", str(checkpoint)]
    scored(tmp_path / f"whole.{suffix}", *arguments)
    content = (tmp_path / f"whole.{suffix}").read_bytes()
    assert [row["path"] for row in rows_of(tmp_path / f"whole.{suffix}")] == names
    form = ROW_FORMATS[suffix](tuple(rows_of(tmp_path / f"whole.{suffix}")[0]), str(checkpoint))
    rows = list(form.read(io.StringIO(content.decode(), newline="\n")))
    assert len(rows) == 4
    ends = [len(form.head.encode())]
    for number, row in enumerate(rows):
        ends.append(ends[-1] + len((form.separator * (number > 0) + form.row(row)).encode()))
    del ends[0]
    assert content[ends[-1] :] == form.tail.encode()
    output = tmp_path / f"out.{suffix}"
    run_fields = {name: rows[0][name] for name in RUN_FIELDS}
    for cut in range(len(content)):
        output.write_bytes(content[:cut])
        done = Output(suffix, str(output), form.columns, checkpoint).done(run_fields)
        count = sum(end <= cut for end in ends)
        assert (len(done), [name in done for name in names]) == (count, [index < count for index in range(4)]), cut
    for cut in (ends[0] - 3, ends[1] + 1, len(content) - 1):
        output.write_bytes(content[:cut])
        scored(output, *arguments, "--resume")
        assert output.read_bytes() == content


@pytest.mark.parametrize("form", SUFFIXES)
def test_resume_holds_one_row_at_a_time(form, tmp_path, monkeypatch):
    """What memory grows by from few rows to many: 16 bytes for each, some more while they are sorted."""
    monkeypatch.setattr("scoring.parquet.ROWS_PER_CHUNK", 50)
    columns = ("path", "mos", "scale", "preprocess", "checkpoint", "error")
    rows = [dict.fromkeys(columns, "x") | {"mos": 1.5, "error": None} for _ in range(3000)]
    peaks = []
    for count in (500, 3000):
        names = [f"{'a_long_folder/' * 10}{number}.png" for number in range(count)]
        output = [Output(form, f"{tmp_path}/{count}.{form}", columns, "c.pt") for _ in range(2)]
        output[0].write([row | {"path": name}] for name, row in zip(names, rows, strict=False))
        tracemalloc.start()
        done = output[1].done({"scale": "x"}, iter(names))
        assert sum(1 for _ in output[1].kept()) == count
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert done.unscored(names, names) == []
    assert peaks[1] - peaks[0] < 2500 * 80  # the shortest row has 180 bytes


def test_a_journal_that_cannot_be_removed_is_one_line(checkpoint, photos, tmp_path, monkeypatch):
    """As on a disk that has gone, or is read-only since."""
    output, unlink = tmp_path / "out.parquet", os.unlink

    def refuse(path, *rest, **options):
        if str(path).endswith(".part.jsonl"):
            raise OSError(30, "Read-only file system")
        return unlink(path, *rest, **options)

    with monkeypatch.context() as patch:
        patch.setattr(os, "unlink", refuse)
        with pytest.raises(
            UserError, match=r"out\.parquet cannot be written: Read-only .* and try again with --resume$"
        ):
            scored(output, photos, "--checkpoint", checkpoint)
    assert scored(output, photos, "--checkpoint", checkpoint, "--resume")[0] == defaults.SOME_FAILED


@pytest.mark.slow
def test_killed_in_the_middle_resume_ends_in_the_same_file(checkpoint, photos, tmp_path):
    arguments = [str(photos)] * 1 + ["--checkpoint", str(checkpoint), "--device", "cpu", "--batch-size", "2"]
    scored(tmp_path / "whole.csv", *arguments)
    slow = "import time, inference, scoring.predictor as p; f, calls = p.Predictor.predict, []; "
    slow += "p.Predictor.predict = lambda *a: calls.append(1) or time.sleep(600 * (len(calls) > 3)) or f(*a); "
    command = [sys.executable, "-c", f"{slow} inference.main({[*arguments, '--output', str(tmp_path / 'out.csv')]})"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}  # as here: their number may change the last bit
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL, env=environment)
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        if (tmp_path / "out.csv").exists() and (tmp_path / "out.csv").read_bytes().count(b"\n") > 3:
            break
        time.sleep(0.01)
    process.kill()
    process.wait()
    assert 3 < (tmp_path / "out.csv").read_bytes().count(b"\n") < 12
    status, _ = scored(tmp_path / "out.csv", *arguments, "--resume")
    assert status == defaults.SOME_FAILED
    assert (tmp_path / "out.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()


def test_resume_with_images_that_came_since(checkpoint, photos, tmp_path, capsys):
    output = tmp_path / "out.csv"
    scored(output, photos, "--checkpoint", checkpoint)
    Image.new("RGB", (40, 40)).save(photos / "a_new_one.png")
    status, rows = scored(output, photos, "--checkpoint", checkpoint, "--resume")
    assert status == defaults.SOME_FAILED
    assert rows[-1]["path"].endswith("a_new_one.png")
    assert sorted(row["path"] for row in rows) == sorted(str(path) for path in photos.iterdir())
    capsys.readouterr()
    scored(output, photos / "p0.png", "--checkpoint", checkpoint, "--resume", "--relative-to", photos)
    assert f"12 rows of {output} belong to other images and are kept" in capsys.readouterr().err


def test_what_resume_refuses(checkpoint, photos, tmp_path):
    output = tmp_path / "out.csv"
    arguments = [photos, "--checkpoint", checkpoint]
    scored(output, *arguments)
    before = output.read_bytes()
    with pytest.raises(UserError, match=r"out\.csv already exists; --resume continues it, --overwrite"):
        scored(output, *arguments)
    with pytest.raises(UserError, match="other settings: preprocess release@40x32 then, full@40 now"):
        scored(output, *arguments, "--resume", "--preprocess", "full")
    with pytest.raises(UserError, match=r"preprocess release@40x32 then, release@40x32\+bf16 now"):
        scored(output, *arguments, "--resume", "--precision", "bf16")
    assert output.read_bytes() == before
    output.write_text("name,score\na.png,3\n")
    with pytest.raises(UserError, match="its beginning is not that of this run's output"):
        scored(output, *arguments, "--resume")
    (tmp_path / "odd.jsonl").write_text('{"path": "a"}\n')
    with pytest.raises(UserError, match="other fields than those of this run"):
        scored(tmp_path / "odd.jsonl", *arguments, "--resume")
    output.write_bytes(before.replace(b"gob,", b""))  # of a run before there was this field
    with pytest.raises(UserError, match="its beginning is not that of this run's output; --overwrite replaces it"):
        scored(output, *arguments, "--resume")
    (tmp_path / "notes.jsonl").write_text('{"my": "precious"}')
    with pytest.raises(UserError, match="its beginning is not that of this run's output"):
        scored(tmp_path / "notes.jsonl", *arguments, "--resume")
    lines = before.decode().splitlines(keepends=True)
    output.write_text("".join([*lines[:3], "# my comment\n", *lines[3:]]))
    with pytest.raises(UserError, match="its row # my comment is damaged"):
        scored(output, *arguments, "--resume")
    scored(tmp_path / "j.json", *arguments)
    content = (tmp_path / "j.json").read_text()
    (tmp_path / "j.json").write_text(content.replace('"p5"', '"p6"'))
    with pytest.raises(UserError, match="other fields than those of this run"):
        scored(tmp_path / "j.json", *arguments, "--resume")
    pq.write_table(pa.table({"path": [b"a"]}), tmp_path / "p.parquet")
    with pytest.raises(UserError, match="other columns than those of this run"):
        scored(tmp_path / "p.parquet", *arguments, "--resume")
    assert not list(tmp_path.glob("p.parquet.*"))
    output.write_bytes(before)
    with pytest.raises(UserError, match="preprocess release@40x32 then, release@40x32,background=black now"):
        scored(output, *arguments, "--resume", "--background", "black")
    with pytest.raises(UserError, match="--resume continues an --output in"):
        main([*map(str, arguments), "--resume"])
    assert scored(output, *arguments, "--overwrite")[0] == defaults.SOME_FAILED
    assert output.read_bytes() == before
