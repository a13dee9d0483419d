"""inference.py from its command line to its rows."""

import json
import os
import re
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from inference import load_predictor, main
from models import precision
from scoring import local, options, preprocess
from scoring.command import StrictError
from scoring.formats import FORMATS
from scoring.predictor import Predictor, hash_of
from tests.running import ROOT
from tests.scoring.hostile import write_hostile_folder
from tests.scoring.scored import rows_of, scored
from utils.errors import MachineError, UserError

SUFFIXES = ("csv", "jsonl", "json", "parquet")


@pytest.fixture
def photos(tmp_path):
    """Eleven pictures, two of them damaged."""
    rng = np.random.default_rng(1)
    (tmp_path / "photos").mkdir()
    for number in range(9):
        pixels = rng.integers(0, 256, (30 + 5 * number, 60, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "photos" / f"p{number}.png")
    (tmp_path / "photos" / "p2b.png").write_bytes(b"")
    (tmp_path / "photos" / "p5b.png").write_text("no\nimage")
    return tmp_path / "photos"


def test_text_shows_mos_sos_and_bars(checkpoint, photo, capsys):
    assert main([str(photo), str(photo), "--checkpoint", str(checkpoint), "--device", "cpu"]) == 0
    captured = capsys.readouterr()
    prediction = load_predictor(checkpoint, device="cpu")(photo)
    assert captured.out.startswith(f"checkpoint {checkpoint}\n\n{photo}\n")
    assert captured.out.count(f"{prediction.mos:.3f}  (scale 0 to 100, lower is better)") == 1
    assert captured.out.count("DOS") == 5
    assert f"{100 * prediction.dos[0]:.1f} %" in captured.out
    assert captured.err == ""


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_record_by_hand(suffix, checkpoint, photo, tmp_path):
    status, (row,) = scored(tmp_path / f"out.{suffix}", photo, "--checkpoint", checkpoint, "--relative-to", tmp_path)
    assert status == 0
    prediction = load_predictor(checkpoint, device="cpu")(photo)
    dos = np.array(prediction.dos)
    below = np.concatenate([[0], dos.cumsum()]) / dos.sum()
    edges = np.linspace(0, 100, 6)
    expected = {
        "path": "photo.png",
        "mos": prediction.mos,
        "mos_01": 1 - prediction.mos / 100,  # lower is better
        "sos": prediction.sos,
        **{f"p{k}": value for k, value in enumerate(prediction.dos, start=1)},
        "median": np.interp(0.5, below, edges),
        "entropy": -(dos * np.log(dos)).sum(),
        "low_90": np.interp(0.05, below, edges),
        "high_90": np.interp(0.95, below, edges),
        "width": 70,
        "height": 50,
        "scale": "0,100:10,30,50,70,90:lower",
        "preprocess": "release@40x32",
        "checkpoint": hash_of(checkpoint),
        "notes": None,
        "error": None,
    }
    assert list(row) == list(expected)
    for name, value in expected.items():
        assert row[name] == (pytest.approx(value, abs=1e-7) if isinstance(value, float) else value), name


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_rows_in_order_with_errors_in_place(suffix, checkpoint, photos, tmp_path, capsys):
    status, rows = scored(tmp_path / f"out.{suffix}", photos, "--checkpoint", checkpoint)
    assert status == options.SOME_FAILED
    assert [row["path"] for row in rows] == sorted(str(path) for path in photos.iterdir())
    failed = {row["path"][-7:]: row["error"] for row in rows if row["error"]}
    assert failed.keys() == {"p2b.png", "p5b.png"}
    assert "is empty" in failed["p2b.png"]
    assert all(row["mos"] is None and row["width"] is None for row in rows if row["error"])
    predictor = load_predictor(checkpoint, device="cpu")
    for row in rows:
        if not row["error"]:
            assert row["mos"] == pytest.approx(predictor(row["path"]).mos, abs=1e-6)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "2 could not be scored: " in captured.err
    assert re.search(r"9 images scored, 2 not, in .* images/s\); peak memory \d+ MB", captured.err)


def test_results_alone_on_the_standard_output(checkpoint, photos, capsys):
    arguments = [str(photos / "p0.png"), str(photos / "missing.png"), "--checkpoint", str(checkpoint)]
    assert main([*arguments, "--format", "jsonl"]) == options.SOME_FAILED
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["error"] for row in rows] == [None, f"image {photos / 'missing.png'} does not exist"]
    assert main([*arguments, "--format", "text"]) == options.SOME_FAILED
    assert f"{photos / 'missing.png'}\n  not scored: image " in capsys.readouterr().out
    assert main([*arguments, "--format", "json"]) == options.SOME_FAILED
    read = json.loads(capsys.readouterr().out)
    assert read["checkpoint"] == str(checkpoint)
    assert read["images"] == rows


def test_workers_and_batches_change_nothing(checkpoint, photos, tmp_path):
    rows = []
    for batch, workers in ((1, 1), (16, 4), (3, 2)):
        options_of_run = ["--checkpoint", checkpoint, "--batch-size", batch, "--workers", workers]
        rows.append(scored(tmp_path / f"{batch}_{workers}.jsonl", photos, *options_of_run)[1])
    for one, *others in zip(*rows, strict=True):
        for other in others:
            assert (one["path"], one["error"]) == (other["path"], other["error"])
            assert one["error"] or abs(one["mos_01"] - other["mos_01"]) < 1e-5 / 4


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
        assert status == options.SOME_FAILED
        assert output.read_bytes() == whole.read_bytes() if suffix != "parquet" else rows_of(output) == rows_of(whole)
        assert not (tmp_path / f"out.{suffix}.part.jsonl").exists()
        if cut > len(content) // 2:
            assert sum(calls) < 6
    calls.clear()
    assert scored(output, *arguments, "--resume")[1] == rows_of(whole)
    assert not calls


def test_killed_in_the_middle_resume_ends_in_the_same_file(checkpoint, photos, tmp_path):
    arguments = [str(photos)] * 1 + ["--checkpoint", str(checkpoint), "--device", "cpu", "--batch-size", "2"]
    scored(tmp_path / "whole.csv", *arguments)
    slow = "import time, scoring.predictor as p; f = p.Predictor.predict; "
    slow += "p.Predictor.predict = lambda *a: time.sleep(0.3) or f(*a); import inference; "
    command = [sys.executable, "-c", f"{slow} inference.main({[*arguments, '--output', str(tmp_path / 'out.csv')]})"]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if (tmp_path / "out.csv").exists() and (tmp_path / "out.csv").read_bytes().count(b"\n") > 3:
            break
        time.sleep(0.01)
    process.kill()
    process.wait()
    assert 3 < (tmp_path / "out.csv").read_bytes().count(b"\n") < 12
    status, _ = scored(tmp_path / "out.csv", *arguments, "--resume")
    assert status == options.SOME_FAILED
    assert (tmp_path / "out.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()


def test_resume_with_images_that_came_since(checkpoint, photos, tmp_path):
    output = tmp_path / "out.csv"
    scored(output, photos, "--checkpoint", checkpoint)
    Image.new("RGB", (40, 40)).save(photos / "a_new_one.png")
    status, rows = scored(output, photos, "--checkpoint", checkpoint, "--resume")
    assert status == options.SOME_FAILED
    assert rows[-1]["path"].endswith("a_new_one.png")
    assert sorted(row["path"] for row in rows) == sorted(str(path) for path in photos.iterdir())


def test_what_resume_refuses(checkpoint, photos, tmp_path):
    output = tmp_path / "out.csv"
    arguments = [photos, "--checkpoint", checkpoint]
    scored(output, *arguments)
    before = output.read_bytes()
    with pytest.raises(UserError, match=r"out\.csv is there already; --resume goes on with it, --overwrite"):
        scored(output, *arguments)
    with pytest.raises(UserError, match="other settings: preprocess release@40x32 then, full@40 now"):
        scored(output, *arguments, "--resume", "--preprocess", "full")
    with pytest.raises(UserError, match=r"preprocess release@40x32 then, release@40x32\+bf16 now"):
        scored(output, *arguments, "--resume", "--precision", "bf16")
    assert output.read_bytes() == before
    output.write_text("name,score\na.png,3\n")
    with pytest.raises(UserError, match="header row is not the one of this run"):
        scored(output, *arguments, "--resume")
    (tmp_path / "odd.jsonl").write_text('{"path": "a"}\n')
    with pytest.raises(UserError, match="other fields than those of this run"):
        scored(tmp_path / "odd.jsonl", *arguments, "--resume")
    with pytest.raises(UserError, match="--resume goes on with an --output of"):
        main([*map(str, arguments), "--resume"])
    assert scored(output, *arguments, "--overwrite")[0] == options.SOME_FAILED
    assert output.read_bytes() == before


def test_strict_stops_at_the_first(checkpoint, photos, tmp_path):
    output = tmp_path / "out.jsonl"
    with pytest.raises(StrictError, match=r"--strict: .*p2b\.png is empty") as caught:
        scored(output, photos, "--checkpoint", checkpoint, "--strict")
    assert caught.value.status == options.SOME_FAILED
    assert [row["path"][-6:] for row in rows_of(output)] == ["p0.png", "p1.png", "p2.png"]
    (photos / "p2b.png").unlink()
    (photos / "p5b.png").unlink()
    assert len(scored(output, photos, "--checkpoint", checkpoint, "--strict", "--resume")[1]) == 9


def test_one_hundred_hostile_files(checkpoint, tmp_path, capsys):
    good, bad = write_hostile_folder(tmp_path / "hostile")
    assert len(good | bad) == 100
    arguments = ["--checkpoint", checkpoint, "--relative-to", tmp_path / "hostile"]
    names = {os.fsencode(name).decode("utf-8", "backslashreplace"): name in good for name in good | bad}
    for suffix in ("csv", "jsonl", "parquet"):
        status, rows = scored(tmp_path / f"out.{suffix}", tmp_path / "hostile", *arguments)
        assert status == options.SOME_FAILED
        assert len(rows) == 100
        for row in rows:
            assert (row["mos"] is not None) == names.pop(row["path"]), row
            assert (row["error"] is None) == (row["mos"] is not None)
        assert not names
        names = {os.fsencode(name).decode("utf-8", "backslashreplace"): name in good for name in good | bad}
    by_name = {row["path"]: row for row in rows}
    assert "3600000000 pixels, more than the 200000000" in by_name["bomb.png"]["error"]
    assert by_name["line.png"]["height"] == 20_000
    assert "enlarged" in by_name["one_pixel.png"]["notes"]
    assert by_name["exif_6.jpg"]["height"] == 64
    peak = int(re.search(r"peak memory (\d+) MB", capsys.readouterr().err)[1])
    assert peak < 3000
    assert main([str(tmp_path / "hostile"), "--checkpoint", str(checkpoint)]) == options.SOME_FAILED
    text = capsys.readouterr().out
    assert r"line\nbreak.png" in text
    assert text.count("not scored: ") == len(bad)


def test_maps_beside_the_rows(checkpoint, photos, tmp_path):
    for number in range(2, 9):
        (photos / f"p{number}.png").unlink()
    scored(
        tmp_path / "out.csv", photos, "--checkpoint", checkpoint, "--map", tmp_path / "photos" / "maps", "--recursive"
    )
    drawn = sorted((tmp_path / "photos" / "maps").iterdir())
    assert len(drawn) == 2
    assert drawn[0].name.startswith("p0.png.")
    with Image.open(drawn[0]) as drawing:
        assert drawing.width == 1200
    again = ["--checkpoint", checkpoint, "--map", tmp_path / "photos" / "maps", "--recursive", "--resume"]
    assert len(scored(tmp_path / "out.csv", photos, *again)[1]) == 4  # the drawings are not taken for photos


def test_a_full_disk_is_one_clear_line(checkpoint, photos):
    with pytest.raises(MachineError, match="/dev/full cannot be written: No space left on device") as caught:
        main([str(photos), "--checkpoint", str(checkpoint), "--format", "csv", "--output", "/dev/full", "--overwrite"])
    assert caught.value.status == 1


def test_pipes_that_close_and_terminals_without_bars(checkpoint, photo):
    command = [sys.executable, ROOT / "inference.py", photo, "missing.png", "--checkpoint", checkpoint]
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment, text=True)
    assert process.stdout.readline().startswith("checkpoint")
    process.stdout.close()
    assert "Traceback" not in process.stderr.read()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["photo.png", "--formt", "json"], "--formt"),
        (["photo.png", "--form", "json"], "--form"),
        ([], "name images, folders, patterns or a --list"),
        (["photo.png", "--batch-size", "0"], "--batch-size is 1 or more, got 0"),
        (["photo.png", "--resume", "--overwrite"], "contradict"),
        (["photo.png", "--preprocess", "ful"], "--preprocess"),
        (["photo.png", "--precision", "fp8"], "--precision"),
        (["photo.png", "--scale", "acr", "--config", "a.yaml"], "not allowed with"),
    ],
)
def test_mistakes_on_the_command_line(arguments, expected, capsys):
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert expected in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["photo.png", "--checkpoint", "letter.jpg"], r"letter\.jpg is not a checkpoint"),
        (["photo.png", "--background", "whit"], "'whit' is no colour"),
        (["photo.png", "--output", "rows.xlsx"], r"rows\.xlsx should end with \.txt, \.json"),
        (["photo.png", "--format", "parquet"], "parquet is for a file"),
        (["photo.png", "--output", "folder.csv"], "is a folder"),
        (["photo.png", "--device", "gpu"], "'gpu' is not on this machine"),
        (["photo.png", "--device", "cpu", "--precision", "fp16"], "fp16 needs a CUDA GPU"),
    ],
)
def test_mistakes_that_are_seen_later(arguments, expected, checkpoint, photo, tmp_path, monkeypatch):
    monkeypatch.chdir(photo.parent)
    (tmp_path / "letter.jpg").write_text("Dear colleagues")
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(UserError, match=expected):
        main([*arguments, *([] if "--checkpoint" in arguments else ["--checkpoint", str(checkpoint)])])


def test_a_mistake_ends_with_status_2_and_one_line(photo, tmp_path):
    command = [sys.executable, ROOT / "inference.py", photo, "--checkpoint", tmp_path / "missing.pt"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr == f"error: checkpoint {tmp_path / 'missing.pt'} does not exist\n"


def test_parquet_without_pyarrow(checkpoint, photo, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(UserError, match="needs the package pyarrow; `pip install pyarrow`"):
        scored(tmp_path / "out.parquet", photo, "--checkpoint", checkpoint)


def test_help_imports_nothing_heavy():
    code = "import sys, inference\ntry: inference.main(['--help'])\nexcept SystemExit: pass\nprint(sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = done.stdout.splitlines()[-1]
    for name in ("torch", "numpy", "PIL", "pydantic", "pandas", "scipy", "torchvision", "timm"):
        assert f"'{name}'" not in loaded


def test_scoring_imports_no_more_than_it_needs(checkpoint, photo):
    arguments = [str(photo), "--checkpoint", str(checkpoint)]
    code = f"import sys, inference\ninference.main({arguments})\nprint(sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = done.stdout.splitlines()[-1]
    for name in ("pandas", "scipy", "torchvision", "timm", "matplotlib", "huggingface_hub", "pyarrow"):
        assert f"'{name}'" not in loaded, name


def test_names_on_the_command_line_are_those_that_there_are():
    assert tuple(preprocess.PREPROCESS) == options.PREPROCESS
    assert precision.PRECISIONS == options.PRECISIONS
    assert {*FORMATS, "parquet"} == set(options.FORMATS) == set(options.OUTPUT_SUFFIXES.values())
    assert local.peak_memory() > 10**7
