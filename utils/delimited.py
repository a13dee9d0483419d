"""Read tables of delimited text (CSV, TSV) as programs write them. Imports nothing heavy."""

import codecs
import csv
import io
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from utils.errors import UserError, one_line

SEPARATORS = ",;\t|"  # the most frequent one in the first line; of equals, the first
ENCODINGS = {  # by byte-order mark, longest first
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
EXCEL_SEPARATOR = re.compile(r'"?sep=([\t ,:;|^~!])"?\s*', re.IGNORECASE)  # first line of some CSV files of Excel
UNNAMED = re.compile(r"(unnamed: \d+( \d+)?)?")  # title of an index column, by pandas, plain
WORKBOOKS = (b"PK\x03\x04", b"\xd0\xcf\x11\xe0")  # start of .xlsx and .xls
END = "\x03end"  # in no table; read as a row of its own unless a quotation mark is open

Row = tuple[int, list[str]]  # number of the line, stripped cells


@dataclass(frozen=True)
class TextTable:
    """Cells of a table, stripped; each row has as many as there are titles, and its line number in the file."""

    titles: list[str]
    rows: list[list[str]]
    lines: list[int]
    separator: str


def decode(content: bytes, source: str, errors: str = "strict", zeros: bool = False) -> str:
    """Return the text of a file in UTF-8, UTF-16 or UTF-32; `zeros` allows zero bytes, such as those of `find -print0`.

    Raises:
        UserError: A byte is not of this encoding, or is zero; the message has its line.
    """
    if content.startswith(WORKBOOKS):
        raise UserError(f"{source} is a workbook of a spreadsheet; save its sheet as CSV (UTF-8)")
    encoding = next((name for mark, name in ENCODINGS.items() if content.startswith(mark)), "utf-8")
    if not zeros and b"\0\0" in (content[1:4:2], content[0:3:2]):  # without a mark
        encoding = "utf-16-le" if content[1] == 0 else "utf-16-be"
    try:
        text = content.decode(encoding, errors)
        position = content.find(b"\0") if encoding == "utf-8" and not zeros else -1
    except UnicodeDecodeError as error:
        position = error.start
    if position < 0:
        return text.lstrip("\ufeff")
    line = content[:position].count(b"\n") + 1
    raise UserError(
        f"{source}, line {line}: byte 0x{content[position]:02x} is not {encoding.upper()} text; save the file as UTF-8"
    )


def parse_table(
    text: str, source: str, names: Sequence[str] | None = None, separator: str | None = None, quote: str | None = None
) -> TextTable:
    """Parse the text of a table.

    Blank lines and columns, an index column without a title, and comments are omitted. A comment is a line that starts
    with `#`, unless it is a whole row whose name starts with `#`.

    Args:
        text: Text of the file.
        source: Name of the file, for messages.
        names: Titles of a file without a header; None if its first line is the header.
        separator: Character between cells; None finds it in the first line.
        quote: Character around cells; None for the one that the first line starts with, else `"`.

    Raises:
        UserError: The text is empty, a quotation mark is not closed, titles are equal, or a row has too many cells.
    """
    lines = list(io.StringIO(text, newline=""))
    stated = EXCEL_SEPARATOR.fullmatch(lines[0]) if lines and names is None else None
    if stated:
        lines[0] = "\n"
        separator = stated[1]
    first = next((line for line in lines if line.strip() and not line.lstrip().startswith("#")), "")
    quote = quote or ("'" if first.lstrip().startswith("'") else '"')
    separator = separator or _separator(first, lines, quote)
    rows = [row for row in _rows(lines, separator, quote, source) if any(row[1])]
    start = [] if names is None else [(0, list(names))]

    def split(line: str) -> list[str]:
        return next(_rows([line], separator, quote, source))[1]

    (header, titles), *body = start + _without_comments(rows, lines, names, split) or [(0, [])]
    if not titles:
        raise UserError(f"{source}: cannot be read as a table: it is empty")
    require_once(titles, f"{source}, line {header}")
    return _aligned(titles, body, source, separator, with_header=names is None)


def plain_title(title: str) -> str:
    """Return a title of a column for comparisons, which ignore case and take points and underscores for blanks."""
    return " ".join(title.replace("_", " ").replace(".", " ").split()).casefold()


def is_number(cell: str) -> bool:
    """Return whether a cell is a number, with a decimal point or comma."""
    try:
        float(cell.replace(",", ".", 1))
    except ValueError:
        return False
    return True


def _separator(first: str, lines: Sequence[str], quote: str) -> str:
    """Return the separator of a table, which is blanks if the first line has no other and each row as many cells."""
    outside = "".join(first.split(quote)[::2])
    best = max(SEPARATORS, key=outside.count)
    if best in outside or len(first.split()) < 2:
        return best
    rows = [line for line in lines if line.strip() and not line.lstrip().startswith("#")]
    titles, *counts = (sum(map(bool, cells)) for _, cells in _rows(rows, " ", quote, ""))
    return " " if set(counts) in ({titles}, {titles + 1}) else best  # with names of rows, as R writes them


def _rows(lines: Sequence[str], separator: str, quote: str, source: str) -> Iterator[Row]:
    reader = csv.reader([*lines, END], delimiter=separator, quotechar=quote, skipinitialspace=True)
    start, cells = 1, []
    try:
        for cells in reader:
            if cells == [END]:
                return
            if cells and cells[-1].endswith(END):
                raise UserError(f"{source}, line {start}: cannot be read as a table: a quotation mark is not closed")
            yield start, list(map(str.strip, cells))
            start = reader.line_num + 1
    except csv.Error as error:
        raise UserError(f"{source}, line {start}: {one_line(error)}; a quotation mark may be open") from error


def _without_comments(
    rows: Sequence[Row], lines: Sequence[str], names: Sequence[str] | None, split: Callable[[str], list[str]]
) -> list[Row]:
    """Return the rows that are not comments; a comment is the header if the next row has numbers and as many cells."""
    kept: list[Row] = []
    width = None if names is None else len(names)
    before = ""
    for number, cells in rows:
        line = lines[number - 1].lstrip()
        if line.startswith("#") and (width is None or line[1:2].isspace() or sum(map(bool, cells)) < width):
            before = line.removeprefix("#")
            continue
        if width is None:
            width = len(cells)
            if any(map(is_number, cells)) and len(titles := split(before)) == width > 1:
                kept.append((number - 1, titles))
        kept.append((number, cells))
    return kept


def require_once(titles: Sequence[str], source: str) -> None:
    """Raise an error if two columns have the same plain title."""
    plain = [plain_title(title) for title in titles if title]
    twice = next((title for title in plain if plain.count(title) > 1), None)
    if twice is not None:
        raise UserError(f"{source}: two columns have the title {twice!r}, ignoring case; keep one of them")


def _aligned(titles: list[str], body: Sequence[Row], source: str, separator: str, with_header: bool) -> TextTable:
    """Return the table of rows of different lengths, without blank columns and an index column."""
    width = len(titles)
    longer = [(number, cells) for number, cells in body if any(cells[width:])]
    numbered = [cells[0] for _, cells in body] == [str(number) for number in range(1, len(body) + 1)]
    one_more = not any(any(cells[width + 1 :]) for _, cells in longer)
    if longer and with_header and numbered and one_more:  # as R names rows
        titles, width, longer = ["", *titles], width + 1, []
    if longer:
        raise UserError(
            f"{source}, line {longer[0][0]}: rows have more cells than the first line has titles; separate cells by "
            f"{separator!r} and give each column a title"
        )
    rows = [cells if len(cells) == width else (cells + [""] * width)[:width] for _, cells in body]
    dropped = [k for k, title in enumerate(titles) if UNNAMED.fullmatch(plain_title(title)) and _is_index(rows, k)]
    if dropped:
        kept = [k for k in range(width) if k not in dropped]
        titles, rows = [titles[k] for k in kept], [[row[k] for k in kept] for row in rows]
    titles = [title or f"column {place}" for place, title in enumerate(titles, start=1)]
    return TextTable(titles, rows, [number for number, _ in body], separator)


def _is_index(rows: Sequence[Sequence[str]], column: int) -> bool:
    """Return whether the cells of a column without a title are blank or whole numbers."""
    return all(not row[column] or row[column].isdecimal() for row in rows)
