"""inference.py from its command line to its rows."""

import json
import os
import re
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from inference import load_predictor, main
from models import precision
from scoring import defaults
from scoring.formats import ROW_FORMATS
from scoring.loading import short_hash
from scoring.opinions import best_probabilities, panel_mean
from scoring.output import StrictError
from scoring.preprocess import build_preprocess
from tests.running import ROOT, run_as_script
from tests.scoring.hostile import write_hostile_folder
from tests.scoring.scored import DMOS, SUFFIXES, rows_of, scored
from utils.errors import MachineError, UserError
from utils.settings import TransformSettings


def test_text_shows_mos_sos_and_bars(checkpoint, photo, capsys):
    assert main([str(photo), str(photo), "--checkpoint", str(checkpoint), "--device", "cpu"]) == 0
    captured = capsys.readouterr()
    prediction = load_predictor(checkpoint, device="cpu")(photo)
    assert captured.out.startswith(f"checkpoint {checkpoint}\n\n{photo}\n")
    assert captured.out.count(f"{prediction.mos:.3f}  (scale 0 to 100, lower is better)") == 1
    assert captured.out.count("DOS") == 5
    assert f"{100 * prediction.dos[0]:.1f} %" in captured.out
    good, poor = 100 * sum(prediction.dos[:2]), 100 * sum(prediction.dos[3:])  # lower is better
    assert captured.out.endswith(f"  {good:.1f} % find it good or better, {poor:.1f} % poor or worse\n")
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
        "gob": dos[0] + dos[1],
        "pow": dos[3] + dos[4],
        "width": 70,
        "height": 50,
        "scale": "0,100:10,30,50,70,90:lower",
        "preprocess": "release@40x32",
        "checkpoint": short_hash(checkpoint),
        "notes": None,
        "error": None,
    }
    assert list(row) == list(expected)
    for name, value in expected.items():
        assert row[name] == (pytest.approx(value, abs=1e-7) if isinstance(value, float) else value), name


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_what_a_panel_would_find(suffix, checkpoint, photos, tmp_path):
    arguments, output = [photos, "--checkpoint", checkpoint, "--panel", "15"], tmp_path / f"out.{suffix}"
    status, rows = scored(output, *arguments)
    assert status == defaults.SOME_FAILED
    predictor = load_predictor(checkpoint, device="cpu")
    for row in rows:
        assert row["panel"] == 15
        if row["error"]:
            assert row["panel_low"] is row["panel_high"] is row["panel_good"] is None
            continue
        panel = panel_mean([row[f"p{k}"] for k in range(1, 6)], predictor.scale, 15)
        assert [row[f"panel_{name}"] for name in ("low", "high", "good")] == pytest.approx([*vars(panel).values()])
    scored(output, *arguments, "--resume")
    assert rows_of(output) == rows
    with pytest.raises(UserError, match="other settings: panel 15 then, 16 now"):
        scored(output, *arguments[:-1], "16", "--resume")
    with pytest.raises(
        UserError, match=r"beginning is not that of this run|other (fields|columns) than those of this run"
    ):
        scored(output, *arguments[:-2], "--resume")


def test_a_panel_in_text(checkpoint, photo, capsys):
    assert main([str(photo), "--checkpoint", str(checkpoint), "--device", "cpu", "--panel", "25"]) == 0
    panel = panel_mean(load_predictor(checkpoint, device="cpu")(photo).dos, DMOS, 25)
    told = (
        f"  of panels of 25, 90 % find {panel.low:.3f} to {panel.high:.3f}, and {100 * panel.good:.1f} % call it good\n"
    )
    assert told in capsys.readouterr().out


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_the_best_come_first(suffix, checkpoint, photos, tmp_path):
    arguments = [photos, "--checkpoint", checkpoint]
    _, plain = scored(tmp_path / f"plain.{suffix}", *arguments)
    status, rows = scored(tmp_path / f"out.{suffix}", *arguments, "--best")
    assert status == defaults.SOME_FAILED
    assert [row["rank"] for row in rows] == [*range(1, 10), None, None]
    assert [row["path"][-7:] for row in rows[9:]] == ["p2b.png", "p5b.png"]
    assert [row["best"] for row in rows[9:]] == [None, None]
    assert sum(row["best"] for row in rows[:9]) == pytest.approx(1, abs=1e-6)
    by_path = {row["path"]: [row[f"p{k}"] for k in range(1, 6)] for row in plain if not row["error"]}
    expected = dict(zip(by_path, best_probabilities([*by_path.values()], higher_is_better=False), strict=True))
    assert [row["path"] for row in rows[:9]] == sorted(expected, key=expected.get, reverse=True)
    for row in rows[:9]:
        assert row["best"] == pytest.approx(expected[row["path"]], abs=1e-6)
    without = [{name: value for name, value in row.items() if name not in ("rank", "best")} for row in rows]
    assert sorted(without, key=lambda row: row["path"]) == plain
    _, some = scored(tmp_path / f"some.{suffix}", *arguments, "--best", "--keep", f"mos <= {rows[3]['mos']}")
    assert len(some) < 11
    assert sum(row["best"] or 0 for row in some) == pytest.approx(1, abs=1e-6)  # of those that pass


def test_the_best_in_text(checkpoint, photos, capsys):
    assert main([str(photos), "--checkpoint", str(checkpoint), "--device", "cpu", "--best"]) == defaults.SOME_FAILED
    lines = capsys.readouterr().out.splitlines()
    assert lines[1] == ""
    assert [line[:16] for line in lines[2:11]] == [f"   {rank}.  best with" for rank in range(1, 10)]
    assert re.fullmatch(r"   1\.  best with  1\d\.\d %   MOS   \d\d\.\d{3}   .*/p\d\.png", lines[2])
    assert "  not scored: " in lines[13]


def test_what_best_refuses(checkpoint, photo):
    arguments = ["--checkpoint", str(checkpoint), "--best"]
    with pytest.raises(UserError, match="--best compares 2 to 1000 images, got 1; name others"):
        main([str(photo), *arguments])
    with pytest.raises(UserError, match=r"no field 'best'"):
        main([str(photo), "missing.png", *arguments, "--keep", "best > .1"])


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_rows_in_order_with_errors_in_place(suffix, checkpoint, photos, tmp_path, capsys):
    status, rows = scored(tmp_path / f"out.{suffix}", photos, "--checkpoint", checkpoint)
    assert status == defaults.SOME_FAILED
    assert [row["path"] for row in rows] == sorted(str(path) for path in photos.iterdir())
    failed = {row["path"][-7:]: row["error"] for row in rows if row["error"]}
    assert failed.keys() == {"p2b.png", "p5b.png"}
    assert "is empty" in failed["p2b.png"]
    assert all(row["mos"] is None and row["width"] is None for row in rows if row["error"])
    predictor = load_predictor(checkpoint, device="cpu")
    for row in rows:
        if not row["error"]:
            assert row["mos"] == pytest.approx(predictor(row["path"]).mos, rel=1e-6)  # in a batch
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "2 could not be scored: " in captured.err
    assert re.search(r"9 images scored, 2 not, in .* images/s\); peak memory \d+ MB", captured.err)


def test_results_alone_on_the_standard_output(checkpoint, photos, capsys):
    arguments = [str(photos / "p0.png"), str(photos / "missing.png"), "--checkpoint", str(checkpoint)]
    assert main([*arguments, "--format", "jsonl"]) == defaults.SOME_FAILED
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["error"] for row in rows] == [None, f"image {photos / 'missing.png'} does not exist"]
    assert main([*arguments, "--format", "text"]) == defaults.SOME_FAILED
    assert f"{photos / 'missing.png'}\n  not scored: image " in capsys.readouterr().out
    assert main([*arguments, "--format", "json"]) == defaults.SOME_FAILED
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


def test_strict_stops_at_the_first(checkpoint, photos, tmp_path):
    output = tmp_path / "out.jsonl"
    with pytest.raises(StrictError, match=r"--strict: .*p2b\.png is empty") as caught:
        scored(output, photos, "--checkpoint", checkpoint, "--strict")
    assert caught.value.status == defaults.SOME_FAILED
    assert [row["path"][-6:] for row in rows_of(output)] == ["p0.png", "p1.png", "p2.png"]
    for suffix in ("json", "parquet"):  # whole files of what was scored before
        with pytest.raises(StrictError):
            scored(tmp_path / f"out.{suffix}", photos, "--checkpoint", checkpoint, "--strict")
        assert len(rows_of(tmp_path / f"out.{suffix}")) == 3
    (photos / "p2b.png").unlink()
    (photos / "p5b.png").unlink()
    assert len(scored(output, photos, "--checkpoint", checkpoint, "--strict", "--resume")[1]) == 9


@pytest.mark.slow
def test_one_hundred_hostile_files(checkpoint, tmp_path):
    good, bad = write_hostile_folder(tmp_path / "hostile")
    assert len(good | bad) == 100
    arguments = ["--checkpoint", checkpoint, "--relative-to", tmp_path / "hostile"]
    names = {os.fsencode(name).decode("utf-8", "backslashreplace"): name in good for name in good | bad}
    for suffix in ("csv", "jsonl", "parquet"):
        status, rows = scored(tmp_path / f"out.{suffix}", tmp_path / "hostile", *arguments)
        assert status == defaults.SOME_FAILED
        assert len(rows) == 100
        for row in rows:
            assert (row["mos"] is not None) == names.pop(row["path"]), row
            assert (row["error"] is None) == (row["mos"] is not None)
        assert not names
        names = {os.fsencode(name).decode("utf-8", "backslashreplace"): name in good for name in good | bad}
    by_name = {row["path"]: row for row in rows}
    assert "3600000000 pixels, more than the limit of 200000000" in by_name["bomb.png"]["error"]
    assert by_name["line.png"]["height"] == 20_000
    assert "enlarged" in by_name["one_pixel.png"]["notes"]
    assert by_name["exif_6.jpg"]["height"] == 64
    command = [sys.executable, ROOT / "inference.py", tmp_path / "hostile", "--checkpoint", checkpoint]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == defaults.SOME_FAILED
    assert r"line\nbreak.png" in done.stdout
    assert done.stdout.count("not scored: ") == len(bad)
    peak = int(re.search(r"peak memory (\d+) MB", done.stderr)[1])
    assert peak < 1000  # 600 where torch has brought CUDA with it; a bomb that is decoded takes 10,000


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


@pytest.mark.slow
def test_a_disk_that_fills_in_the_middle_is_one_clear_line(checkpoint, photos, tmp_path):
    limit = "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000)); import inference; "
    limit += "from utils.script import run_script; run_script(lambda: inference.main(sys.argv[1:]))"
    command = [sys.executable, "-c", limit, photos, "--checkpoint", checkpoint, "--output", tmp_path / "out.csv"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    remedy = "raise the limit on the size of a file (`ulimit -f`) and try again with --resume"
    assert done.stderr == f"error: {tmp_path / 'out.csv'} cannot be written: File too large; {remedy}\n"
    assert len((tmp_path / "out.csv").read_bytes()) > 300


@pytest.mark.parametrize("read", ["photo", "list", "checkpoint"])
def test_what_is_read_is_not_replaced(read, checkpoint, photo, tmp_path):
    (tmp_path / "list.csv").write_text(f"image\n{photo}\n")
    output = {"photo": photo, "list": tmp_path / "list.csv", "checkpoint": checkpoint}[read]
    before = output.read_bytes()
    arguments = ["--list", tmp_path / "list.csv", "--checkpoint", checkpoint, "--format", "csv", "--overwrite"]
    with pytest.raises(UserError, match="is an input of this run; name another file"):
        scored(output, *arguments)
    assert output.read_bytes() == before


def test_pipes_that_close_and_terminals_without_bars(checkpoint, photo):
    command = [sys.executable, ROOT / "inference.py", photo, "missing.png", "--checkpoint", checkpoint]
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment, text=True)
    assert process.stdout.readline().startswith("checkpoint")
    process.stdout.close()
    assert "Traceback" not in process.stderr.read()
    assert process.wait() in (0, defaults.SOME_FAILED)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["photo.png", "--formt", "json"], "--formt"),
        (["photo.png", "--form", "json"], "--form"),
        ([], "name images, folders, patterns or a --list"),
        (["photo.png", "--batch-size", "0"], "--batch-size is 1 or more, got 0"),
        (["photo.png", "--best", "--resume"], "--best compares all images at once, and --resume only adds to a file"),
        (["photo.png", "--best", "--engine", "ray"], "--best works with --engine local only"),
        (["photo.png", "--panel", "0"], "--panel is 1 or more, got 0"),
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
        (["photo.png", "--background", "whit"], "'whit' is not a colour"),
        (["photo.png", "--output", "rows.xlsx"], r"rows\.xlsx should end with \.txt, \.json"),
        (["photo.png", "--format", "parquet"], "parquet cannot be written to the terminal"),
        (["photo.png", "--format", "csv", "--output", "-"], "omit it"),
        (["photo.png", "--output", "x" * 300 + ".csv"], "File name too long"),
        ([".", "--map", "."], "is both an input and an output"),
        (["photo.png", "--output", "folder.csv"], "is a folder"),
        (["photo.png", "--device", "gpu"], "'gpu' is not available"),
        (["photo.png", "--device", "cpu", "--precision", "fp16"], "fp16 needs a CUDA GPU"),
    ],
)
def test_mistakes_that_are_seen_later(arguments, expected, checkpoint, photo, tmp_path, monkeypatch):
    monkeypatch.chdir(photo.parent)
    (tmp_path / "letter.jpg").write_text("Dear colleagues")
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(UserError, match=expected):
        main([*arguments, *([] if "--checkpoint" in arguments else ["--checkpoint", str(checkpoint)])])


def test_a_mistake_ends_with_status_2_and_one_line(photo, tmp_path, monkeypatch, capsys):
    arguments = [str(photo), "--checkpoint", str(tmp_path / "missing.pt")]
    assert run_as_script(monkeypatch, "inference.py", *arguments) == 2
    done = capsys.readouterr()
    assert done.out == ""
    assert done.err == f"error: checkpoint {tmp_path / 'missing.pt'} does not exist\n"


def test_parquet_without_pyarrow(checkpoint, photo, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
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
    ids = [build_preprocess(name, TransformSettings()).id for name in defaults.PREPROCESS]
    assert [shown.partition("@")[0] for shown in ids] == list(defaults.PREPROCESS)
    assert precision.PRECISIONS == defaults.PRECISIONS
    assert {*ROW_FORMATS, "parquet"} == set(defaults.FORMATS) == set(defaults.OUTPUT_SUFFIXES.values())
