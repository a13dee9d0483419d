"""Label tables as pandas reads them, with errors that name the file and the line."""

from pathlib import Path

import pandas as pd

from utils.errors import MissingFileError, UserError, did_you_mean, one_line


def read_table(path: Path, names: list[str] | None = None, separator: str = ",") -> pd.DataFrame:
    """A text table, every cell a stripped string; the index is the line number in the file.

    Args:
        path: The file, UTF-8 with or without a byte-order mark.
        names: Column names of a file without a header line; None where the first line is the header.
        separator: Between the cells.

    Raises:
        UserError: Not a table, or no rows.
    """
    try:
        table = pd.read_csv(
            path,
            sep=separator,
            names=names,
            header=0 if names is None else None,
            dtype=str,
            keep_default_na=False,
            skip_blank_lines=False,
            index_col=False,
            encoding="utf-8-sig",
        )
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read as a table: {one_line(error)}") from error
    table.columns = [str(name).strip() for name in table.columns]
    table.index += 1 if names else 2
    table = table.fillna("").apply(lambda column: column.str.strip())
    table = table[(table != "").any(axis=1)]
    if table.empty:
        raise UserError(f"{path}: holds no label rows")
    return table


def require_columns(table: pd.DataFrame, columns: list[str], path: Path) -> None:
    """Raises a UserError that names the missing columns and the nearest there are."""
    known = list(table.columns)
    missing = [f"{name!r}{did_you_mean(name, known)}" for name in columns if name not in known]
    if missing:
        hint = "; cells must be separated by commas" if len(known) == 1 else ""
        raise UserError(f"{path}: no column {', '.join(missing)}; the columns are {', '.join(known)}{hint}")


def numbers(table: pd.DataFrame, columns: list[str], path: Path) -> pd.DataFrame:
    """The columns as float64.

    Raises:
        UserError: A cell that is empty, no number or not finite: file, line, column and text.
    """
    values = table[columns].apply(pd.to_numeric, errors="coerce").astype(float)
    bad = ~(values.abs() < float("inf"))
    for line, row in bad[bad.any(axis=1)].iterrows():
        column = row.index[row][0]
        raise UserError(f"{path}, line {line}: {column} is {table.loc[line, column]!r}, which is not a number")
    return values


def find_file(root: Path, names: tuple[str, ...], what: str) -> Path:
    """The first of the files that exists under root.

    Raises:
        MissingFileError: None does; the message says what was looked for.
    """
    for name in names:
        if (root / name).is_file():
            return root / name
    if not root.is_dir():
        raise MissingFileError(f"dataset.root {root} is not a folder; give the folder that the {what} unpacks to")
    raise MissingFileError(f"no label file of {what} in {root}; looked for {', '.join(names)}")
