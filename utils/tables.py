"""Tables for papers and pages."""

import re

import pandas as pd

from utils.errors import UserError

DASH = "–"  # where there is no value
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


def to_markdown(table: pd.DataFrame, names: int = 0, aligned: bool = False) -> str:
    """A table of texts, with its column names, as GitHub and most editors show it; no line break at the end.

    Args:
        table: Cells may be Markdown, such as `**bold**`.
        names: How many columns, from the left, hold plain text: these and the titles of the columns are escaped.
        aligned: Whether columns are as wide as their longest cell, to be read as they are, and those that hold no
            names, which are numbers, stand right.
    """
    titles = [_in_markdown(title, plain=names > 0) for title in table.columns]
    cells = [[_in_markdown(cell, number < names) for number, cell in enumerate(row)] for row in table.to_numpy()]
    rows = [titles, *cells]
    rule = ["---"] * len(table.columns)
    if aligned:
        widths = [max(len(rule[0]), *map(len, column)) for column in zip(*rows, strict=True)]
        sides = ["<" if number < names else ">" for number in range(len(widths))]
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
        table: Cells beyond the text columns may be `**bold**`.
        text_columns: How many columns, from the left, hold plain text.
    """
    titles = [_in_latex(title, plain=True) for title in table.columns]
    cells = [[_in_latex(cell, number < text_columns) for number, cell in enumerate(row)] for row in table.to_numpy()]
    rows = [" & ".join(row) for row in [titles, *cells]]
    columns = "l" * text_columns + "r" * (len(table.columns) - text_columns)
    body = [rows[0] + r" \\", r"\midrule", *(row + r" \\" for row in rows[1:])]
    lines = [rf"\begin{{tabular}}{{{columns}}}", r"\toprule", *body, r"\bottomrule", r"\end{tabular}"]
    return "\n".join(lines) + "\n"


def captioned_latex(table: pd.DataFrame, caption: str, text_columns: int) -> str:
    """The same as a float with a caption; needs LATEX_NEEDS.

    `table*` stands over both columns of a page that has two; a table that is wider still is made smaller.
    """
    fitted = f"{SHRUNK_TO_LINE}{{%\n{to_latex(table, text_columns)}}}\n"
    return f"\\begin{{table*}}\n\\centering\n\\caption{{{escape_latex(caption)}}}\n{fitted}\\end{{table*}}\n"


def escape_latex(text: str) -> str:
    """A plain text as LaTeX sets it, the sign of negative numbers included."""
    return NEGATIVE.sub(lambda _: "$-$", text.translate(LATEX))


def _in_latex(cell: object, plain: bool) -> str:
    escaped = escape_latex(str(cell))
    return escaped if plain else BOLD.sub(r"\\textbf{\1}", escaped)


def to_csv(table: pd.DataFrame) -> str:
    """The same as CSV, numbers in full."""
    return table.to_csv(index=False)


def two_decimals(value: float) -> str:
    """`0.00`, never `-0.00`."""
    return f"{round(value, 2) + 0:.2f}"
