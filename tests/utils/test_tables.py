"""Tables whose names would be markup, and texts that cannot be shown as they are."""

import os

import pandas as pd
import pytest

from utils.errors import printable
from utils.tables import mean_std, number, to_latex, to_markdown

TABLE = pd.DataFrame({"run": ["a**b**|c", "ours"], "SRCC": ["0.9", "**0.95**"]})


def test_names_are_no_markup_and_numbers_may_be():
    assert to_markdown(TABLE, names=1).splitlines()[2:] == [r"| a\*\*b\*\*\|c | 0.9 |", "| ours | **0.95** |"]
    latex = to_latex(TABLE).splitlines()
    assert r"a**b**$|$c & 0.9 \\" in latex
    assert r"ours & \textbf{0.95} \\" in latex


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("`a`[b](c)<d>~~$e$", r"\`a\`\[b](c)\<d>\~\~\$e\$"),
        ("__a__ koniq10k_memory_0.1", r"\_\_a\_\_ koniq10k_memory_0.1"),
        ("a\\", "a\\\\"),
    ],
)
def test_what_markdown_would_interpret_is_escaped(name, shown):
    table = pd.DataFrame({name: [name]})
    assert to_markdown(table, names=1) == f"| {shown} |\n| --- |\n| {shown} |"
    assert to_markdown(table) == f"| {name} |\n| --- |\n| {name} |"


def test_what_cannot_be_shown_is_shown_as_its_code():
    assert printable(os.fsdecode(b"gr\xfcn")) == r"gr\udcfcn"
    assert printable("a\nb\x1b[0m größer ±") == r"a\nb\x1b[0m größer ±"


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (number(0.93124), "0.9312"),
        (number(-1e-9), "0.0000"),
        (number(0.5, 2, sign="+"), "+0.50"),
        (number(None), "–"),
        (number(float("inf")), "–"),
        (mean_std(0.5, 0.01), "0.5000 ± 0.0100"),
        (mean_std(0.5, float("nan")), "0.5000"),
        (mean_std(float("nan"), float("nan")), "–"),
    ],
)
def test_numbers(shown, expected):
    assert shown == expected
