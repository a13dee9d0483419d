"""Label tables from CSV and Excel files, with errors that name the file and the row.

A table is a DataFrame whose index is the number of the line, row or entry in the file, as the name of the index says.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pandas.api.types import infer_dtype

from datasets.readers.workbooks import read_workbook
from utils.delimited import decode, is_number, parse_table, plain_title, require_once
from utils.errors import UserError, did_you_mean
from utils.files import read_limited

SHOWN = 3  # bad rows named in one message
MAX_HEADER_ROW = 50  # last row of a sheet that is searched for the column titles

IMAGE_TITLES = ("image", "image name", "image path", "img", "filename", "file name", "file path", "path", "name")
EMPTY = ("", "nan", "na", "n/a", "#n/a", "<na>", "null", "none", "-", "--")  # cells without a value
DECIMAL_COMMA = r"[+-]?\d*,\d+([eE][+-]?\d+)?"
THOUSANDS = r"[+-]?[1-9]\d{0,2},\d{3}"  # `1,234` may be 1234 or 1.234

Columns = dict[str, tuple[str, ...]]  # from our name of a column to its titles in files


def read_table(
    path: Path, names: list[str] | None = None, separator: str | None = None, quote: str | None = None
) -> pd.DataFrame:
    """Read a text table as `utils.delimited` does; every cell is a stripped string.

    Args:
        path: Path of the file.
        names: Column names of a file without a header; None if the first line is the header.
        separator: Character between cells; None finds it in the first line.
        quote: Character around quoted cells; None finds it in the first line.

    Raises:
        UserError: The file is not a table, or has no rows.
    """
    table = parse_table(decode(read_limited(path), str(path)), str(path), names, separator, quote)
    if not table.rows:
        raise UserError(f"{path}: contains no label rows")
    index = pd.Index(table.lines, name="line")
    frame = pd.DataFrame(table.rows, columns=table.titles, index=index, dtype=str)
    frame.attrs["separator"] = table.separator
    return frame


def read_sheet(path: Path, columns: Columns, sheet: str | None = None) -> pd.DataFrame:
    """Read the table of an .xls or .xlsx workbook below the row with the column titles.

    Formulas are not computed: their cells have the stored value, or are empty if there is none.

    Args:
        path: Path of the workbook.
        columns: Titles to search for, as in `pick`; the first sheet and row with all of them are used.
        sheet: Name of the only sheet to search; None for all.

    Raises:
        UserError: The file is not a workbook, or the sheet, the titles or rows below them are missing.
    """
    sheets = read_workbook(path, sheet)
    for cells in sheets.values():
        for row, number in enumerate(cells.index[cells.index <= MAX_HEADER_ROW]):
            titles = cells.iloc[row].map(_title)
            if all(set(titles) & {_title(name) for name in names} for names in columns.values()):
                require_once(cells.iloc[row].map(_text), f"{path}, row {number}")
                table = cells.iloc[row + 1 :].set_axis(titles, axis=1)
                table = table.loc[:, table.columns != ""].dropna(how="all")
                if table.empty:
                    raise UserError(f"{path}: contains no label rows below row {number}")
                return table
    wanted = ", ".join(" or ".join(repr(name) for name in names) for names in columns.values())
    raise UserError(f"{path}: no row with the titles {wanted}; searched sheets: {', '.join(sheets) or 'none'}")


def pick(table: pd.DataFrame, path: Path, columns: Columns, optional: Columns | None = None) -> pd.DataFrame:
    """Return the requested columns under our names; titles are matched ignoring case and spaces.

    Args:
        table: Table as read from the file.
        path: Path of the file, for messages.
        columns: Titles that a column may have in the file, by our name.
        optional: Titles of optional columns, by our name.

    Returns:
        The columns; `attrs["titles"]` are those in the file.

    Raises:
        UserError: A column is missing; the message suggests the nearest title.
    """
    known = {_title(column): column for column in table.columns}
    found, missing = {}, []
    for ours, names in (columns | (optional or {})).items():
        match = next((known[_title(name)] for name in names if _title(name) in known), None)
        if match is None and ours in columns:
            missing.append(f"{names[0]!r}{did_you_mean(names[0], [str(column) for column in table.columns])}")
        elif match is not None:
            found[ours] = table[match]
    if missing:
        titles = [str(column) for column in table.columns]
        hint = ""
        if len(titles) == 1:
            hint = "; cells must be separated by commas, semicolons or tabs"
        elif any(map(is_number, titles)):
            hint = "; the first line must be the titles of the columns"
        raise UserError(f"{path}: no column {', '.join(missing)}; the columns are {', '.join(titles)}{hint}")
    picked = pd.DataFrame(found)
    picked.attrs = {**table.attrs, "titles": [column.name for column in found.values()]}
    return picked


def numbers(table: pd.DataFrame, columns: list[str], path: Path, blank: bool = False) -> pd.DataFrame:
    """Return the columns as float64, also with decimal commas; with `blank`, cells without a value are NaN.

    Raises:
        UserError: A cell is not a finite number; the message has file, row, column and content.
    """
    if all(infer_dtype(table[column], skipna=False) == "string" for column in columns):
        values = table[columns].apply(pd.to_numeric, errors="coerce").astype(float)
        if np.isfinite(values.to_numpy()).all():  # which needs no look at single cells, slow for large tables
            return values
    kinds = table[columns].map(lambda cell: isinstance(cell, (str, int, float)) and not isinstance(cell, bool))
    plain = table[columns].where(kinds, None)  # dates and TRUE would convert to numbers
    cells = plain.apply(_with_points, by_comma=table.attrs.get("separator", ",") == ",")
    values = cells.apply(pd.to_numeric, errors="coerce").astype(float)
    empty = table[columns].map(lambda cell: _text(cell).casefold() in EMPTY)
    bad = ~(values.abs() < float("inf")) & ~(empty if blank else False)
    rows = bad.index[bad.any(axis=1)]
    if len(rows):
        first = [(row, bad.columns[bad.loc[row]][0]) for row in rows[:SHOWN]]
        texts = [f"{table.index.name} {row}: {column} is {_text(table.loc[row, column])!r}" for row, column in first]
        more = f"; and in {len(rows) - SHOWN} more rows" if len(rows) > SHOWN else ""
        raise UserError(f"{path}, {'; '.join(texts)}, which is not a number{more}")
    return values


def _with_points(column: pd.Series, by_comma: bool) -> pd.Series:
    """Return a column whose decimal commas are points.

    Commas that may stand between thousands stay, unless the commas of the file do not separate its cells (`by_comma`),
    as in files of programs that write decimal commas.
    """
    texts = column.map(lambda cell: cell if isinstance(cell, str) else "")
    commas = texts.str.fullmatch(DECIMAL_COMMA)
    if not commas.any() or texts.str.contains(".", regex=False).any():
        return column
    if by_comma and texts[commas].str.fullmatch(THOUSANDS).all():
        return column
    return column.where(~commas, texts.str.replace(",", "."))


def whole_numbers(table: pd.DataFrame, column: str, path: Path) -> pd.Series:
    """Return a column of non-negative whole numbers as int.

    Raises:
        UserError: A cell is not such a number; the message has file, row and content.
    """
    values = numbers(table, [column], path)[column]
    bad = (values != values.round()) | (values < 0)
    refuse(bad, path, lambda row: f"{column} is {values[row]:g}, which is not a non-negative whole number")
    return values.astype(int)


def refuse(bad: pd.Series, path: Path, reason: Callable[[Any], str]) -> None:
    """Raise a UserError with file, row and reason for the first bad row of a table, if there is one."""
    if bad.any():
        row = bad.idxmax()
        raise UserError(f"{path}, {bad.index.name} {row}: {reason(row)}")


def texts(column: pd.Series) -> pd.Series:
    """Return cells as text; whole numbers lose their decimal point, since sheets store the name 1600 as 1600.0."""
    return column.map(_text)


def _text(cell: Any) -> str:
    if isinstance(cell, float):
        return "" if np.isnan(cell) else f"{cell:.0f}" if cell.is_integer() else str(cell)
    return "" if cell is None else str(cell).strip()


def _title(cell: Any) -> str:
    return plain_title(_text(cell))
