"""The main metrics of a split from its predictions.csv, by scipy and NumPy alone."""

import csv
import warnings

import numpy as np
from scipy.optimize import curve_fit
from scipy.special import expit
from scipy.stats import kendalltau, pearsonr, spearmanr


def recomputed(path):
    with open(path, newline="") as file:
        rows = list(csv.DictReader(file))
    table = {name: np.array([float(row[name]) for row in rows]) for name in rows[0] if name != "image"}
    pred, target = table["pred_mos"], table["target_mos"]
    mapped = after_logistic(pred, target)
    p, q = (np.stack([table[f"{side}_p{k}"] for k in range(1, 6)], axis=1) for side in ("pred", "target"))
    middle = (p + q) / 2
    to_middle = [np.where(side > 0, side * np.log(np.where(side > 0, side, 1) / middle), 0).sum(1) for side in (p, q)]
    return {
        "srcc": spearmanr(pred, target).statistic,
        "plcc": pearsonr(mapped, target).statistic,
        "krcc": kendalltau(pred, target).statistic,
        "rmse": np.sqrt(np.mean((mapped - target) ** 2)),
        "sos_srcc": spearmanr(table["pred_sos"], table["target_sos"]).statistic,
        "jsd": np.mean(sum(to_middle) / 2),
        "emd": np.mean(np.sqrt(np.mean(np.cumsum(p - q, axis=1) ** 2, axis=1))),
    }


def after_logistic(pred, target):
    """Predictions after the fit, from the start of the release or, where that fails, from one in their own spread.

    On few images the fit has many minima: the curve is written as in utils/metrics.py, so that rounding leads both to
    the same one.
    """

    def curve(x, b1, b2, b3, b4):
        return b2 + (b1 - b2) * expit((x - b3) / max(abs(b4), 1e-9))

    line = np.polyval(np.polyfit(pred, target, 1), pred)
    for b3, b4 in ((pred.mean(), 0.5), (np.median(pred), pred.std())):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                start = (target.max(), target.min(), b3, b4)
                mapped = curve(pred, *curve_fit(curve, pred, target, p0=start, maxfev=10_000)[0])
        except RuntimeError:
            continue
        if np.square(mapped - target).mean() <= 1.01**2 * np.square(line - target).mean():
            return mapped
    return pred
