"""check_dataset as its user runs it: what it says, its picture, its exit status."""

import json
import re
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from tests.databases import OFFICIAL, write_database
from tests.running import ROOT, run_as_script
from tools.check_dataset import main
from utils.config import load_config
from utils.errors import UserError

PICTURE = ("--picture", "picture.png")


@pytest.fixture
def check(tmp_path, monkeypatch, capsys):
    """Runs the tool in tmp_path on a made-up database; returns status and what was printed.

    Without a picture, which takes longer than all the rest, unless --picture is among the arguments.
    """
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> tuple[int, str]:
        status = main([*arguments, *([] if "--picture" in arguments else ["--no-picture"])])
        return status, capsys.readouterr().out

    return run


@pytest.mark.parametrize("name", OFFICIAL)
def test_every_database(name, check, tmp_path):
    made = write_database(name, tmp_path / name)
    status, output = check("--dataset", name, "--root", str(made.root), "--decode", *PICTURE)
    assert status == 0, output
    assert f"{len(made.mos)} labelled, {len(made.mos)} found" in output
    assert "ready for training" in output
    assert f"split {load_config(ROOT / 'configs' / f'{name}.yaml').protocol.splits}" in output
    assert ("noise ceiling" in output) == (name in ("koniq10k", "bid", "ava"))
    assert ("references" in output) == bool(made.references)
    assert "scenes are in both train and test" not in output
    with Image.open(tmp_path / "picture.png") as picture:
        assert picture.width > 1000
        assert np.asarray(picture.convert("L")).std() > 20


def test_figures_are_those_of_the_labels(check, tmp_path):
    made = write_database("clive", tmp_path / "clive")
    _, output = check("--dataset", "clive", "--root", str(made.root))
    mos, sos = np.array(list(made.mos.values())), np.array(list(made.sos.values()))
    a = np.linalg.lstsq((mos * (100 - mos))[:, None], sos**2, rcond=None)[0][0]
    assert f"a = {a:.4f} fitted to the measured SOS" in output
    assert f"{mos.min():.4g} to {mos.max():.4g}, mean {mos.mean():.4g}" in output
    assert "JPEG 6, BMP 6; 48x36 to 48x36 pixels" in output


def test_everything_that_is_wrong_is_listed(check, tmp_path):
    made = write_database("csv", tmp_path / "csv")
    names = list(made.mos)
    (made.root / names[0]).unlink()
    (made.root / names[1]).write_text("not a picture")
    (made.root / names[3]).write_bytes((made.root / names[2]).read_bytes())
    lines = [f"{name},{mos},5" for name, mos in made.mos.items()]
    lines[4] = lines[4].rsplit(",", 1)[0] + ",99"
    lines[5] = f"{names[5]},2,20"
    lines += [f"{names[6]},50,5", f"{names[7]},101,5"]
    (made.root / "labels.csv").write_text("\n".join(["image,mos,sos", *lines]) + "\n")
    arguments = ("--config", str(ROOT / "configs" / "custom.yaml"), f"dataset.root={made.root}")
    status, output = check(*arguments, "--decode", *PICTURE)
    assert status == 1
    for text in (
        "1 x missing image",
        f"line 2: image {names[0]} does not exist",
        "1 x unreadable image",
        f"{names[1]} is not an image that Pillow can read",
        "1 x identical files (does not prevent training)",
        f"{names[2]}, {names[3]}",
        "1 x impossible SOS, unusable",
        "1 x impossible SOS (does not prevent training)",
        "2 x duplicate, unusable",
        f"line 14: {names[6]} is labelled twice, first at",
        "1 x MOS outside the scale, unusable",
        "not ready for training",
    ):
        assert text in output, text


def test_odd_rows_are_not_in_the_way_unless_strict(check, tmp_path):
    made = write_database("csv", tmp_path / "csv")
    name = next(iter(made.mos))
    text = (made.root / "labels.csv").read_text().splitlines()
    text[1] = f"{name},2,25"
    (made.root / "labels.csv").write_text("\n".join(text))
    arguments = ("--config", str(ROOT / "configs" / "custom.yaml"), f"dataset.root={made.root}")
    status, output = check(*arguments)
    assert (status, "1 x impossible SOS (does not prevent training)" in output) == (0, True)
    assert check(*arguments, "dataset.strict=true")[0] == 1


def test_damaged_images_are_found_without_decoding_and_may_be_omitted(check, tmp_path):
    made = write_database("csv", tmp_path / "csv")
    path = made.root / next(iter(made.mos))
    path.write_bytes(path.read_bytes()[:60])
    arguments = ("--config", str(ROOT / "configs" / "custom.yaml"), f"dataset.root={made.root}")
    status, output = check(*arguments)
    assert (status, "1 x unreadable image\n" in output, f"{path} " in output) == (1, True, True)
    status, output = check(*arguments, "dataset.unreadable=omit")
    assert (status, "1 x unreadable image (does not prevent training)" in output) == (0, True)
    assert check(*arguments, "dataset.unreadable=omit", "dataset.strict=true")[0] == 1


def test_labels_in_another_unit_are_doubted(check, tmp_path):
    made = write_database("csv", tmp_path / "csv")
    rows = "".join(f"{name},{mos},{0.7 + mos / 500}\n" for name, mos in made.mos.items())
    (made.root / "labels.csv").write_text(f"image,mos,sos\n{rows}")
    status, output = check("--config", str(ROOT / "configs" / "custom.yaml"), f"dataset.root={made.root}")
    assert status == 0
    assert "1 x labels in another unit, perhaps (does not prevent training)" in output
    assert "the SOS are smaller than those of any panel on the scale 0 to 100" in output


def test_missing_images_are_not_in_the_way_where_they_are_allowed(check, tmp_path):
    made = write_database("kadid10k", tmp_path / "kadid10k")
    (made.root / next(iter(made.mos))).unlink()
    arguments = ("--dataset", "kadid10k", "--root", str(made.root))
    assert check(*arguments, *PICTURE)[0] == 1
    assert check(*arguments, "dataset.unreadable=omit", *PICTURE)[0] == 0


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["dataset.dos=counts"], "1 x labels"),
        (["protocol.method=official", "protocol.splits=1"], "do not say which part"),
        (["protocol.train_fraction=0.99"], "leave the test part of split 1 empty"),
        (["dataset.labels=kadid10khist_5.txt"], "is not in"),
    ],
)
def test_what_training_would_refuse_is_a_problem(arguments, text, check, tmp_path):
    made = write_database("kadid10k", tmp_path / "kadid10k")
    status, output = check("--dataset", "kadid10k", "--root", str(made.root), *arguments, *PICTURE)
    assert status == 1
    assert text in output


def test_no_folder_and_damaged_labels(check, tmp_path):
    assert check("--dataset", "kadid10k", "--root", str(tmp_path / "nowhere"))[0] == 1
    made = write_database("bid", tmp_path / "bid")
    (made.root / "DatabaseGrades.xls").write_text("hello")
    status, output = check("--dataset", "bid", "--root", str(made.root))
    assert status == 1
    assert "cannot be read as a workbook" in output


def test_long_lists_are_cut_unless_all_is_wanted(check, tmp_path):
    made = write_database("csiq", tmp_path / "csiq")
    for image in list(made.mos)[:15]:
        (made.root / image).unlink()
    _, output = check("--dataset", "csiq", "--root", str(made.root))
    assert "15 x missing image" in output
    assert "and 5 more; --all lists them" in output
    _, output = check("--dataset", "csiq", "--root", str(made.root), "--all")
    assert output.count("does not exist") == 15


@pytest.mark.parametrize(("name", "made_by"), [("biq2021", "by official"), ("clive", "by image")])
def test_automatic_splits_are_named_by_what_they_are(name, made_by, check, tmp_path):
    made = write_database(name, tmp_path / name)
    _, output = check("--dataset", name, "--root", str(made.root), "protocol.method=auto")
    assert f"{made_by}, hash" in output
    assert "by auto" not in output


def test_saved_splits_can_be_trained_on(check, tmp_path):
    made = write_database("csiq", tmp_path / "csiq")
    status, output = check("--dataset", "csiq", "--root", str(made.root), "--save-splits", str(tmp_path / "s.json"))
    assert status == 0
    splits = json.loads((tmp_path / "s.json").read_text())
    assert len(splits) == 10
    by_file = (f"dataset.split_file={tmp_path / 's.json'}", "protocol.method=file")
    _, again = check("--dataset", "csiq", "--root", str(made.root), *by_file)
    assert all(f"by file, hash {split['databases']['csiq']['hash']}" in again for split in splits)
    assert "hash " + splits[0]["databases"]["csiq"]["hash"] in output


@pytest.fixture
def two(tmp_path) -> list[str]:
    """The command line for two databases at once."""
    roots = {name: write_database(name, tmp_path / name).root for name in ("koniq10k", "spaq")}
    overrides = [f"dataset.{number}.root={root}" for number, root in enumerate(roots.values())]
    return ["--config", str(ROOT / "configs" / "koniq10k_spaq.yaml"), f"run.root={tmp_path}", *overrides]


@pytest.mark.slow
def test_several_databases(two, tmp_path):
    assert main(two) == 0
    assert {path.name for path in tmp_path.glob("check_*.png")} == {"check_koniq10k.png", "check_spaq.png"}
    assert main([*two, "--picture", str(tmp_path / "a.png")]) == 0
    assert {path.name for path in tmp_path.glob("a*.png")} == {"a_koniq10k.png", "a_spaq.png"}
    assert main([*two, "--no-picture", "dataset.1.root=/nope"]) == 1


def test_saved_splits_of_several_databases(two, tmp_path, capsys):
    file = tmp_path / "splits.json"
    assert main([*two, "--no-picture", "--save-splits", str(file)]) == 0
    hashes = re.findall(r"hash (\w+)", capsys.readouterr().out)
    by_file = [f"dataset.{number}.split_file={file}" for number in (0, 1)]
    assert main([*two, "--no-picture", *by_file, "protocol.method=file"]) == 0
    assert re.findall(r"hash (\w+)", capsys.readouterr().out) == hashes
    assert len(set(hashes)) == 20


def test_databases_that_do_not_go_together(two, capsys):
    scale = "dataset.1.scale={low: 0, high: 100, bin_centers: [25, 75]}"
    assert main([*two, scale]) == 1
    assert "cannot be trained on together: the databases must have the same number of bins" in capsys.readouterr().out


def test_nothing_there_though_missing_images_are_allowed(check, tmp_path):
    made = write_database("kadid10k", tmp_path / "kadid10k")
    for image in made.mos:
        (made.root / image).unlink()
    status, output = check("--dataset", "kadid10k", "--root", str(made.root), "dataset.unreadable=omit", *PICTURE)
    assert status == 1
    assert "none of the 24 images is usable" in output


def test_rows_that_cannot_be_used_are_not_in_the_figures(check, tmp_path):
    made = write_database("csv", tmp_path / "csv")
    (made.root / next(iter(made.mos))).unlink()
    arguments = ("--config", str(ROOT / "configs" / "custom.yaml"), f"dataset.root={made.root}")
    save = ("--save-splits", str(tmp_path / "s.json"))
    status, output = check(*arguments, "dataset.unreadable=omit", *save, *PICTURE)
    assert status == 0
    assert "12 labelled, 11 found" in output
    assert "9 train, 0 validation, 2 test" in output
    status, output = check(*arguments, "--save-splits", str(tmp_path / "t.json"))
    assert status == 1
    assert "t.json is not written: fix the database first" in output
    assert not (tmp_path / "t.json").exists()


def test_labels_at_the_ends_of_the_scale(check, tmp_path):
    made = write_database("csv", tmp_path / "csv")
    lines = [f"{image},{100 * (row % 2)},0" for row, image in enumerate(made.mos)]
    (made.root / "labels.csv").write_text("\n".join(["image,mos,sos", *lines]))
    arguments = ("--config", str(ROOT / "configs" / "custom.yaml"), f"dataset.root={made.root}")
    status, output = check(*arguments, *PICTURE)
    assert (status, "SOS hypothesis  a = nan" in output) == (0, True)


def test_scenes_on_both_sides_are_counted(check, tmp_path):
    made = write_database("csiq", tmp_path / "csiq")
    _, output = check("--dataset", "csiq", "--root", str(made.root), "protocol.unit=image")
    assert "by image, hash" in output
    assert re.search(r"; [45] scenes are in both train and test", output)


@pytest.mark.parametrize("name", ["my #1 data", "my: data", "007", "1e3", "[x]", "null", 'a "quoted" one', "kä"])
def test_the_root_is_a_path_not_yaml(name, check, tmp_path):
    write_database("bid", tmp_path / "bid").root.rename(tmp_path / name)
    assert check("--dataset", "bid", "--root", name)[0] == 0


def test_where_the_picture_goes(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    arguments = ["--dataset", "bid", "--root", str(write_database("bid", tmp_path / "bid").root)]
    assert main([*arguments, "--no-picture"]) == 0
    assert not (tmp_path / "checkpoint").exists()
    assert main([*arguments, "--picture", "plain"]) == 0
    assert (tmp_path / "plain").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(UserError, match="cannot be written"):
        main([*arguments, "--picture", str(tmp_path / "bid")])
    assert "ready for training" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--dataset", "kadid"], r"unknown database 'kadid' \(did you mean 'kadid10k'\?\)"),
        (["--dataset", "csv", "--root", "x"], r"copy of configs/custom\.yaml"),
        (["--config", "nowhere.yaml"], r"config nowhere\.yaml does not exist"),
        (["--dataset", "bid", "dataset.rot=x"], "did you mean 'root'"),
    ],
)
def test_mistakes(arguments, message, check):
    with pytest.raises(UserError, match=message):
        check(*arguments)


@pytest.mark.slow
def test_as_a_script_from_anywhere(tmp_path, monkeypatch, capsys):
    made = write_database("bid", tmp_path / "bid")
    command = [sys.executable, ROOT / "tools" / "check_dataset.py", "--dataset", "bid", "--root", made.root]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "checkpoint" / "check_bid.png").is_file()
    monkeypatch.chdir(tmp_path)
    assert run_as_script(monkeypatch, "tools/check_dataset.py", "--dataset", "bit") == 2
    assert "Traceback" not in capsys.readouterr().err
