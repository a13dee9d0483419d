"""`--keep`: which expressions are conditions, what they mean, and which rows are written."""

import re

import pytest

from inference import main
from scoring import defaults
from scoring.conditions import DEEPEST, RowFilter
from scoring.predictor import Predictor
from tests.scoring.scored import SUFFIXES, rows_of, scored
from utils.errors import UserError

COLUMNS = ("path", "mos", "mos_01", "sos", "p1", "p2", "gob", "pow", "width", "scale", "checkpoint", "notes", "error")
ROW = {"mos": 3.5, "mos_01": 0.625, "sos": 0.8, "p1": 0.0, "p2": 0.25, "gob": 0.5, "pow": 0.125, "width": 640}
ROW |= {"path": "a", "scale": "acr", "checkpoint": "ab", "notes": None, "error": None}

CONDITIONS = """
mos_01 > .6 and pow < .1
mos > 3
mos>=3.5
mos <= 3.5
mos != 3.5
3 < mos < 3.2
3 < mos < 4 > 5
mos == 3.5
not mos < 3
0.1 < pow < .2
.1 < pow <= .125 < gob
mos > 4 or gob > .4 and pow < .2
(mos > 4 or gob > .4) and sos > 1
gob - pow > .3
gob / pow == 4
-mos < +3
2 * (p1 + p2) - 1e-1 > 0
width / 2 >= 320
not (not gob == .5)
mos > 3 # good
1 < 2
mos * 2 - 3 * sos / 4 + 1 > 7
0xff > mos
1_000 > width
""".strip().splitlines()
HOSTILE = """
mos >
> 3
mos > 3;
mos > 3; import os
import os
mos = 3
(mos > 3
mos > 3)
__import__('os').system('true')
__import__('os')
open('x') > 1
mos.real > 1
mos.__class__ > 1
().__class__.__bases__[0].__subclasses__()
mos[0] > 1
[mos] > 1
(mos, 1) > (0, 1)
{1} > {2}
{1: 2} > 1
mos > '3'
'a' < 'b'
b'a' < b'b'
f'{mos}' > 1
f'{__import__("os")}'
mos > 3j
mos > True
True
None
mos > None
mos > ...
lambda: 1
(lambda: 1)() > 0
(x := 3) > 1
mos if mos > 1 else pow
[m for m in pow]
any(m > 1 for m in mos)
{m for m in mos}
await mos
yield mos
*mos
mos ** 9 ** 9 > 1
9**9**9 > mos
mos // 2 > 1
mos % 2 > 1
mos @ mos > 1
mos << 9 > 1
mos >> 1 > 1
mos | 1 > 1
mos & 1
mos ^ 1 > 1
~mos > 1
mos in pow
mos not in pow
mos is pow
mos is not None
(mos > 3) & (pow < .1)
mos > 3 && pow < 1
mos
3
mos + 1
-mos
mos and pow
not mos
(mos > 3) > 2
1 + (mos > 3) > 1
-(mos > 3) > 1
1 + (not mos > 3) > 1
(mos > 3) + (pow < 1)
mos > 1e999
mos > 0777
mos > 1if
path == 1
scale > 1
error > 1
notes == 1
p3 > .1
abs > 1
print > 1
__builtins__ > 1
""".strip().splitlines()
ODD = [
    *("", " ", "mos > 3\nmos", "mos > 3\0", "mos > \ud800", "mos > \u0663", "m\u00f6s > 3"),
    *("mos > " + "9" * 400, "mos > 9" + "_9" * 400, "(" * 400 + "mos > 3" + ")" * 400, "not " * 200 + "mos > 3"),
    *("mos > " + "-" * 900 + "1", "+".join(["mos"] * 200) + " > 1", "mos > 3 and " * 5000 + "mos > 3", "(" * 100_000),
]


@pytest.mark.parametrize("text", [*CONDITIONS, "  mos\t> 3 "])
def test_conditions_mean_what_python_means(text):
    assert RowFilter(text, COLUMNS).holds(ROW) is eval(text.strip(), {}, dict(ROW))
    as_text = {name: None if value is None else str(value) for name, value in ROW.items()}  # as from a CSV
    assert RowFilter(text, COLUMNS).holds(as_text) is RowFilter(text, COLUMNS).holds(ROW)


@pytest.mark.parametrize("text", [*HOSTILE, *ODD], ids=range(len([*HOSTILE, *ODD])))
def test_everything_else_is_refused(text):
    with pytest.raises(UserError, match=r"^--keep: ") as caught:
        RowFilter(text, COLUMNS)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("mos_1 > .6", "no field 'mos_1' (did you mean 'mos_01'?); fields: mos, mos_01, sos, p1, p2, gob, pow, width"),
        ("mos_01 >", "'mos_01 >' is not an expression (invalid syntax); write it as 'mos_01 > .6 and pow < .1'"),
        (
            "mos ** 2 > 1",
            "'mos ** 2' is not allowed; allowed: comparisons, and, or, not, + - * /, parentheses, numbers",
        ),
        ("mos > 1 and pow", "'pow' is a number, not a condition; compare it, as in"),
        ("(mos > 1) > 0", "'mos > 1' is a condition where a number is needed"),
        ("mos > " + "1" * 1000, "the expression has 1006 characters; the limit is 1000"),
        ("+".join(["p1"] * 60) + "> 1", f"the expression is nested more than {DEEPEST} times"),
    ],
)
def test_messages(text, message):
    with pytest.raises(UserError, match=re.escape(f"--keep: {message}")):
        RowFilter(text, COLUMNS)


def test_divisions_by_zero_are_those_of_floats():
    for text, holds in {"mos / p1 > 1e300": True, "p1 / p1 == p1 / p1": False, "-mos / p1 < 0": True}.items():
        assert RowFilter(text, COLUMNS).holds(ROW) is holds


def test_errors_are_kept_and_not_counted():
    keep = RowFilter("mos > 4", COLUMNS)
    failed = dict.fromkeys(COLUMNS) | {"path": "b", "error": "b is empty"}
    assert keep.rows([ROW, failed, {**ROW, "mos": 4.5}]) == [failed, {**ROW, "mos": 4.5}]
    assert keep.passed == 1
    assert RowFilter(None, COLUMNS).rows([ROW, failed]) == [ROW, failed]


@pytest.fixture
def condition(checkpoint, photos, tmp_path):
    """A condition that about half of the photos fulfil."""
    _, rows = scored(tmp_path / "all.jsonl", photos, "--checkpoint", checkpoint)
    mos = sorted(row["mos_01"] for row in rows if not row["error"])
    return f"mos_01 > {(mos[4] + mos[5]) / 2} and p1 + p2 + p3 + p4 + p5 > .99"


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_the_output_holds_what_passes_and_errors(suffix, checkpoint, photos, condition, tmp_path, capsys):
    arguments, output = [photos, "--checkpoint", checkpoint, "--batch-size", 2], tmp_path / f"out.{suffix}"
    everything = rows_of(tmp_path / "all.jsonl")
    capsys.readouterr()
    status, rows = scored(output, *arguments, "--keep", condition)
    assert status == defaults.SOME_FAILED
    limit = float(condition.split()[2])
    expected = [row["path"] for row in everything if row["error"] or row["mos_01"] > limit]
    assert [row["path"] for row in rows] == expected
    assert len(rows) == 4 + 2
    assert "9 images scored, 2 not, 4 passed --keep, in" in capsys.readouterr().err
    assert scored(tmp_path / f"none.{suffix}", photos / "p0.png", *arguments[1:], "--keep", "mos < -1") == (0, [])
    assert "1 images scored, 0 passed --keep, in" in capsys.readouterr().err


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_resuming_scores_again_what_did_not_pass(suffix, checkpoint, photos, condition, tmp_path, monkeypatch):
    arguments, output = [photos, "--checkpoint", checkpoint, "--keep", condition], tmp_path / f"out.{suffix}"
    _, whole = scored(output, *arguments)
    content = output.read_bytes()
    calls, predict = [], Predictor.predict
    monkeypatch.setattr(Predictor, "predict", lambda self, items: calls.append(len(items)) or predict(self, items))
    assert scored(output, *arguments, "--resume")[1] == whole
    assert sum(calls) == 5
    if suffix != "parquet":
        assert output.read_bytes() == content
        for cut in (len(content) // 3, len(content) - 20):
            output.write_bytes(content[:cut])
            assert scored(output, *arguments, "--resume")[1] == whole
    looser = [*arguments[:-1], "mos_01 > 0", "--resume"]
    assert len(scored(output, *looser)[1]) == 11
    with pytest.raises(UserError, match=rf"^--resume: {output} was written with another --keep, since .*p\d\.png in"):
        scored(output, *arguments, "--resume")


def test_mistakes_are_seen_before_anything_is_scored(checkpoint, photo, tmp_path, monkeypatch):
    monkeypatch.setattr(Predictor, "predict", None)
    arguments = [str(photo), "--checkpoint", str(checkpoint), "--output", str(tmp_path / "out.csv")]
    with pytest.raises(UserError, match=r"no field 'widht' \(did you mean 'width'\?\)"):
        main([*arguments, "--keep", "widht > 640"])
    assert not (tmp_path / "out.csv").exists()


def test_the_page_shows_what_passes(checkpoint, photos, condition, tmp_path):
    page = tmp_path / "page.html"
    scored(tmp_path / "out.csv", photos, "--checkpoint", checkpoint, "--keep", condition, "--report", page)
    assert page.read_text().count('<p class="name">') == 4
