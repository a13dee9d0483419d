"""Calibration: the temperature that predictions are off by is found again, and what a run then says and keeps."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.special import softmax

from experiments.training.calibration import fit_temperature, tempered
from inference import load_predictor
from tests.running import folder_of, train
from utils.checkpoint import read_checkpoint

CALIBRATED = ("protocol.calibration=temperature", "protocol.validation_fraction=0.2")


def test_tempered_is_the_softmax_of_divided_logits():
    logits = np.random.default_rng(0).normal(0, 3, (50, 5))
    np.testing.assert_allclose(tempered(softmax(logits, 1), 1.7), softmax(logits / 1.7, 1))
    assert np.isfinite(tempered(np.eye(5), 0.2)).all()


@pytest.mark.parametrize("temperature", [0.4, 1.0, 2.5])
def test_the_temperature_is_found_again(temperature):
    target = softmax(np.random.default_rng(1).normal(0, 1.5, (300, 5)), 1)
    parts = np.split(tempered(target, 1 / temperature), [100])
    assert fit_temperature(parts, np.split(target, [100])) == pytest.approx(temperature, rel=1e-3)


def test_a_temperature_at_its_limit_is_remarked_on():
    labels = np.eye(5)
    with pytest.warns(UserWarning, match=r"the temperature is at its limit, 0\.135"):
        fit_temperature([tempered(labels + 0.5, 1.0)], [labels])


def test_a_calibrated_run_says_and_keeps_the_same(quick, tmp_path):
    """The trained weights are those without calibration; best.pt predicts what the run's predictions say."""
    assert train([*quick, "protocol.validation_fraction=0.2", "run.name=plain", "protocol.selection=last"]) == 0
    assert train([*quick, *CALIBRATED, "protocol.selection=last"]) == 0
    calibrated = folder_of(tmp_path)
    plain = calibrated.parents[1] / "plain" / calibrated.name
    saved = [read_checkpoint(folder / "best.pt") for folder in (plain, calibrated)]
    for name, tensor in saved[0]["model"].items():
        assert torch.equal(tensor, saved[1]["model"][name])
    temperature = json.loads((calibrated / "log.jsonl").read_text().splitlines()[-1])["temperature"]
    assert saved[1]["config"]["model"]["temperature"] == temperature != 1
    before, after = (pd.read_csv(folder / "predictions.csv").filter(like="pred_p") for folder in (plain, calibrated))
    np.testing.assert_allclose(tempered(before.to_numpy(), temperature), after, atol=1e-6)
    table = pd.read_csv(calibrated / "predictions.csv")
    root = saved[1]["config"]["dataset"][0]["root"]
    for name in ("best.pt", "last.pt"):
        prediction = load_predictor(calibrated / name)(Path(root) / table["image"][0])
        assert prediction.mos == pytest.approx(table["pred_mos"][0], abs=1e-6)
    assert abs(prediction.mos - pd.read_csv(plain / "predictions.csv")["pred_mos"][0]) > 1e-3


@pytest.mark.parametrize("options", [CALIBRATED, ()])
def test_a_run_that_stopped_before_its_last_file_is_finished_with_its_temperature(options, quick, tmp_path):
    assert train([*quick, *options]) == 0
    folder = folder_of(tmp_path)
    whole = (folder / "predictions.csv").read_text()
    for name in ("metrics.json", "predictions.csv"):
        (folder / name).unlink()
    assert train([*quick, *options], "--resume") == 0
    assert (folder / "predictions.csv").read_text() == whole
