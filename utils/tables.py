"""Tables for papers and pages."""

import re

import pandas as pd

DASH = "–"  # where there is no value
BOLD = re.compile(r"\*\*(.+?)\*\*")
NEGATIVE = re.compile(r"(?<![\w.])-(?=\d)")
LATEX = str.maketrans(
    {character: f"\\{character}" for character in "&%$#_{}"}
    | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "[": "{[}"}
    | {"<": "$<$", ">": "$>$", "|": "$|$", "±": r"$\pm$", "↑": r"$\uparrow$", "↓": r"$\downarrow$", DASH: "--"}
    | {"†": r"$\dagger$", "‡": r"$\ddagger$"}
)
LATEX_NEEDS = "% needs \\usepackage{booktabs,graphicx}\n"
SHRUNK_TO_LINE = r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}"


def to_markdown(table: pd.DataFrame, text_columns: int | None = None) -> str:
    """A table of texts, with its column names, as GitHub and most editors show it; no line break at the end.

    Args:
        table: Cells may be `**bold**`.
        text_columns: How many columns, from the left, are text; the others are numbers and stand right. All are then
            as wide as their longest cell, to be read as they are. None: nothing is aligned.
    """
    rows = [[str(cell).replace("|", r"\|") for cell in row] for row in [table.columns, *table.to_numpy().tolist()]]
    rule = ["---"] * len(table.columns)
    if text_columns is not None:
        widths = [max(len(rule[0]), *map(len, column)) for column in zip(*rows, strict=True)]
        sides = ["<" if number < text_columns else ">" for number in range(len(widths))]
        rows = [[f"{cell:{s}{w}}" for cell, s, w in zip(row, sides, widths, strict=True)] for row in rows]
        rule = ["-" * w if s == "<" else "-" * (w - 1) + ":" for s, w in zip(sides, widths, strict=True)]
    return "\n".join(f"| {' | '.join(row)} |" for row in [rows[0], rule, *rows[1:]])


def to_latex(table: pd.DataFrame, text_columns: int = 1) -> str:
    """The same as a `tabular` with the rules of booktabs; special characters are escaped."""
    rows = [" & ".join(escape_latex(str(cell)) for cell in row) for row in [table.columns, *table.to_numpy().tolist()]]
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
    """A text as LaTeX sets it, `**bold**` and the sign of negative numbers included."""
    escaped = NEGATIVE.sub(lambda _: "$-$", text.translate(LATEX))
    return BOLD.sub(r"\\textbf{\1}", escaped)


def to_csv(table: pd.DataFrame) -> str:
    """The same as CSV, numbers in full."""
    return table.to_csv(index=False)
