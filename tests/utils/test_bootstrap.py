"""Bootstrap without loops against the plain one: resample, call the metric, repeat."""

import math

import numpy as np
import pytest

from utils import bootstrap
from utils.bootstrap import confidence_intervals
from utils.metrics import fit_logistic, logistic, per_image_metrics, plcc, rmse, split_metrics, srcc

CENTERS = np.arange(1.0, 6.0)


def labelled(images: int, noise: float = 0.3):
    """Predictions and labels, MOS rounded so that there are ties."""
    rng = np.random.default_rng(7)
    target = rng.dirichlet(np.ones(5), images)
    pred = target * np.exp(rng.normal(0, noise, target.shape))
    sides = []
    for dos in (pred / pred.sum(1, keepdims=True), target):
        mos = dos @ CENTERS
        sides.append({"dos": dos, "mos": mos.round(1), "sos": np.sqrt(((CENTERS - mos[:, None]) ** 2 * dos).sum(1))})
    return sides


def plain_intervals(pred, target, resamples):
    """The same draws of the same generator, one by one through the metrics themselves."""
    images = len(pred["mos"])
    draws = np.random.default_rng(0).integers(0, images, (resamples, images))
    fitted = logistic(pred["mos"], *fit_logistic(pred["mos"], target["mos"]))
    values = {}
    for rows in draws:
        ours, theirs = ({key: value[rows] for key, value in side.items()} for side in (pred, target))
        metrics = split_metrics(ours, theirs, CENTERS)
        metrics |= {"plcc": plcc(fitted[rows], theirs["mos"]), "rmse": rmse(fitted[rows], theirs["mos"])}
        for name, value in metrics.items():
            values.setdefault(name, []).append(value)
    return {name: np.nanquantile(of_all, [0.025, 0.975]) for name, of_all in values.items() if name != "logistic_fit"}


@pytest.mark.parametrize("chunk", [10**6, 70])
def test_it_is_the_plain_bootstrap(chunk, monkeypatch):
    monkeypatch.setattr(bootstrap, "CHUNK", chunk)
    monkeypatch.setattr(bootstrap, "BLOCK", chunk)
    pred, target = labelled(30)
    ours = confidence_intervals(pred, target, CENTERS, resamples=60)
    theirs = plain_intervals(pred, target, 60)
    assert ours.keys() == theirs.keys()
    for name, interval in ours.items():
        assert interval == pytest.approx(theirs[name].tolist(), abs=1e-6), name


def test_it_is_seeded_and_holds_the_estimate():
    pred, target = labelled(200)
    metrics = split_metrics(pred, target, CENTERS)
    intervals = confidence_intervals(pred, target, CENTERS)
    assert intervals == confidence_intervals(pred, target, CENTERS)
    assert intervals != confidence_intervals(pred, target, CENTERS, seed=1)
    for name, (low, high) in intervals.items():
        assert low <= metrics[name] <= high, name


def test_width_of_a_mean_is_its_standard_error():
    pred, target = labelled(400)
    emd = per_image_metrics(pred["dos"], target, CENTERS)["emd"]
    low, high = confidence_intervals(pred, target, CENTERS, resamples=4000)["emd"]
    assert (high - low) / 2 == pytest.approx(1.96 * emd.std() / math.sqrt(400), rel=0.08)


def test_what_is_not_defined_is_nan():
    pred, target = labelled(1)
    intervals = confidence_intervals(pred, target, CENTERS)
    assert all(math.isnan(end) for name in ("srcc", "plcc", "krcc", "sos_srcc") for end in intervals[name])
    assert intervals["emd"][0] == intervals["emd"][1]


def test_constant_predictions():
    pred, target = labelled(20)
    pred["mos"][:] = 3.0
    intervals = confidence_intervals(pred, target, CENTERS)
    assert math.isnan(intervals["srcc"][0])
    assert srcc(pred["sos"], target["sos"]) >= intervals["sos_srcc"][0]


def test_without_distributions():
    pred, target = labelled(20)
    del pred["dos"]
    assert "emd" not in confidence_intervals(pred, target, CENTERS)
