"""Runs whose files are damaged or do not belong together: named in one line, by the report and by summaries."""

import json
import shutil

import pytest

from experiments.results.report import write_report
from tests.experiments.results.reports import write_split
from tests.running import train
from tests.tools.made_runs import write_run
from tools.summarize import main as summarize
from utils.errors import UserError
from utils.files import to_json

ONE = r"databases\.koniq10k"


@pytest.fixture
def made(tmp_path):
    return tmp_path / "made"


def replaced(name, content):
    """Puts JSON in place of a file of the first split."""
    return lambda run: (run / "split_01" / name).write_text(to_json(content))


def changed(name, keys, value):
    """Puts another value into a file of the first split; keys of split.json are those of its database."""

    def damage(run):
        path = run / "split_01" / name
        content = json.loads(path.read_text())
        place = content["databases"]["koniq10k"] if name == "split.json" else content
        for key in keys[:-1]:
            place = place[key]
        place[keys[-1]] = value
        path.write_text(to_json(content))

    return damage


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (shutil.rmtree, "is not a folder; name the folder of a run"),
        (lambda run: (run / "split_01").rename(run / "other"), "contains no split_NN"),
        (lambda run: (run / "split_01" / "metrics.json").unlink(), "no split is finished"),
        (lambda run: (run / "split_01" / "metrics.json").write_text("{"), r"metrics\.json is missing or damaged"),
        (lambda run: (run / "split_01" / "log.jsonl").write_text('{"epoch"'), r"log\.jsonl is missing or damaged"),
        (lambda run: (run / "split_01" / "log.jsonl").write_text(""), "no epoch in it"),
        (lambda run: (run / "split_01" / "predictions.csv").unlink(), r"predictions\.csv is missing or damaged"),
        (lambda run: (run / "split_01" / "predictions.csv").write_text("image\na\n"), "no column target_mos"),
        (lambda run: (run / "split_01" / "split.json").unlink(), r"split\.json is missing or damaged"),
        (lambda run: (run / "report.html").mkdir(), r"report\.html cannot be written"),
        (lambda run: (run / "split_01" / "config.yaml").unlink(), r"config .*config\.yaml does not exist"),
        (replaced("metrics.json", []), r"metrics\.json is missing or damaged \(an object is expected, got list"),
        (replaced("split.json", []), r"split\.json is missing or damaged \(an object is expected, got list"),
        (replaced("log.jsonl", 1), r"log\.jsonl is missing or damaged \(line 1: Input should be a mapping"),
        (changed("log.jsonl", ("test",), [1]), r"log\.jsonl is missing or damaged \(line 1: test: .*mapping"),
        (changed("split.json", ("labels",), {"dos": "counts"}), rf"split\.json: {ONE}\.labels\.sos: Field required"),
        (changed("split.json", ("train",), 3), rf"split\.json: {ONE}\.train: Input should be a valid tuple, got 3"),
        (replaced("split.json", {"version": 1}), r"split\.json: databases: Field required"),
        (replaced("split.json", {"version": 99}), r"split\.json has version 99, and this code reads version 1; write"),
        (replaced("metrics.json", {}), r"metrics\.json has no version"),
        (changed("metrics.json", ("selections", "last"), 1), r"metrics\.json: selections\.last: .*mapping"),
        (changed("metrics.json", ("selections", "best"), {}), r"json: unknown key 'selections\.best'"),
        (changed("metrics.json", ("selections", "last", "srcc"), "x"), r"json: selections\.last\.srcc: .*got 'x'"),
        (changed("metrics.json", ("undefined",), 5), r"metrics\.json: undefined: "),
        (changed("metrics.json", ("srcc",), "abc"), r"metrics\.json: srcc: Input should be a valid number, got 'abc'"),
        (changed("metrics.json", ("noise_ceiling", "koniq10k"), {"emd": "x"}), r"noise_ceiling\.koniq10k\.emd: "),
        (changed("metrics.json", ("intervals",), {}), r"intervals: databases none; expected: koniq10k"),
        (changed("metrics.json", ("environment",), "old"), r"metrics\.json: environment: "),
    ],
)
def test_what_cannot_be_reported_is_named(damage, message, made):
    write_split(made)
    damage(made)
    with pytest.raises(UserError, match=message):
        write_report(made)


def test_a_run_that_is_resumed_names_what_is_damaged(run, quick):
    """Whose results are only to be shown once more."""
    whole = json.loads((run / "metrics.json").read_text())
    for content, message in (
        ([1, 2], "an object is expected, got list"),
        ({**whole, "selections": {"last": 5}}, r"selections\.last: Input should be a mapping.*restore the file"),
        ({**whole, "version": 2}, "has version 2, and this code reads version 1"),
    ):
        (run / "metrics.json").write_text(to_json(content))
        with pytest.raises(UserError, match=rf"metrics\.json.*{message}"):
            train(quick, "--resume")


def test_splits_of_different_settings_have_no_report(made):
    for number in (1, 2):
        write_split(made, number)
    config = made / "split_02" / "config.yaml"
    config.write_text(config.read_text().replace("lr: 1.0e-05", "lr: 0.1"))
    with pytest.raises(UserError, match=r"splits 1 and 2 were trained with different settings.*optim\.lr"):
        write_report(made)


def test_files_of_other_databases_than_the_config_names(made):
    write_split(made)
    for name in ("metrics.json", "split.json"):
        path = made / "split_01" / name
        before = path.read_text()
        path.write_text(before.replace('"koniq10k":', '"bid":'))
        message = rf"{name}: databases: bid; expected, from config\.yaml beside it: koniq10k"
        for use in (lambda: write_report(made), lambda: summarize([str(made)])):
            with pytest.raises(UserError, match=message):
                use()
        path.write_text(before)


@pytest.mark.parametrize(
    ("keys", "value", "message"),
    [
        (("selections", "last"), 1, r"metrics\.json: selections\.last: .*mapping"),
        (("selections", "last", "databases"), {}, r"selections\.last\.databases: databases none; expected: bid, clive"),
        (("selections", "last", "databases", "bid", "emd"), [1], r"selections\.last\.databases\.bid\.emd: "),
        (("databases", "clive"), None, r"metrics\.json: databases\.clive: .*mapping"),
    ],
)
def test_summaries_name_what_is_wrong(keys, value, message, tmp_path):
    scale = {"low": 0, "high": 5, "bin_centers": [1, 2, 3, 4, 5]}
    dataset = [{"name": name, "scale": scale} for name in ("bid", "clive")]
    run = write_run(tmp_path, "union", [{"srcc": 0.9}], dataset=dataset)
    changed("metrics.json", keys, value)(run)
    with pytest.raises(UserError, match=message):
        summarize([str(run)])
