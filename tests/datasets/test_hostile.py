"""Damaged or malicious label files give one error with file and row, and no file outside the root is opened."""

import os
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from openpyxl import load_workbook
from scipy.io import savemat

from datasets.readers import read_records
from datasets.scale import RatingScale
from datasets.splits import read_split
from tests.databases import write_database
from utils.errors import UserError

PERCENT = RatingScale(0, 100, (10, 30, 50, 70, 90))


def read_csv(root: Path, content: bytes, **options):
    (root / "labels.csv").write_bytes(content)
    return read_records("csv", root, check_images=False, scale=PERCENT, **options)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("../outside.png", "points outside the root"),
        ("a/../../outside.png", "points outside the root"),
        ("a/..", "points outside the root"),
        ("/etc/passwd", "points outside the root"),
        ("C:/windows/a.png", "points outside the root"),
        (r"..\outside.png", "points outside the root"),
        (r"\\server\share.png", "points outside the root"),
        ("a\x07.png", "has a control character"),
        ('"a\nb.png"', "has a control character"),
    ],
)
def test_names_that_lead_out_of_the_root(name, reason, tmp_path, monkeypatch):
    """Such names are rejected with file and row before any folder is listed."""
    (tmp_path / "outside.png").write_text("secret")
    root = tmp_path / "root"
    (root / "images").mkdir(parents=True)
    looked_at, scandir = [], os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: looked_at.append(path) or scandir(path))
    with pytest.raises(UserError, match=rf"labels\.csv, line 3: image .*{reason}"):
        read_csv(root, f"image,mos\nb.png,20\n{name},30\n".encode())
    (root / "dmos.csv").write_text(f"dist_img,ref_img,dmos,var\nI01_01_01.png,I01.png,2,1\n{name},I01.png,2,1\n")
    with pytest.raises(UserError, match=rf"dmos\.csv, line 3: image .*{reason}"):
        read_records("kadid10k", root)
    assert looked_at
    assert all(str(root) in str(path) for path in looked_at)


@pytest.mark.parametrize("path", ["../../secret/blurjpeg/x.bmp", "/secret/blurjpeg/x.bmp"])
def test_paths_that_are_cut_down_to_names_are_refused_all_the_same(path, tmp_path):
    (tmp_path / "LIVE_MD.txt").write_text(f"dis_img_path,dis_type,ref_img_path,score\n{path},x,y,21.5\n")
    with pytest.raises(UserError, match=r"LIVE_MD\.txt, line 2: .* points outside the root"):
        read_records("livemd", tmp_path, check_images=False)


def test_names_of_many_folders(tmp_path):
    records = read_csv(tmp_path, f"image,mos\n{'a/' * 3000}b.png,20\n".encode())
    assert len(records) == 1


def test_titles_twice_in_a_workbook(tmp_path):
    made = write_database("spaq", tmp_path / "spaq")
    path = made.root / "Annotations" / "MOS and Image attribute scores.xlsx"
    table = pd.read_excel(path)
    table.assign(mos=3).to_excel(path, index=False)
    with pytest.raises(UserError, match=r"scores\.xlsx, row 1: two columns have the title 'mos'"):
        read_records("spaq", made.root)


def test_a_folder_that_may_not_be_read(tmp_path, monkeypatch):
    made = write_database("kadid10k", tmp_path / "kadid10k")

    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(UserError, match="kadid10k cannot be read: Permission denied"):
        read_records("kadid10k", made.root)


def test_formulas_are_text_and_files_of_that_name(tmp_path):
    content = b'image,mos\n=1+1.png,20\n"=HYPERLINK(""http://x"")",30\n@SUM(A1),40\n'
    records = read_csv(tmp_path, content)
    assert [record.image for record in records] == ["=1+1.png", '=HYPERLINK("http:/x")', "@SUM(A1)"]
    with pytest.raises(UserError, match=r"line 2: mos is '=1\+1', which is not a number"):
        read_csv(tmp_path, b"image,mos\na.png,=1+1\n")


def test_formulas_in_a_workbook_are_not_computed(tmp_path):
    made = write_database("spaq", tmp_path / "spaq")
    path = made.root / "Annotations" / "MOS and Image attribute scores.xlsx"
    book = load_workbook(path)
    book.active["B3"] = "=10+20"
    book.save(path)
    with pytest.raises(UserError, match=r"scores\.xlsx, row 3: mos is '', which is not a number"):
        read_records("spaq", made.root)


@pytest.mark.parametrize(
    "content",
    [
        b"\xef\xbb\xbfimage,mos\na b.png,20\nc.png,30\n",  # byte-order mark
        b"image,mos\r\na b.png,20\r\nc.png,30\r\n",  # CRLF
        b"image,mos\r\na b.png,20\r\nc.png,30",  # no last line end
        b'"image","mos"\n"a b.png","20"\n"c.png","30"\n',  # quotes
        b" image , mos\n a b.png , 20 \n c.png,30\n",  # spaces around cells
        b"image,mos\n\na b.png,20\n,\nc.png,30\n\n",  # empty lines
        b"image,mos\n./a b.png,2e1\n.//c.png,30.0\n",
    ],
)
def test_harmless_varieties_of_csv(content, tmp_path):
    records = read_csv(tmp_path, content)
    assert [(record.image, record.mos) for record in records] == [("a b.png", 20), ("c.png", 30)]


def test_quotes_and_commas_in_names(tmp_path):
    records = read_csv(tmp_path, b'image,mos\n"a, ""b"".png",20\nc\'d.png,30\n')
    assert [record.image for record in records] == ['a, "b".png', "c'd.png"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "cannot be read as a table"),
        (b"\n\n", "cannot be read as a table|no column"),
        (b"image,mos\n", "contains no label rows"),
        (b"image,mos\na.png,nan\n", "line 2: mos is 'nan'"),
        (b"image,mos\na.png,inf\n", "line 2: mos is 'inf'"),
        (b"image,mos\na.png,\n", "line 2: mos is ''"),
        (b"image,mos\na.png,20\nb.png,3O\nc.png,x\nd.png,y\ne.png,z\n", "line 3: mos is '3O'; .*in 1 more rows"),
        (b"image,mos\na.png,20\ncaf\xe9.png,30\n", "line 3: byte 0xe9 is not UTF-8"),
        (b'image,mos\n"a.png,20\nb.png,30\n', "cannot be read as a table"),
        (b"image,mos\na.png,20,30\n", "rows have more cells than the first line has titles"),
        (b"image,mos,mos\na.png,20,30\n", "line 1: two columns have the title 'mos'"),
        (b"image,mos,MOS\na.png,20,30\n", "line 1: two columns have the title 'mos'"),
        (b"image,mos,split,Split\na.png,20,train,test\n", "line 1: two columns have the title 'split'"),
        (bytes(range(256)) * 4, "not UTF-8"),
        ("image,mos\na.png,20\n".encode("utf-16")[:-1], "line 2: byte 0x0a is not UTF-16"),
        (b"image,mos\na.png,20\nb\x00.png,30\n", "line 3: byte 0x00 is not UTF-8 text"),
        (b"image,mos\na.png,20\nA.PNG,30\na.png,40\n", "line 4: a.png is labelled twice, first at .*line 2"),
    ],
)
def test_damaged_csv(content, message, tmp_path):
    with pytest.raises(UserError, match=message) as caught:
        read_csv(tmp_path, content)
    assert "labels.csv" in str(caught.value)
    assert "\n" not in str(caught.value)


def damaged(name: str, file: str, root: Path, damage: str) -> None:
    """A truncated, empty or overwritten label file gives a clear error."""
    made = write_database(name, root)
    path = next(made.root.rglob(file))
    content = path.read_bytes()
    path.write_bytes({"cut": content[: len(content) // 2], "empty": b"", "text": b"hello " * 200}[damage])
    with pytest.raises(UserError, match=r"cannot be read as a (workbook|MATLAB file)") as caught:
        read_records(name, made.root)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("damage", ["cut", "empty", "text"])
@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("spaq", "*.xlsx"),
        ("csiq", "*.xlsx"),
        ("cid2013", "*.xlsx"),
        ("bid", "*.xls"),
        ("vclfer", "*.xls"),
        ("clive", "AllMOS*.mat"),
        ("clive", "AllImages*.mat"),
        ("livemd", "Scores.mat"),
    ],
)
def test_damaged_workbooks_and_matlab_files(name, file, damage, tmp_path):
    damaged(name, file, tmp_path / name, damage)


@pytest.mark.parametrize("cut", range(1, 40, 3))
def test_workbooks_cut_anywhere(cut, tmp_path):
    made = write_database("spaq", tmp_path / "spaq")
    path = made.root / "Annotations" / "MOS and Image attribute scores.xlsx"
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * cut // 40])
    with pytest.raises(UserError, match="cannot be read as a workbook"):
        read_records("spaq", made.root)


def test_a_workbook_without_the_titles(tmp_path):
    made = write_database("spaq", tmp_path / "spaq")
    path = made.root / "Annotations" / "MOS and Image attribute scores.xlsx"
    pd.DataFrame({"picture": ["a"], "MOS": [3]}).to_excel(path, index=False)
    with pytest.raises(UserError, match="no row with the titles 'Image name', 'MOS'; searched sheets: Sheet1"):
        read_records("spaq", made.root)
    pd.DataFrame({"Image name": [], "MOS": []}).to_excel(path, index=False)
    with pytest.raises(UserError, match="contains no label rows below row 1"):
        read_records("spaq", made.root)


@pytest.mark.parametrize("cell", ["x", float("nan"), pd.Timestamp("2021-05-03"), None])
def test_a_workbook_whose_cells_are_no_numbers(cell, tmp_path):
    made = write_database("spaq", tmp_path / "spaq")
    path = made.root / "Annotations" / "MOS and Image attribute scores.xlsx"
    table = pd.read_excel(path).astype(object)
    table.loc[4, "MOS"] = cell
    table.to_excel(path, index=False)
    with pytest.raises(UserError, match=r"scores\.xlsx, row 6: mos is .*, which is not a number"):
        read_records("spaq", made.root)


@pytest.mark.parametrize(("name", "package"), [("spaq", "openpyxl"), ("bid", "xlrd")])
def test_a_package_that_is_not_installed_is_named(name, package, tmp_path, monkeypatch):
    made = write_database(name, tmp_path / name)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UserError, match=f"{package} is needed to read it: pip install {package}"):
        read_records(name, made.root)


def test_a_matlab_file_without_the_variable_or_with_nan(tmp_path):
    made = write_database("clive", tmp_path / "clive")
    path = made.root / "Data" / "AllMOS_release.mat"
    savemat(path, {"AllMOS": [1.0]})
    with pytest.raises(UserError, match="no variable 'AllMOS_release'"):
        read_records("clive", made.root)
    scores = np.full((1, 19), 50.0)
    scores[0, 9] = np.nan
    savemat(path, {"AllMOS_release": scores})
    with pytest.raises(UserError, match="entry 10: mos is ''"):
        read_records("clive", made.root)
    savemat(path, {"AllMOS_release": scores[:, :5]})
    with pytest.raises(
        UserError, match=r"belong to different databases; numbers of entries: {'name': 19, 'mos': 5, 'sos': 19}"
    ):
        read_records("clive", made.root)


def test_bid_with_numbers_that_are_none(tmp_path):
    made = write_database("bid", tmp_path / "bid")
    table = pd.DataFrame({"Image Number": [1.5], "Average Subjective Grade": 3, "Number of Grades": 2, "Grade #1": 3})
    with pd.ExcelWriter(tmp_path / "a.xlsx") as book:
        table.assign(**{"Grade #2": 3}).to_excel(book, sheet_name="Plan1", index=False)
    (tmp_path / "a.xlsx").rename(made.root / "DatabaseGrades.xls")  # xlrd says that this is no .xls
    with pytest.raises(UserError, match="cannot be read as a workbook"):
        read_records("bid", made.root)


def test_a_split_file_of_a_hostile_kind_opens_nothing(tmp_path):
    """Names in split files are compared with the records, and never opened."""
    records = read_csv(tmp_path, b"image,mos\na.png,20\nb.png,30\n")
    (tmp_path / "split.csv").write_text("image,split\na.png,train\n../../etc/passwd,test\n")
    with pytest.raises(UserError, match=r"\.\./\.\./etc/passwd is not in the database"):
        read_split(records, tmp_path / "split.csv")
