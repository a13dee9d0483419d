"""Evaluations as the model card reads them: calibration with and without the temperature, the largest errors."""

import json

import numpy as np
import pandas as pd
import pytest
from scipy.special import softmax

from experiments.model_card.evaluations import Evaluation, read_evaluations
from tests.written import evaluation_content
from utils.errors import UserError
from utils.files import to_json, write_text
from utils.metrics import distribution_metrics, pit_histogram

SCALE = {"low": 0, "high": 100, "bin_centers": [10, 30, 50, 70, 90], "higher_is_better": True}
CENTERS = np.array(SCALE["bin_centers"])
IMAGES, TEMPERATURE = 40, 1.7


def write_evaluation(folder, title="bid", **changes):
    """An evaluation of a network with TEMPERATURE, and its logits (N, K)."""
    rng = np.random.default_rng(0)
    logits, target = rng.normal(0, 2, (IMAGES, 5)), rng.dirichlet(np.ones(5), IMAGES)
    table = pd.DataFrame({"image": [f"{number}.png" for number in range(IMAGES)]})
    for side, dos in {"target": target, "pred": softmax(logits / TEMPERATURE, axis=1)}.items():
        table[f"{side}_mos"], table[f"{side}_sos"] = dos @ CENTERS, 10.0
        table[[f"{side}_p{k}" for k in range(1, 6)]] = dos
    write_text(folder / "predictions.csv", table.to_csv(index=False))
    write_text(folder / "metrics.json", to_json(evaluation_content(database=title, srcc=0.5, scale=SCALE, **changes)))
    return logits, target


def test_calibration_without_the_temperature_is_that_of_the_plain_logits(tmp_path):
    logits, target = write_evaluation(tmp_path)
    evaluation = Evaluation.read(tmp_path)
    labels = {"dos": target, "mos": target @ CENTERS}
    for factor, dos in ((1 / TEMPERATURE, softmax(logits, axis=1)), (1, softmax(logits / TEMPERATURE, axis=1))):
        found, expected = evaluation.calibration(factor), distribution_metrics(dos, labels, CENTERS)
        assert found.coverage == pytest.approx({name: expected[name] for name in found.coverage})
        assert len(found.coverage) == 4
        assert found.pit == pytest.approx(pit_histogram(dos, labels["mos"], CENTERS))


def test_the_worst_are_those_with_the_largest_errors_of_either_sign(tmp_path):
    write_evaluation(tmp_path)
    evaluation = Evaluation.read(tmp_path)
    table = evaluation.predictions
    errors = (table["pred_mos"] - table["target_mos"]).abs().sort_values(ascending=False)
    assert list(evaluation.worst(6)["image"]) == list(table["image"][errors.index[:6]])
    assert {*np.sign(evaluation.errors())} == {-1, 1}


def test_databases_of_the_training_come_first_and_none_twice(tmp_path):
    for title, own in (("bid", False), ("spaq", True)):
        write_evaluation(tmp_path / "a" / title, title, own=own)
    assert [each.title for each in read_evaluations([tmp_path / "a"])] == ["spaq", "bid"]
    write_evaluation(tmp_path / "b", "bid")
    with pytest.raises(UserError, match="--evaluations: bid evaluated more than once"):
        read_evaluations([tmp_path / "a", tmp_path / "b"])
    with pytest.raises(UserError, match=r"nowhere contains no metrics.json"):
        read_evaluations([tmp_path / "nowhere"])


def test_files_of_older_code_and_damaged_ones_are_refused(tmp_path):
    write_evaluation(tmp_path)
    content = json.loads((tmp_path / "metrics.json").read_text())
    del content["scale"]
    (tmp_path / "metrics.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match="does not contain the rating scale; repeat the evaluation"):
        Evaluation.read(tmp_path)
    write_evaluation(tmp_path)
    (tmp_path / "predictions.csv").unlink()
    with pytest.raises(UserError, match=r"predictions.csv is missing or damaged .* restore or delete it"):
        Evaluation.read(tmp_path)
