"""The first damaged inputs of each kind, and what holds for all inputs: readers invert writers, or refuse clearly."""

import csv
import io
import json
import math
import sys
from contextlib import suppress

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from datasets.scale import RatingScale
from scoring.conditions import LONGEST, RowFilter
from scoring.scale_text import parse_scale, scale_text
from tests.torture.fuzz import FIELDS, PARTS, ROW, TARGETS, fuzz, write_seeds
from utils.config import load_config, parse_yaml, resolve_scalars
from utils.delimited import parse_table
from utils.errors import UserError
from utils.files import read_json

INPUTS = 8  # of each kind; `make torture` tries a million
few = settings(max_examples=50, derandomize=True, deadline=None, database=None)
NUMBERS = [name for name in FIELDS if name in ROW and name not in ("path", "error")]
operands = st.one_of(st.sampled_from(NUMBERS), st.floats(0, 1e6).map(repr), st.integers(0, 9).map(str))
sums = st.recursive(
    operands,
    lambda part: st.one_of(
        st.builds("({} {} {})".format, part, st.sampled_from("+-*"), part), st.builds("-{}".format, part)
    ),
    max_leaves=5,
)
conditions = st.recursive(
    st.builds("({} {} {})".format, sums, st.sampled_from(["<", "<=", ">", ">=", "==", "!="]), sums),
    lambda part: st.one_of(
        st.builds("({} {} {})".format, part, st.sampled_from(["and", "or"]), part), st.builds("(not {})".format, part)
    ),
    max_leaves=4,
)
cells = st.text(st.characters(exclude_categories=["Cs", "Cc", "Z"]), min_size=1, max_size=8)
values = st.recursive(
    st.one_of(st.text(max_size=8), st.integers(), st.floats(allow_nan=False), st.booleans(), st.none()),
    lambda part: st.one_of(st.lists(part, max_size=3), st.dictionaries(st.text(max_size=5), part, max_size=3)),
    max_leaves=8,
)


@pytest.mark.skipif(sys.platform != "linux", reason="limits of processes are those of Linux")
@pytest.mark.parametrize("name", TARGETS)
def test_damaged_inputs_are_read_or_refused(name, tmp_path):
    for folder in ("prepared", "place"):
        (tmp_path / folder).mkdir()
    write_seeds(name, tmp_path / "prepared")
    assert fuzz(name, 0, INPUTS, tmp_path / "place", tmp_path / "prepared") == {}


def test_a_million_inputs():
    assert sum(part.count * part.inputs for part in PARTS) >= 10**6
    assert {part.name for part in PARTS} == {f"fuzz_{name}" for name in TARGETS}


@few
@given(conditions)
def test_conditions_hold_as_python_evaluates_them(text):
    names = {name: float(ROW[name]) for name in NUMBERS}
    if len(text) <= LONGEST:
        assert RowFilter(text, FIELDS).holds(ROW) == eval(text, {"__builtins__": {}}, names)


@few
@given(st.text(max_size=60))
def test_any_text_is_a_condition_or_refused(text):
    with suppress(UserError):
        assert RowFilter(text, FIELDS).holds(ROW) in (True, False)


@few
@given(st.lists(st.tuples(cells, cells), min_size=1, max_size=5))
def test_tables_that_python_writes_are_read_back(rows):
    text = io.StringIO()
    csv.writer(text).writerows([("image name", "x"), *rows])
    table = parse_table(text.getvalue(), "a.csv")
    if not any(line.startswith("#") for line in text.getvalue().splitlines()):
        assert list(map(tuple, table.rows)) == rows


@few
@given(values)
def test_yaml_that_pyyaml_writes_is_read_back(value):
    """Except for what is text here and something else in YAML 1.1, such as dates and `no`."""
    written = yaml.safe_dump({"a": value}, allow_unicode=True)
    read = resolve_scalars(parse_yaml(written, "a.yaml"))["a"]
    assert json.dumps(_plain(read)) == json.dumps(_plain(yaml.safe_load(written)["a"]))


def _plain(value):
    if isinstance(value, dict):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, list):
        return list(map(_plain, value))
    return getattr(value, "value", value)


@few
@given(st.text(max_size=40))
def test_any_override_is_a_setting_or_refused(text):
    for override in (text, f"optim.lr={text}", f"dataset.0.root={text}", f"scale={text}"):
        with suppress(UserError):
            load_config(None, [override])


@few
@given(value=values)
def test_json_is_read_back(value, tmp_path_factory):
    path = tmp_path_factory.mktemp("json") / "a.json"
    path.write_text(json.dumps(value), encoding="utf-8")
    assert read_json(path) == value


finite = st.floats(-1e6, 1e6).map(float)


@few
@given(st.lists(finite, min_size=4, max_size=8, unique=True).map(sorted), st.booleans())
def test_scales_are_read_back(numbers, higher_is_better):
    low, *centers, high = numbers
    if not np.all(np.diff(numbers) > 1e-6):
        return
    scale = RatingScale(low, high, tuple(centers), higher_is_better=higher_is_better)
    assert parse_scale(scale_text(scale)) == scale
    assert math.isfinite(scale.low)
