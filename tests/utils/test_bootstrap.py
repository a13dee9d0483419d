"""Bootstrap without loops against the plain one: resample, call the metric, repeat."""

import math

import numpy as np
import pytest

from utils import bootstrap
from utils.bootstrap import confidence_intervals
from utils.metrics import fit_logistic, logistic, per_image_metrics, plcc, rmse, split_metrics

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


def plain_intervals(pred, target, resamples, units=None):
    """The same draws of the same generator, one by one through the metrics themselves."""
    units = list(range(len(pred["mos"]))) if units is None else units
    rows_of = [[row for row, other in enumerate(units) if other == unit] for unit in dict.fromkeys(units)]
    draws = np.random.default_rng(0).integers(0, len(rows_of), (resamples, len(rows_of)))
    fitted = logistic(pred["mos"], *fit_logistic(pred["mos"], target["mos"]))
    values = {}
    for drawn in draws:
        rows = np.concatenate([rows_of[unit] for unit in drawn])
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


def test_units_are_drawn_whole(monkeypatch):
    monkeypatch.setattr(bootstrap, "CHUNK", 200)
    pred, target = labelled(30)
    units = [f"scene {index**2 % 11}" for index in range(30)]  # of different sizes, not side by side
    assert len(set(units)) == 6
    ours = confidence_intervals(pred, target, CENTERS, units, resamples=60)
    theirs = plain_intervals(pred, target, 60, units)
    assert ours.keys() == theirs.keys()
    for name, interval in ours.items():
        assert interval == pytest.approx(theirs[name].tolist(), abs=1e-6), name


def test_units_of_one_image_change_nothing():
    pred, target = labelled(30)
    names = [f"{index * 7 % 30}.jpg" for index in range(30)]  # not in order
    assert confidence_intervals(pred, target, CENTERS, names) == confidence_intervals(pred, target, CENTERS)


def test_copies_of_images_add_nothing_to_what_is_known():
    """Each image five times, as one unit: the intervals are those of the images alone, not narrower ones."""
    pred, target = labelled(40)
    copied = [{key: np.repeat(value, 5, axis=0) for key, value in side.items()} for side in (pred, target)]
    alone = confidence_intervals(pred, target, CENTERS)
    whole = confidence_intervals(*copied, CENTERS, np.repeat(np.arange(40), 5))
    for name in set(alone) - {"krcc"}:  # tau-b counts the ties of copies
        assert whole[name] == pytest.approx(alone[name], abs=2e-3), name
    low, high = confidence_intervals(*copied, CENTERS)["emd"]
    assert high - low < 0.6 * (alone["emd"][1] - alone["emd"][0])


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
    assert all(math.isnan(end) for ends in intervals.values() for end in ends)
    pred, target = labelled(9)
    one_scene = confidence_intervals(pred, target, CENTERS, ["scene"] * 9)
    assert one_scene.keys() == intervals.keys()
    assert all(math.isnan(end) for ends in one_scene.values() for end in ends)


def test_constant_predictions():
    pred, target = labelled(20)
    before = confidence_intervals(pred, target, CENTERS)
    pred["mos"][:] = 0.1  # its mean is not 0.1 to the last bit
    intervals = confidence_intervals(pred, target, CENTERS)
    for name in ("srcc", "plcc", "krcc", "plcc_raw"):
        assert all(math.isnan(end) for end in intervals[name]), name
    of_mos = {"srcc", "plcc", "krcc", "plcc_raw", "rmse", "rmse_raw"}
    assert {name for name in intervals if intervals[name] != before[name]} == of_mos


def test_without_distributions():
    pred, target = labelled(20)
    del pred["dos"]
    assert "emd" not in confidence_intervals(pred, target, CENTERS)
