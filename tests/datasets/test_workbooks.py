"""Cells of workbooks as pandas reads them, and workbooks that state more than memory holds."""

import re
import zipfile
from contextlib import suppress
from datetime import datetime
from pathlib import Path

import pandas as pd
import pytest
import xlwt

from datasets.readers import workbooks
from datasets.readers.workbooks import read_workbook
from utils.errors import UserError

ROWS = [["name", "mos"], ["a.png", 1.5], [None, None], ["b.png", 2], ["ü 图", True], [None, -3e-5]]
DATE = xlwt.easyxf(num_format_str="YYYY-MM-DD")
SHEET = "xl/worksheets/sheet1.xml"


def write(path: Path, rows) -> Path:
    if path.suffix == ".xlsx":
        pd.DataFrame(rows).to_excel(path, header=False, index=False)
        return path
    book = xlwt.Workbook()
    sheet = book.add_sheet("Sheet1")
    for row, cells in enumerate(rows):
        for column, cell in enumerate(cells):
            style = DATE if isinstance(cell, datetime) else xlwt.Style.default_style
            sheet.write(row, column, cell, style)
    book.save(str(path))
    return path


def rewritten(path: Path, change, name: str = SHEET) -> Path:
    """Change the XML of a part of a workbook."""
    with zipfile.ZipFile(path) as archive:
        parts = {part: archive.read(part) for part in archive.namelist()}
    parts[name] = change(parts[name])
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for part, content in parts.items():
            archive.writestr(part, content)
    return path


def with_row(row: bytes):
    return lambda sheet: sheet.replace(b"</sheetData>", row + b"</sheetData>")


@pytest.mark.filterwarnings("ignore:The xlrd engine")
@pytest.mark.parametrize("suffix", [".xlsx", ".xls"])
def test_cells_are_those_that_pandas_reads(suffix, tmp_path):
    path = write(tmp_path / f"a{suffix}", ROWS)
    expected = pd.read_excel(path, header=None, dtype=object).dropna(how="all")
    (found,) = read_workbook(path).values()
    assert found.index.tolist() == (expected.index + 1).tolist()
    pd.testing.assert_frame_equal(found.reset_index(drop=True), expected.reset_index(drop=True), check_dtype=False)


def test_dates_and_errors_are_no_numbers(tmp_path):
    for suffix in (".xlsx", ".xls"):
        (found,) = read_workbook(write(tmp_path / f"a{suffix}", [["a", datetime(2020, 1, 2)]])).values()
        assert not isinstance(found.iloc[0, 1], (int, float))


@pytest.mark.parametrize(
    "row",
    [
        b'<row r="1048576"><c r="XFD1048576"><v>1</v></c></row>',  # the last cell of a sheet
        b'<row r="99999999999999"><c r="A99999999999999"><v>1</v></c></row>',
        b'<row r="2"><c r="ZZZZZZ2"><v>1</v></c></row>',
    ],
)
def test_cells_far_away_take_no_memory(row, tmp_path):
    path = rewritten(write(tmp_path / "a.xlsx", [["name", "mos"]]), with_row(row))
    rewritten(path, lambda sheet: re.sub(rb"<dimension[^>]*>", b'<dimension ref="A1:XFD1048576"/>', sheet))
    with suppress(UserError):  # some are no cells of a sheet
        (found,) = read_workbook(path).values()
        assert found.shape[0] <= 2
        assert found.size < 2**16


def test_limits_of_size_and_cells(tmp_path, monkeypatch):
    path = rewritten(write(tmp_path / "a.xlsx", [["a"]]), lambda sheet: sheet + b" " * 2**26)
    assert path.stat().st_size < 2**18
    with pytest.raises(UserError, match=r"a\.xlsx: cannot be read as a workbook: it has \d+ bytes unpacked; the limit"):
        read_workbook(path)
    monkeypatch.setattr(workbooks, "MOST_CELLS", 100)
    for suffix in (".xlsx", ".xls"):
        with pytest.raises(UserError, match="it has more than 100 cells"):
            read_workbook(write(tmp_path / f"b{suffix}", [[*"abcdefghijk"]] * 10))


def test_entities_that_explode(tmp_path):
    """Billion laughs, which the parser of XML refuses."""
    lines = [b'<!ENTITY a0 "ha">']
    lines += [b'<!ENTITY a%d "%s">' % (k, b"&a%d;" % (k - 1) * 10) for k in range(1, 12)]
    doctype = b"<!DOCTYPE x [" + b"".join(lines) + b"]>"
    row = b'<row r="2"><c r="A2" t="inlineStr"><is><t>&a11;</t></is></c></row>'
    path = rewritten(
        write(tmp_path / "a.xlsx", [["a"]]), lambda sheet: re.sub(rb"(?=<worksheet)", doctype, sheet, count=1)
    )
    rewritten(path, with_row(row))
    with pytest.raises(UserError, match=r"cannot be read as a workbook: .*amplification"):
        read_workbook(path)


def test_members_that_lead_out_of_the_archive_are_not_written(tmp_path):
    path = write(tmp_path / "a.xlsx", ROWS)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("../../outside.txt", "x")
        archive.writestr("/tmp/outside.txt", "x")
    before = sorted(tmp_path.parent.rglob("*"))
    read_workbook(path)
    assert sorted(tmp_path.parent.rglob("*")) == before


def test_a_sheet_that_is_not_there(tmp_path):
    path = write(tmp_path / "a.xlsx", ROWS)
    with pytest.raises(UserError, match="it has no sheet 'x'; its sheets are Sheet1"):
        read_workbook(path, "x")
