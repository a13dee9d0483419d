"""`inference.py --report`: the page of a run in every format, after an interruption, and what is refused."""

import shutil

import pytest

from inference import main
from tests.scoring.gallery.pages import names_of, read_page
from tests.scoring.scored import rows_of
from utils.errors import UserError


@pytest.fixture
def folder(tmp_path, photo):
    (tmp_path / "in").mkdir()
    for name in "abcd":
        shutil.copy(photo, tmp_path / "in" / f"{name}.png")
    (tmp_path / "in" / "c.png").write_bytes(b"no image")
    return tmp_path / "in"


@pytest.fixture
def run(checkpoint, tmp_path):
    """Runs inference.py with a report; returns exit status and page."""

    def call(*arguments):
        page = tmp_path / "page.html"
        fixed = ["--checkpoint", str(checkpoint), "--device", "cpu", "--report", str(page)]
        return main([*map(str, arguments), *fixed]), read_page(page)

    return call


def test_text_on_the_terminal(run, folder, capsys):
    status, page = run(folder)
    assert status == 3
    captured = capsys.readouterr()
    assert captured.out.count("MOS") == 3
    assert "report: " in captured.err
    assert sorted(names_of(page)) == ["a.png", "b.png", "d.png"]
    assert page.source.count("data:image/jpeg;base64,") == 3
    assert f"Not scored c.png {folder / 'c.png'} is not an image that Pillow can read" in page.words
    assert "Scale 0 to 100, lower is better" in page.words


@pytest.mark.parametrize("suffix", ["csv", "json", "jsonl", "parquet"])
def test_an_earlier_run_counts_too(run, folder, tmp_path, checkpoint, suffix):
    output = tmp_path / f"out.{suffix}"
    main([str(folder), "--checkpoint", str(checkpoint), "--device", "cpu", "--output", str(output)])
    shutil.copy(folder / "a.png", folder / "e.png")
    run(folder, "--output", tmp_path / f"whole.{suffix}")
    (tmp_path / "page.html").rename(tmp_path / "whole.html")
    status, page = run(folder, "--output", output, "--resume")
    assert status == 3
    assert rows_of(output) == rows_of(tmp_path / f"whole.{suffix}")
    whole = read_page(tmp_path / "whole.html")
    assert page.words.partition("Folder")[2] == whole.words.partition("Folder")[2]
    assert page.source.count("data:image/jpeg;base64,") == 4


def test_paths_that_are_told_from_elsewhere_are_found_again(run, folder, tmp_path):
    output = tmp_path / "out.csv"
    run(folder / "a.png", "--output", output, "--relative-to", folder)
    shutil.copy(output, tmp_path / "copy.csv")
    _, page = run(folder / "b.png", "--output", output, "--relative-to", folder, "--resume")
    assert sorted(names_of(page)) == ["a.png", "b.png"]
    assert page.source.count("data:image/jpeg;base64,") == 2


def test_a_record_that_was_changed(run, folder, tmp_path):
    output = tmp_path / "out.csv"
    run(folder / "a.png", "--output", output)
    mos = output.read_text().splitlines()[1].split(",")[1]
    output.write_text(output.read_text().replace(f",{mos},", ",many,"))
    with pytest.raises(UserError, match=r"--report: an earlier row cannot be shown: .*'many'; --overwrite"):
        run(folder / "a.png", "--output", output, "--resume")


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("page.htm", [], r"page\.htm should end with \.html"),
        ("", [], r"should end with \.html"),
        ("there.html", [], r"there\.html already exists; --overwrite or --resume replaces it"),
        ("folder.html", [], r"folder\.html is a folder"),
        ("both.html", ["--output", "both.html", "--format", "csv"], r"both\.html is also the --output"),
    ],
)
def test_refused_before_anything_is_scored(folder, tmp_path, monkeypatch, name, arguments, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there.html").write_text("mine")
    (tmp_path / "folder.html").mkdir()
    with pytest.raises(UserError, match=f"^--report: .*{message}"):
        main([str(folder), "--checkpoint", "not looked at", "--report", name, *arguments])
    assert (tmp_path / "there.html").read_text() == "mine"


def test_overwrite_replaces_the_page(run, folder, tmp_path):
    (tmp_path / "page.html").write_text("old")
    _, page = run(folder / "a.png", "--overwrite")
    assert names_of(page) == ["a.png"]


def test_strict_stops_without_a_page(run, folder, tmp_path):
    with pytest.raises(UserError, match="--strict"):
        run(folder, "--strict")
    assert not (tmp_path / "page.html").exists()
