"""Cells of spreadsheets, .xls and .xlsx, within limits: a small file may state millions of rows and columns."""

import io
import math
import os
import warnings
import zipfile
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from utils.errors import UserError, one_line

LARGEST = 2**26  # bytes of a workbook, unpacked; one of 10,000 labels has 2**23
MOST_CELLS = 5_000_000  # of a workbook, with the empty ones in front of others in their row
MOST_ROWS = 2**20  # of a sheet; more do not exist
TEXT, NUMBER, BOOLEAN = 1, 2, 4  # xlrd's types of cells that have a value; others are dates and errors
EMPTY = (0, 6)
BLANK = (None, "")

Rows = Iterator[tuple[int, Sequence[Any]]]  # number from 1, cells


def read_workbook(path: Path, sheet: str | None = None) -> dict[str, pd.DataFrame]:
    """Return the cells of the sheets of a workbook by title; the index is the number of the row, without empty rows.

    Formulas are not computed: their cells have the stored value, or are empty if there is none.

    Args:
        path: Path of the workbook.
        sheet: Title of the only sheet to read; None for all.

    Raises:
        UserError: The file is not a workbook, has not this sheet, or is beyond the limits.
    """
    old = path.suffix.lower() == ".xls"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # openpyxl warns of styles that it drops
            sheets = dict(_old_sheets(path) if old else _sheets(path))
            left = MOST_CELLS
            tables = {}
            for title in [sheet] if sheet else sheets:
                if title not in sheets:
                    raise ValueError(f"it has no sheet {title!r}; its sheets are {', '.join(sheets)}")
                tables[title] = _table(sheets[title], left)
                left -= tables[title].size
    except ImportError as error:
        package = "xlrd" if old else "openpyxl"
        raise UserError(f"{path}: {package} is needed to read it: pip install {package}") from error
    except Exception as error:  # zipfile and the parsers raise errors of many types
        raise UserError(f"{path}: cannot be read as a workbook: {one_line(error)}") from error
    return tables


def _table(rows: Rows, limit: int) -> pd.DataFrame:
    kept, width = {}, 0
    for number, row in rows:
        if not row:  # as all are up to a row far away
            continue
        cells = list(row)
        while cells and cells[-1] in BLANK:
            cells.pop()
        width = max(width, len(cells))
        if cells:
            kept[number] = cells
        if len(kept) * width > limit:
            raise ValueError(f"it has more than {MOST_CELLS:,} cells")
    index = pd.Index(list(kept), name="row", dtype="int64")
    padded = [
        [math.nan if cell in BLANK else cell for cell in cells] + [math.nan] * (width - len(cells))
        for cells in kept.values()
    ]
    return pd.DataFrame(padded, index=index, columns=range(width), dtype=object)


def _sheets(path: Path) -> Iterator[tuple[str, Rows]]:
    from openpyxl import load_workbook  # noqa: PLC0415, a slow import that few databases need

    with zipfile.ZipFile(path) as archive:
        size = sum(member.file_size for member in archive.infolist())
    _require_size(size)
    book = load_workbook(io.BytesIO(path.read_bytes()), read_only=True, data_only=True, keep_links=False)
    for sheet in book.worksheets:
        sheet.reset_dimensions()  # which a file states, and which may be false
        yield (
            sheet.title,
            enumerate(sheet.iter_rows(max_row=MOST_ROWS, values_only=True), start=1),
        )


def _old_sheets(path: Path) -> Iterator[tuple[str, Rows]]:
    from xlrd import open_workbook  # noqa: PLC0415, as above

    _require_size(os.stat(path).st_size)
    book = open_workbook(path, logfile=io.StringIO(), ragged_rows=True)
    for sheet in book.sheets():
        yield sheet.name, enumerate(map(partial(_old_row, sheet), range(sheet.nrows)), start=1)


def _old_row(sheet: Any, row: int) -> list[Any]:
    return [_old_value(cell) for cell in sheet.row(row)]


def _old_value(cell: Any) -> Any:
    if cell.ctype in (TEXT, NUMBER):
        return cell.value
    if cell.ctype == BOOLEAN:
        return bool(cell.value)
    return None if cell.ctype in EMPTY else f"a date or an error ({cell.value})"


def _require_size(size: int) -> None:
    if size > LARGEST:
        raise ValueError(f"it has {size} bytes unpacked; the limit is {LARGEST}")
