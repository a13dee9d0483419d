"""Runs whose files are damaged or do not belong together: named in one line, by the report and by summaries."""

import shutil

import pytest

from experiments.results.report import write_report
from experiments.results.schema import require_form
from tests.experiments.results.reports import write_split
from tests.running import train
from tests.tools.made_runs import write_run
from tools.summarize import main as summarize
from utils.errors import UserError
from utils.files import to_json

RECIPE = {"dos": "counts", "sos": "file", "sos_a": None, "images": 3, "fallbacks": 0, "odd": 0, "left_out": 0}


@pytest.fixture
def made(tmp_path):
    return tmp_path / "made"


def replaced(name, content):
    """Puts JSON in place of a file of the first split."""
    return lambda run: (run / "split_01" / name).write_text(to_json(content))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (shutil.rmtree, "is not a folder; name the folder of a run"),
        (lambda run: (run / "split_01").rename(run / "other"), "holds no split_NN"),
        (lambda run: (run / "split_01" / "metrics.json").unlink(), "none of its splits is finished"),
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
        (replaced("log.jsonl", 1), r"log\.jsonl is missing or damaged \(line 1 is not the record of an epoch"),
        (replaced("log.jsonl", {"epoch": 1, "test": [1]}), "line 1 is not the record of an epoch"),
        (replaced("split.json", {"labels": {"dos": "counts"}}), r"split\.json: labels is not as main\.py writes it"),
        (replaced("split.json", {"labels": 3}), r"split\.json: labels is not as main\.py writes it"),
        (replaced("split.json", {"train": 3}), r"split\.json: train is not as main\.py writes it"),
        (replaced("split.json", {}), r"split\.json: train is not as main\.py writes it, or missing"),
        (replaced("split.json", {"train": [], "validation": [], "test": []}), r"split\.json: hash is not as"),
        (replaced("metrics.json", {}), r"metrics\.json: selections\.last is not as"),
        (replaced("metrics.json", {"selections": {"last": {}, "best": {}}}), r"json: selections\.best is not as"),
        (replaced("metrics.json", {"undefined": 5}), r"metrics\.json: undefined is not as"),
        (replaced("metrics.json", {"srcc": "abc"}), r"metrics\.json: srcc is not as"),
        (
            replaced("metrics.json", {"selections": {"last": {"srcc": "abc"}}}),
            r"json: selections\.last\.srcc is not as",
        ),
        (replaced("metrics.json", {"selections": {}, "noise_ceiling": {"emd": "x"}}), "json: noise_ceiling is not as"),
        (replaced("metrics.json", {"selections": [1]}), r"metrics\.json: selections is not as main\.py writes it"),
        (replaced("metrics.json", {"selections": {"last": 1}}), r"metrics\.json: selections\.last is not as"),
        (replaced("metrics.json", {"intervals": [1]}), r"metrics\.json: intervals is not as"),
        (replaced("metrics.json", {"environment": "old"}), r"metrics\.json: environment is not as"),
    ],
)
def test_what_cannot_be_reported_is_named(damage, message, made):
    write_split(made)
    damage(made)
    with pytest.raises(UserError, match=message):
        write_report(made)


def test_a_run_that_is_resumed_names_what_is_damaged(run, quick):
    """Whose results are only to be shown once more."""
    for content, message in (
        ([1, 2], "an object is expected, got list"),
        ({"selections": {"last": 5}}, r"selections\.last is not as main\.py writes it"),
        ({"selections": {"last": {"srcc": "abc"}}}, r"selections\.last\.srcc is not as main\.py writes it"),
        ({}, r"selections\.last is not as main\.py writes it, or missing"),
    ):
        (run / "metrics.json").write_text(to_json(content))
        with pytest.raises(UserError, match=rf"metrics\.json.*{message}"):
            train(quick, "--resume")


def test_splits_of_different_settings_have_no_report(made):
    for number in (1, 2):
        write_split(made, number)
    config = made / "split_02" / "config.yaml"
    config.write_text(config.read_text().replace("lr: 1.0e-05", "lr: 0.1"))
    with pytest.raises(UserError, match=r"split 2 was trained with other settings than split 1.*optim\.lr"):
        write_report(made)


@pytest.mark.parametrize(
    ("metrics", "origin", "message"),
    [
        ({}, {"databases": {"a": {}, "b": {}}}, r"metrics\.json: databases is not as"),
        ({"databases": {"a": {}}}, {}, r"metrics\.json: databases\.b is not as"),
        ({"databases": {"a": {}, "b": {}}, "selections": {"last": {}}}, {}, r"selections\.last\.databases is not as"),
        ({"databases": {"a": {}, "b": {}}, "intervals": {"a": 1}}, {}, r"intervals\.a is not as"),
        (
            {"databases": {"a": {}, "b": {}}, "selections": {"last": {"databases": {"a": {}, "b": {}}}}},
            {"databases": {"a": {"labels": RECIPE}}},
            r"split\.json: b is not as",
        ),
    ],
)
def test_several_databases_in_another_form(metrics, origin, message, tmp_path):
    with pytest.raises(UserError, match=message):
        require_form(tmp_path, metrics, origin, ("a", "b"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"selections": {"last": 1}}, "selection 'last' in metrics.json is no mapping"),
        ({"selections": {"last": {"srcc": 0.9}}}, "metrics.json of split 1 says nothing of bid"),
        ({"selections": {"last": {"srcc": "abc"}}}, "srcc of 'last' in metrics.json is no number"),
        (
            {"selections": {"last": {"databases": {"bid": {"emd": [1]}}}}},
            "emd of 'last, bid' in metrics.json is no number",
        ),
        ({"selections": {"last": {"databases": 5}}}, "metrics.json of split 1 says nothing of bid"),
        ([], "an object is expected, got list"),
    ],
)
def test_summaries_name_what_is_missing(content, message, tmp_path):
    scale = {"low": 0, "high": 5, "bin_centers": [1, 2, 3, 4, 5]}
    dataset = [{"name": name, "scale": scale} for name in ("bid", "clive")]
    run = write_run(tmp_path, "union", [{"srcc": 0.9}], dataset=dataset)
    (run / "split_01" / "metrics.json").write_text(to_json(content))
    with pytest.raises(UserError, match=message):
        summarize([str(run)])
