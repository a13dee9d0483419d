"""Which images files, folders, patterns and lists mean."""

import io
import os
import sys

import pytest

from tests.scoring.scored import found
from utils.errors import MissingFileError, UserError


@pytest.fixture
def folder(tmp_path, monkeypatch):
    for name in ("b.jpg", "a.PNG", "notes.txt", "c.jpeg.bak", ".hidden.png", "sub/z.webp", "sub/deep/y.tif", "Z.gif"):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_folders_give_their_images_in_the_order_of_names(folder):
    assert found("photos") == ["photos/Z.gif", "photos/a.PNG", "photos/b.jpg"]
    below = ["photos/sub/z.webp", "photos/sub/deep/y.tif"]
    assert found("photos", recursive=True) == ["photos/Z.gif", "photos/a.PNG", "photos/b.jpg", *below]
    assert found("photos", recursive=True, map="photos/sub/deep")[3:] == below[:1]
    assert found(str(folder / "photos"))[0] == str(folder / "photos" / "Z.gif")


def test_what_is_passed_over_is_said(folder, capsys):
    for name in ("._a.png", ".DS_Store", "thumbs.DB", "Desktop.ini", "0.tar", "x.tar.gz", "raw", "__MACOSX/._b.jpg"):
        (folder / "photos" / name).parent.mkdir(exist_ok=True)
        (folder / "photos" / name).touch()
    (folder / "photos" / ".cache").mkdir()
    (folder / "photos" / ".cache" / "c.png").touch()
    (folder / "photos" / "link").symlink_to(folder / "photos" / "sub", target_is_directory=True)
    assert len(found("photos")) == 3
    said = capsys.readouterr().err
    assert said.startswith("passed over: ")
    assert said.count("\n") == 1
    told = {
        *("1 .txt", "1 .bak", "1 hidden", "1 .tar (--engine ray reads what is in them)"),
        *(
            "1 .gz (--engine ray reads what is in them)",
            "1 without a suffix",
            "3 subfolders (--recursive searches them)",
        ),
    }
    assert set(said.removeprefix("passed over: ").strip().split(", ")) == told
    assert [path for path in found("photos", recursive=True) if "sub" in path or ".cache" in path] == [
        "photos/sub/z.webp",
        "photos/sub/deep/y.tif",
    ]
    said = capsys.readouterr().err
    assert "1 hidden folders" in said
    assert "1 linked folders" in said
    assert found("photos/b.jpg", "photos/sub/*.webp") == ["photos/b.jpg", "photos/sub/z.webp"]
    assert capsys.readouterr().err == ""
    assert found("photos/*.jpg", "photos/*.txt", "photos/*.PNG") == ["photos/b.jpg", "photos/a.PNG"]
    assert capsys.readouterr().err == "passed over: 1 .txt\n"


def test_addresses(folder):
    root = folder.as_uri()
    (folder / "photos" / "a b%.jpg").touch()
    assert found(f"{root}/photos/b.jpg", f"{root}/photos/a%20b%25.jpg") == [
        f"{folder}/photos/b.jpg",
        f"{folder}/photos/a b%.jpg",
    ]
    assert found(f"{root}/photos/*.jpg")[0] == f"{folder}/photos/a b%.jpg"
    assert len(found(f"file://localhost{folder}/photos")) == 4
    for place, message in {
        "https://example.org/a.jpg?w=1": "is on the web, which is not read; download it first",
        "HTTP://example.org/[a].jpg": "is on the web",
        "s3://bucket/*.jpg": "is in an object store; --engine ray reads it",
        "gs://bucket/photos": "is in an object store; --engine ray reads it",
        "dropbox://a.jpg": "is an address of an unknown kind",
    }.items():
        with pytest.raises(UserError, match=message):
            found(place)
    with pytest.raises(UserError, match="is on the web"):
        found("https://example.org/a.jpg", engine="ray")
    (folder / "list.txt").write_text(f"https://example.org/a.jpg\nb.png\n{root}/c.png\n")
    names = ["https://example.org/a.jpg", "data/b.png", f"{root}/c.png"]
    assert found(list=["list.txt"], root="data") == names  # rows say what is wrong with the first
    with pytest.raises(UserError, match=r"https://example\.org/list\.csv is on the web"):
        found(list=["https://example.org/list.csv"])
    (folder / "s3:").mkdir()
    (folder / "s3:" / "a.jpg").touch()
    assert found("s3://a.jpg") == ["s3://a.jpg"]  # a path, before it is an address


@pytest.mark.usefixtures("folder")
def test_what_is_named_is_taken_as_it_is_and_once():
    assert found("photos/notes.txt", "photos/b.jpg", "photos", "photos/b.jpg", "missing.png") == [
        "photos/notes.txt",
        "photos/b.jpg",
        "photos/Z.gif",
        "photos/a.PNG",
        "missing.png",
    ]


def test_patterns(folder):
    assert found("photos/*") == ["photos/Z.gif", "photos/a.PNG", "photos/b.jpg", "photos/sub/z.webp"]
    assert found("photos/**/*.tif") == ["photos/sub/deep/y.tif"]
    (folder / "photos" / "b[1].jpg").touch()
    assert found("photos/b[1].jpg") == ["photos/b[1].jpg"]  # a name, before it is a pattern
    with pytest.raises(MissingFileError, match=r"no file matches the pattern 'photos/\*\.bmp'"):
        found("photos/*.bmp")


def test_a_folder_named_like_an_image_is_an_image_that_fails_and_a_folder(folder):
    (folder / "photos" / "a.jpg").mkdir()
    (folder / "photos" / "a.jpg" / "in.png").touch()
    assert "photos/a.jpg" in found("photos")
    paths = found("photos", recursive=True)
    assert {"photos/a.jpg", "photos/a.jpg/in.png"} <= set(paths)


def test_links_that_lead_in_a_circle_end(folder):
    (folder / "photos" / "sub" / "up").symlink_to(folder / "photos", target_is_directory=True)
    (folder / "photos" / "broken.png").symlink_to("nowhere")
    assert len(found("photos", recursive=True)) == 6


def test_lists(folder, monkeypatch):
    (folder / "list.txt").write_bytes(b"photos/b.jpg\r\n\n  spaced .png\nphotos/b.jpg\nodd\xff.png")
    expected = ["photos/b.jpg", "  spaced .png", "photos/b.jpg", os.fsdecode(b"odd\xff.png")]
    assert found(list=["list.txt"]) == expected
    assert found("photos/a.PNG", list=["list.txt"], root="/data") == [
        "photos/a.PNG",
        *("/data/" + name for name in expected),
    ]
    (folder / "zero.txt").write_bytes(b"two\nlines.png\0b.png\0")
    assert found(list=["zero.txt"]) == ["two\nlines.png", "b.png"]
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"x.png\ny.png\n")))
    assert found("-", "photos/a.PNG") == ["photos/a.PNG", "x.png", "y.png"]


def test_tables(folder):
    (folder / "list.csv").write_text('\ufeffimage,mos\n"a, b.png",3\nc.png,4\n', encoding="utf-8")
    assert found(list=["list.csv"]) == ["a, b.png", "c.png"]
    (folder / "ours.tsv").write_text("id\tname\n1\tx.png\n")
    assert found(list=["ours.tsv"], image_column="name") == ["x.png"]
    with pytest.raises(UserError, match=r"ours\.tsv: no column 'image' or 'path'; choose one with .*: id, name"):
        found(list=["ours.tsv"])
    with pytest.raises(UserError, match=r"no column 'nam' .did you mean 'name'"):
        found(list=["ours.tsv"], image_column="nam")
    (folder / "both.csv").write_text("image,path\na,b\n")
    with pytest.raises(UserError, match="more than one of the columns"):
        found(list=["both.csv"])
    (folder / "list.txt").write_text("a.png\n")
    with pytest.raises(UserError, match=r"--image-column: list\.txt has no columns"):
        found(list=["list.txt"], image_column="name")


def test_lists_from_other_systems_and_damaged_ones(folder, monkeypatch):
    (folder / "list.txt").write_bytes(b"\xef\xbb\xbfa.png\r\nb.png\r\n")
    assert found(list=["list.txt"]) == ["a.png", "b.png"]
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"id,name\n1,x.png\n")))
    assert found("-", image_column="name") == ["x.png"]
    damaged = {
        "gap.csv": (b"image,mos\na.png,1\n,2\n", r"gap\.csv, line 3: names no image"),
        "open.csv": (b'image,mos\n"a.png,1\n' + b"x" * 140_000, "field larger.*a quotation mark may be open"),
        "none.csv": (b"image,mos\n", r"--list: no image name in none\.csv"),
    }
    for name, (content, message) in damaged.items():
        (folder / name).write_bytes(content)
        with pytest.raises(UserError, match=message):
            found(list=[name])
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(UserError, match="no standard input"):
        found("-")


def test_lists_and_tables_as_other_programs_write_them(folder):
    (folder / "list.csv").write_bytes("Image;MOS\nphotos\\b.JPG;3,5\n./photos/a;2\n".encode("utf-16"))
    assert found(list=["list.csv"]) == ["photos/b.jpg", "./photos/a.PNG"]
    (folder / "list.csv").write_text(",PATH,note\n0,photos/b,x\n1,none.png,y\n")
    assert found(list=["list.csv"]) == ["photos/b.jpg", "none.png"]
    assert found(list=["list.csv"], root="photos") == [
        os.path.join("photos", name) for name in ("photos/b", "none.png")
    ]
    (folder / "list.txt").write_bytes("# chosen by hand\r\nphotos\\sub\\Z.webp\r\n#1.png\r\n".encode("utf-16"))
    assert found(list=["list.txt"]) == ["photos/sub/z.webp", "#1.png"]


def test_what_is_written_to_is_not_scored(folder):
    assert "photos/sub/deep/y.tif" in found("photos/**")
    assert "photos/sub/deep/y.tif" not in found("photos/**", map="photos/sub/deep")
    with pytest.raises(UserError, match="photos is both an input and an output"):
        found("photos", map=str(folder / "photos"))


def test_nothing_to_score(folder):
    (folder / "empty").mkdir()
    with pytest.raises(UserError, match=r"no image in empty: files ending in .*\.jpg.*--recursive"):
        found("empty")
    with pytest.raises(MissingFileError, match=r"--list: no\.txt does not exist"):
        found(list=["no.txt"])
    with pytest.raises(UserError, match="--list: photos cannot be read"):
        found(list=["photos"])


def test_a_folder_that_may_not_be_read(folder, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(UserError, match="folder photos cannot be read: Permission denied"):
        found("photos")
    assert folder
