"""Tables in Markdown and LaTeX, and the numbers in them."""

import math
import re

import pandas as pd

from utils.errors import UserError

DASH = "–"  # shown for an undefined value
DIGITS = 4  # decimals of a metric
BOLD = re.compile(r"\*\*(.+?)\*\*")
MARKDOWN = re.compile(r"[\\`*<\[|~$]|(?<![^\W_])_|_(?![^\W_])")  # and _ at the edge of a word
NEGATIVE = re.compile(r"(?<![\w.])-(?=\d)")
LATEX = str.maketrans(
    {character: f"\\{character}" for character in "&%$#_{}"}
    | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "[": "{[}"}
    | {"<": "$<$", ">": "$>$", "|": "$|$", "±": r"$\pm$", "↑": r"$\uparrow$", "↓": r"$\downarrow$", DASH: "--"}
    | {"†": r"$\dagger$", "‡": r"$\ddagger$"}
)
LATEX_NEEDS = "% needs \\usepackage{booktabs,graphicx}\n"
SHRUNK_TO_LINE = r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}"


def number(value: float | None, digits: int = DIGITS, sign: str = "-") -> str:
    """Return a number such as `0.9312`, never `-0.0000`, or a dash if it is undefined.

    `sign` is a format's sign option: `-`, or `+` to also mark positive numbers.
    """
    undefined = value is None or not math.isfinite(value)
    return DASH if undefined else f"{round(value, digits) + 0.0:{sign}.{digits}f}"


def mean_std(mean: float, std: float) -> str:
    """Return `0.9312 ± 0.0021`, or only the mean without a standard deviation."""
    return number(mean) if math.isnan(std) else f"{number(mean)} ± {number(std)}"


def to_markdown(table: pd.DataFrame, names: int = 0, aligned: bool = False) -> str:
    """Return a table of texts with its column names in Markdown, without a final line break.

    Args:
        table: Table, whose cells may contain Markdown such as `**bold**`.
        names: Number of columns, from the left, with plain text. These and the titles of the columns are escaped.
        aligned: Whether to pad columns to their longest cell, with the other columns, which are numbers, aligned right.
    """
    titles = [_markdown_cell(title, plain=names > 0) for title in table.columns]
    cells = [[_markdown_cell(cell, place < names) for place, cell in enumerate(row)] for row in table.to_numpy()]
    rows = [titles, *cells]
    rule = ["---"] * len(table.columns)
    if aligned:
        widths = [max(len(rule[0]), *map(len, column)) for column in zip(*rows, strict=True)]
        sides = ["<" if place < names else ">" for place in range(len(widths))]
        rows = [[f"{cell:{s}{w}}" for cell, s, w in zip(row, sides, widths, strict=True)] for row in rows]
        rule = ["-" * w if s == "<" else "-" * (w - 1) + ":" for s, w in zip(sides, widths, strict=True)]
    return "\n".join(f"| {' | '.join(row)} |" for row in [rows[0], rule, *rows[1:]])


def escape_markdown(text: str) -> str:
    """Return a plain text escaped for Markdown."""
    return MARKDOWN.sub(r"\\\g<0>", text)


def _markdown_cell(cell: object, plain: bool) -> str:
    return escape_markdown(str(cell)) if plain else str(cell).replace("|", r"\|")


def replace_tables(text: str, tables: dict[str, str]) -> str:
    """Return a Markdown text with each table between its marks `<!-- NAME -->` and `<!-- end -->`.

    Raises:
        UserError: A mark is missing.
    """
    for name, table in tables.items():
        pattern = re.compile(rf"(<!-- {name} -->\n).*?(<!-- end -->)", re.DOTALL)
        if not pattern.search(text):
            raise UserError(f"no mark <!-- {name} --> ... <!-- end -->; add it where the table belongs")
        text = pattern.sub(lambda match, table=table: f"{match[1]}{table}\n{match[2]}", text)
    return text


def to_latex(table: pd.DataFrame, text_columns: int = 1) -> str:
    """Return a table as a `tabular` with the rules of booktabs; special characters are escaped.

    Args:
        table: Table of texts; cells beyond the text columns may be `**bold**`.
        text_columns: Number of columns, from the left, with plain text.
    """
    columns = "l" * text_columns + "r" * (len(table.columns) - text_columns)
    style = table.style.hide(axis="index").format(_bold_in_latex).format_index(escape_latex, axis="columns")
    style.format(escape_latex, subset=list(table.columns[:text_columns]))
    return style.to_latex(column_format=columns, hrules=True)


def captioned_latex(table: pd.DataFrame, caption: str, text_columns: int) -> str:
    """Return a table as a float with a caption; needs LATEX_NEEDS.

    `table*` spans both columns of a two-column page; a wider table is shrunk to fit.
    """
    fitted = f"{SHRUNK_TO_LINE}{{%\n{to_latex(table, text_columns)}}}\n"
    return f"\\begin{{table*}}\n\\centering\n\\caption{{{escape_latex(caption)}}}\n{fitted}\\end{{table*}}\n"


def escape_latex(text: str) -> str:
    """Return a plain text escaped for LaTeX, including the sign of negative numbers."""
    return NEGATIVE.sub(lambda _: "$-$", text.translate(LATEX))


def _bold_in_latex(cell: str) -> str:
    return BOLD.sub(r"\\textbf{\1}", escape_latex(cell))
