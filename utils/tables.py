"""Tables for papers and pages, and the numbers in them."""

import math
import re

import pandas as pd

from utils.errors import UserError

DASH = "–"  # where there is no value
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
    """`0.9312`, never `-0.0000`, or a dash for what is not defined; the sign `+` is set before positive ones, too."""
    undefined = value is None or not math.isfinite(value)
    return DASH if undefined else f"{round(value, digits) + 0.0:{sign}.{digits}f}"


def mean_std(mean: float, std: float) -> str:
    """`0.9312 ± 0.0021`; without a standard deviation, the mean alone."""
    return number(mean) if math.isnan(std) else f"{number(mean)} ± {number(std)}"


def to_markdown(table: pd.DataFrame, names: int = 0, aligned: bool = False) -> str:
    """A table of texts, with its column names, as GitHub and most editors show it; no line break at the end.

    Args:
        table: Cells may be Markdown, such as `**bold**`.
        names: How many columns, from the left, hold plain text: these and the titles of the columns are escaped.
        aligned: Whether columns are as wide as their longest cell, to be read as they are, and those that hold no
            names, which are numbers, stand right.
    """
    titles = [_in_markdown(title, plain=names > 0) for title in table.columns]
    cells = [[_in_markdown(cell, place < names) for place, cell in enumerate(row)] for row in table.to_numpy()]
    rows = [titles, *cells]
    rule = ["---"] * len(table.columns)
    if aligned:
        widths = [max(len(rule[0]), *map(len, column)) for column in zip(*rows, strict=True)]
        sides = ["<" if place < names else ">" for place in range(len(widths))]
        rows = [[f"{cell:{s}{w}}" for cell, s, w in zip(row, sides, widths, strict=True)] for row in rows]
        rule = ["-" * w if s == "<" else "-" * (w - 1) + ":" for s, w in zip(sides, widths, strict=True)]
    return "\n".join(f"| {' | '.join(row)} |" for row in [rows[0], rule, *rows[1:]])


def escape_markdown(text: str) -> str:
    """A plain text as Markdown shows it."""
    return MARKDOWN.sub(r"\\\g<0>", text)


def _in_markdown(cell: object, plain: bool) -> str:
    return escape_markdown(str(cell)) if plain else str(cell).replace("|", r"\|")


def replace_tables(text: str, tables: dict[str, str]) -> str:
    """Return a Markdown text with each table between its marks `<!-- NAME -->` and `<!-- end -->`.

    Raises:
        UserError: A mark is missing.
    """
    for name, table in tables.items():
        pattern = re.compile(rf"(<!-- {name} -->\n).*?(<!-- end -->)", re.DOTALL)
        if not pattern.search(text):
            raise UserError(f"there is no mark <!-- {name} --> ... <!-- end --> to write the table to")
        text = pattern.sub(lambda match, table=table: f"{match[1]}{table}\n{match[2]}", text)
    return text


def to_latex(table: pd.DataFrame, text_columns: int = 1) -> str:
    """The same as a `tabular` with the rules of booktabs; special characters are escaped.

    Args:
        table: Of texts; cells beyond the text columns may be `**bold**`.
        text_columns: How many columns, from the left, hold plain text.
    """
    columns = "l" * text_columns + "r" * (len(table.columns) - text_columns)
    style = table.style.hide(axis="index").format(_bold_in_latex).format_index(escape_latex, axis="columns")
    style.format(escape_latex, subset=list(table.columns[:text_columns]))
    return style.to_latex(column_format=columns, hrules=True)


def captioned_latex(table: pd.DataFrame, caption: str, text_columns: int) -> str:
    """The same as a float with a caption; needs LATEX_NEEDS.

    `table*` stands over both columns of a page that has two; a table that is wider still is made smaller.
    """
    fitted = f"{SHRUNK_TO_LINE}{{%\n{to_latex(table, text_columns)}}}\n"
    return f"\\begin{{table*}}\n\\centering\n\\caption{{{escape_latex(caption)}}}\n{fitted}\\end{{table*}}\n"


def escape_latex(text: str) -> str:
    """A plain text as LaTeX sets it, the sign of negative numbers included."""
    return NEGATIVE.sub(lambda _: "$-$", text.translate(LATEX))


def _bold_in_latex(cell: str) -> str:
    return BOLD.sub(r"\\textbf{\1}", escape_latex(cell))
