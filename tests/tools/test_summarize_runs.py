"""Which runs summarize takes, what it says of those that are not finished, and mistakes."""

import os
import re

import pytest
import yaml

from tests.running import run_as_script
from tests.tools.made_runs import OURS, csv_of, shown, tables, write_run
from tools.summarize import main
from utils.errors import MissingFileError, UserError

MOVED = {2: {"dataset": [{"name": "koniq10k", "root": "elsewhere"}]}}


def test_which_runs_are_meant(runs, tmp_path, capsys):
    spelt = runs / ".." / runs.name / "theirs"
    assert len(csv_of(capsys, spelt, runs)) == 2 * 3  # each run once
    again = write_run(tmp_path / "other|place", "theirs", [{"srcc": s} for s in OURS], changes=MOVED)
    page = shown(capsys, runs / "theirs", again, "--baseline", again)
    ours, theirs = (str(path).replace("|", r"\|") for path in (again, runs / "theirs"))
    assert re.search(rf"^\| {re.escape(theirs)} +\| koniq10k \|", page, re.MULTILINE)
    assert re.search(rf"^\| SRCC ↑ \| {re.escape(theirs)} +\| koniq10k \| +6 \|", page, re.MULTILINE)
    assert f"| {ours} |" in page
    page = shown(capsys, runs / "theirs", "--baseline", runs / "ours_full")
    assert [row["run"] for row in tables(page)[0][:2]] == ["ours_full", "theirs"]


def test_unfinished_runs(runs, capsys):
    half = write_run(runs, "half", [{"srcc": 0.9}, None, {"srcc": 0.8}], wanted=4)
    begun = write_run(runs, "begun", [None], wanted=10)
    page = shown(capsys, half)
    assert tables(page)[0][0]["splits"] == "2"
    assert "half: 2 of 4 splits are finished; unfinished: 2, 4" in page
    assert "\n% half: 2 of 4 splits" in shown(capsys, half, "--format", "latex")
    main([str(half), "--output", str(runs / "half.md")])
    assert "note: half: 2 of 4 splits" in capsys.readouterr().err
    for named in ([half, begun], [runs, begun], [begun, runs]):
        with pytest.raises(UserError, match="begun: none of its 10 splits is finished"):
            main([str(path) for path in named])
    for place in (runs, runs / "*"):
        page = shown(capsys, place)
        assert [row["run"] for row in tables(page)[0][:3]] == ["half", "ours_full", "theirs"]
        assert "Omitted" in page
        assert "begun: none of its 10 splits is finished" in page
    with pytest.raises(UserError, match="nothing to summarise"):
        main([str(runs / "beg*")])
    with pytest.raises(UserError, match="begun: none of its 10"):
        main([str(runs), "--baseline", "begun"])


def test_the_config_of_many_splits_is_parsed_once(tmp_path, capsys, monkeypatch):
    """It is written alike into each; parsing YAML takes ten times as long as all else that is read of a split."""
    write_run(tmp_path, "many", [{"srcc": 0.9}] * 5)
    parsed, load = [], yaml.load
    monkeypatch.setattr(yaml, "load", lambda *arguments: parsed.append(1) or load(*arguments))
    assert tables(shown(capsys, tmp_path / "many"))[0][0]["splits"] == "5"
    assert len(parsed) <= 1


@pytest.mark.parametrize("form", ["markdown", "latex", "csv"])
def test_folders_of_odd_names(form, runs, capsys):
    """Renamed by hand: bytes that are no UTF-8, a line break, markup."""
    for name in (os.fsdecode(b"gr\xfcn"), "two\nlines", "**bold**", "|`[<"):
        write_run(runs, "odd", [{"srcc": 0.9}], wanted=2).rename(runs / name)
    assert (
        main([str(runs), "--baseline", os.fsdecode(b"gr\xfcn"), "--format", form, "--output", str(runs / "table")]) == 0
    )
    capsys.readouterr()
    text = (runs / "table").read_text(encoding="utf-8")
    if form == "markdown":
        shown_names = [line.split(" | ")[0].strip("| ") for line in text.splitlines() if "| koniq10k | " in line]
        assert {r"gr\\udcfcn", r"two\\nlines", r"\*\*bold\*\*", r"\|\`\[\<"} <= set(shown_names)
        assert r"- two\\nlines: 1 of 2 splits are finished" in text
    if form == "latex":
        assert r"\textbf{bold}" not in text
        assert r"gr\textbackslash{}udcfcn & koniq10k" in text
        assert all(line.startswith("% ") for line in text.splitlines() if "splits are finished" in line)


def test_why_the_baseline_is_alone_is_said(runs):
    for number in (1, 2, 3, 4, 5, 6):
        (runs / "ours_full" / f"split_{number:02d}" / "metrics.json").write_text("{")
    with pytest.raises(UserError, match=r"theirs is the only run; .* Omitted: .*ours_full.*missing or damaged"):
        main([str(runs), "--baseline", "theirs"])


def test_a_finished_split_without_its_config_is_not_left_out_unseen(runs, capsys):
    (runs / "theirs" / "split_03" / "config.yaml").unlink()
    with pytest.raises(UserError, match=r"theirs: split_03 finished, but without config\.yaml; restore it or delete"):
        main([str(runs / "theirs")])
    assert "Omitted: " in shown(capsys, runs)
    (runs / "theirs" / "split_03" / "metrics.json").unlink()
    assert "theirs: 5 of 6 splits are finished; unfinished: 3" in shown(capsys, runs / "theirs")


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (
            ["theirs", "--metrics", "srcc,sroc"],
            UserError,
            r"'sroc' is not a metric.* \(did you mean 'srcc'\?\).*srcc, rmse",
        ),
        (["theirs", "--metrics", "epoch"], UserError, "'epoch' is not a metric"),
        (["theirs", "--metrics", "srcc,"], UserError, "'srcc,' contains an empty name; separate names by commas"),
        (["theirs", ""], UserError, "RUN is empty; name the folder of a run"),
        (["theirs", "--selection", "validation"], UserError, "no selection 'validation'; available: last, release"),
        (["their"], MissingFileError, r"run .*their does not exist \(did you mean 'theirs'\?\)"),
        (["README.md"], MissingFileError, "neither is nor contains a run.*quoted"),
        (["nothing*"], MissingFileError, r"run .*nothing\* does not exist"),
        (["theirs/split_01"], UserError, "is one split; name the folder of its run"),
        (["theirs", "--baseline", "ours"], MissingFileError, "neither the folder of a run nor the name of one"),
        (["theirs", "--baseline", "theirs"], UserError, "theirs is the only run"),
        (["mixed"], UserError, "splits 1 and 2 were trained with different settings.*optim.lr"),
        (["damaged"], UserError, r"metrics\.json is missing or damaged"),
        (["theirs", "--selection", "release", "--metrics", "epochs"], UserError, "'epochs' is not a metric"),
        (["without"], UserError, r"split\.json: databases: Field required"),
        (["old"], UserError, r"metrics\.json has version 99, and this code reads version 1; write the file again"),
    ],
)
def test_mistakes(arguments, error, message, runs):
    write_run(runs, "mixed", [{"srcc": 0.9}] * 2, changes={2: {"optim": {"lr": 1e-3}}})
    (write_run(runs, "damaged", [{"srcc": 0.9}]) / "split_01" / "metrics.json").write_text("{")
    (write_run(runs, "old", [{"srcc": 0.9}]) / "split_01" / "metrics.json").write_text('{"version": 99}')
    (write_run(runs, "without", [{"srcc": 0.9}]) / "split_01" / "split.json").write_text('{"version": 1}')
    with pytest.raises(error, match=message) as caught:
        main([str(runs / arguments[0]), *arguments[1:]])
    assert "\n" not in str(caught.value)


def test_a_mistake_is_one_line_and_status_2(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert run_as_script(monkeypatch, "tools/summarize.py", "nowhere") == 2
    assert re.fullmatch(r"error: run nowhere does not exist; runs in \.: none\n", capsys.readouterr().err)
