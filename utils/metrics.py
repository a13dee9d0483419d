"""Metrics of MOS, SOS and DOS, in float64.

N images, K bins.
"""

import warnings

import numpy as np
from scipy.optimize import curve_fit
from scipy.special import expit
from scipy.stats import kendalltau, rankdata

from utils.numerics import bin_edges

FIT_STEPS = 10_000  # function evaluations of the logistic fit before it counts as failed
FIT_START_SLOPE = 0.5
SMALLEST_SLOPE = 1e-9
SMALLEST_SPREAD = 1e-12  # relative to the vector's length; below it the vector counts as constant
SMALLEST_SHARE = 1e-12  # lower bound of predicted shares, so that KL stays finite
PIT_BINS = 10
CENTRAL = (50, 80, 95)  # percentages for coverage
CENTRAL_DOS = 90  # percentage for the coverage of the label's DOS
HIGHER, LOWER = "higher", "lower"
# direction in which each metric improves; coverage has none
BETTER = {
    **dict.fromkeys(("srcc", "plcc", "krcc", "plcc_raw", "sos_srcc", "sos_plcc", "intersection", "cosine"), HIGHER),
    **dict.fromkeys(("rmse", "rmse_raw", "jsd", "emd", "kl", "wasserstein", "dos_rmse"), LOWER),
}

IN_UNITS = ("rmse", "rmse_raw", "wasserstein")  # of the scale, so without a mean over databases with different scales

Array = np.ndarray


def plcc(x: Array, y: Array) -> float:
    """Return Pearson's linear correlation of (N,) and (N,), -1 to 1; NaN if one is constant."""
    given = [np.asarray(v, dtype=np.float64) for v in (x, y)]
    x, y = (v - v.mean() for v in given)
    spreads = [np.linalg.norm(v) for v in (x, y)]
    # the mean of equal numbers is rounded, which leaves a small spread
    if any(spread <= SMALLEST_SPREAD * np.linalg.norm(v) for spread, v in zip(spreads, given, strict=True)):
        return float("nan")
    return float(np.clip((x / spreads[0]) @ (y / spreads[1]), -1, 1))


def srcc(x: Array, y: Array) -> float:
    """Return Spearman's rank correlation of (N,) and (N,), ties at their mean rank, -1 to 1; NaN if one is constant."""
    return plcc(rankdata(x), rankdata(y))


def krcc(x: Array, y: Array) -> float:
    """Return Kendall's tau-b of (N,) and (N,), -1 to 1; NaN if one is constant."""
    return float(kendalltau(x, y).statistic) if len(x) > 1 else float("nan")


def rmse(x: Array, y: Array) -> float:
    """Return the root mean squared difference of (N,) and (N,), in their units."""
    return float(np.sqrt(np.mean((np.asarray(x, dtype=np.float64) - y) ** 2)))


def logistic(x: Array, b1: float, b2: float, b3: float, b4: float) -> Array:
    """Return b2 + (b1 - b2) / (1 + exp(-(x - b3) / |b4|)), which rises from b2 to b1."""
    return b2 + (b1 - b2) * expit((x - b3) / max(abs(b4), SMALLEST_SLOPE))


def fit_logistic(pred: Array, target: Array) -> Array | None:
    """Fit the parameters (4,) of `logistic` from predictions (N,) to labels (N,); return None if the fit fails.

    The fit starts at b1 = max label, b2 = min label, b3 = mean prediction, b4 = 0.5, as in the release. If it does not
    converge, or is worse than a straight line (a limit of the logistic), it is repeated from the median prediction and
    the predictions' standard deviation.
    """
    pred, target = np.asarray(pred, dtype=np.float64), np.asarray(target, dtype=np.float64)
    if len(pred) < 4 or np.ptp(pred) == 0:
        return None
    line = np.polynomial.polynomial.polyfit(pred, target, 1)
    acceptable = 1.01 * rmse(np.polynomial.polynomial.polyval(pred, line), target) + 1e-9 * np.ptp(target)
    ends = (target.max(), target.min())
    for start in ((*ends, pred.mean(), FIT_START_SLOPE), (*ends, np.median(pred), pred.std())):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # about the covariance, which is not used
                fitted, _ = curve_fit(logistic, pred, target, p0=start, maxfev=FIT_STEPS)
        except RuntimeError:  # did not converge
            continue
        if rmse(logistic(pred, *fitted), target) <= acceptable:
            return fitted
    return None


def score_metrics(pred_mos: Array, target_mos: Array) -> dict[str, float]:
    """Return the agreement of predicted MOS (N,) with labels (N,).

    Returns:
        `srcc`, `krcc`; `plcc`, `rmse` after the four-parameter logistic fit from prediction to label; `plcc_raw`,
        `rmse_raw` without the fit; `logistic_fit`, 1 if the fit succeeded, else 0 with a warning and raw values for
        `plcc` and `rmse`. RMSE is in units of the label. The fit inverts a falling relation, so `plcc` is never
        negative, even for inverted predictions; `srcc` and `plcc_raw` keep the sign.

    Raises:
        ValueError: The arrays are empty or differ in length, or contain values that are not finite.
    """
    pred, target = (np.asarray(x, dtype=np.float64) for x in (pred_mos, target_mos))
    if pred.ndim != 1 or pred.shape != target.shape or len(pred) == 0:
        raise ValueError(f"predictions and labels must be two (N,) arrays, got {pred.shape} and {target.shape}")
    if not (np.isfinite(pred).all() and np.isfinite(target).all()):
        raise ValueError("predictions and labels must be finite")
    fitted = fit_logistic(pred, target)
    if fitted is None:
        warnings.warn(f"the logistic fit failed on {len(pred)} images; PLCC and RMSE are the raw ones", stacklevel=2)
    mapped = pred if fitted is None else logistic(pred, *fitted)
    return {
        "srcc": srcc(pred, target),
        "plcc": plcc(mapped, target),
        "krcc": krcc(pred, target),
        "rmse": rmse(mapped, target),
        "plcc_raw": plcc(pred, target),
        "rmse_raw": rmse(pred, target),
        "logistic_fit": float(fitted is not None),
    }


def jsd(p: Array, q: Array) -> Array:
    """Return the Jensen-Shannon divergence (N,) of (N, K) and (N, K) in nats, 0 to ln 2, with 0 log 0 = 0."""
    middle = (p + q) / 2
    return np.maximum(_relative_entropy(p, middle) + _relative_entropy(q, middle), 0) / 2  # rounding can be below 0


def emd(p: Array, q: Array) -> Array:
    """Return the earth mover's distance (N,) of (N, K) and (N, K), r = 2, as in the loss: RMS difference of CDFs."""
    return np.sqrt(((p.cumsum(1) - q.cumsum(1)) ** 2).mean(1))


def kl(p: Array, q: Array) -> Array:
    """Return the Kullback-Leibler divergence (N,) of labels q (N, K) from predictions p (N, K): sum q ln(q / p).

    Both are divided by their sum, since float32 rounding of sums could otherwise give negative values.
    """
    p, q = (x / x.sum(1, keepdims=True) for x in (p, q))
    return np.maximum(_relative_entropy(q, np.maximum(p, SMALLEST_SHARE)), 0)


def wasserstein(p: Array, q: Array, centers: Array) -> Array:
    """Return the Wasserstein-1 distance (N,) of (N, K) and (N, K) on bin centres (K,), in score units."""
    return (np.abs(p.cumsum(1) - q.cumsum(1))[:, :-1] * np.diff(centers)).sum(1)


def bin_rmse(p: Array, q: Array) -> Array:
    """Return the root mean squared difference over bins (N,) of (N, K) and (N, K)."""
    return np.sqrt(((p - q) ** 2).mean(1))


def intersection(p: Array, q: Array) -> Array:
    """Return the histogram intersection (N,) of (N, K) and (N, K), 0 to 1; 1 is best."""
    return np.minimum(p, q).sum(1)


def cosine(p: Array, q: Array) -> Array:
    """Return the cosine similarity (N,) of (N, K) and (N, K), 0 to 1; 1 is best."""
    return (p * q).sum(1) / np.sqrt((p**2).sum(1) * (q**2).sum(1))


DISTRIBUTION_METRICS = {
    "jsd": jsd,
    "emd": emd,
    "kl": kl,
    "dos_rmse": bin_rmse,
    "intersection": intersection,
    "cosine": cosine,
}


def probability_integral_transform(pred_dos: Array, target_mos: Array, centers: Array) -> Array:
    """Return the PIT (N,), 0 to 1: the share of a predicted distribution (N, K) below the MOS label (N,).

    Opinions are spread evenly over their bin; bins meet half-way between centres (K,), and the outer bins are
    symmetric.
    """
    centers = np.asarray(centers, dtype=np.float64)
    edges = bin_edges(centers)  # (K + 1,)
    k = np.searchsorted(edges[1:-1], target_mos, side="left")
    within = np.clip((target_mos - edges[k]) / (edges[k + 1] - edges[k]), 0, 1)
    rows = np.arange(len(pred_dos))
    share = pred_dos[rows, k]
    return np.clip(pred_dos.cumsum(1)[rows, k] - share + within * share, 0, 1)


def pit_histogram(pred_dos: Array, target_mos: Array, centers: Array) -> list[float]:
    """Return the share of images in each tenth of the PIT, for predictions (N, K) and MOS labels (N,)."""
    pit = probability_integral_transform(pred_dos, target_mos, centers)
    return (np.histogram(pit, bins=PIT_BINS, range=(0, 1))[0] / len(pit)).tolist()


def dos_coverage(pred_dos: Array, target_dos: Array, centers: Array) -> Array:
    """Return the share (N,) of label distributions (N, K) in the central 90 % of predicted distributions (N, K).

    Opinions are spread evenly over their bin, as in `probability_integral_transform`.
    """
    edges = bin_edges(np.asarray(centers, dtype=np.float64))  # (K + 1,)
    tail = (1 - CENTRAL_DOS / 100) / 2
    below = [np.insert(np.cumsum(dos, axis=1), 0, 0, axis=1) for dos in (pred_dos, target_dos)]  # (N, K + 1) each
    inside = [
        np.diff(np.interp(np.interp([tail, 1 - tail], pred, edges), edges, target))[0]
        for pred, target in zip(*below, strict=True)
    ]
    return np.array(inside)


def per_image_metrics(pred_dos: Array, target: dict[str, Array], centers: Array) -> dict[str, Array]:
    """Return the metrics of each image (N,) that `distribution_metrics` averages."""
    pred, dos = (np.asarray(x, dtype=np.float64) for x in (pred_dos, target["dos"]))
    if pred.ndim != 2 or pred.shape != dos.shape or len(pred) == 0:
        raise ValueError(f"predictions and labels must be two (N, K) arrays, got {pred.shape} and {dos.shape}")
    off_centre = np.abs(probability_integral_transform(pred, np.asarray(target["mos"]), centers) - 0.5)
    return {
        **{name: metric(pred, dos) for name, metric in DISTRIBUTION_METRICS.items()},
        "wasserstein": wasserstein(pred, dos, np.asarray(centers, dtype=np.float64)),
        **{f"coverage_{share}": (off_centre <= share / 200).astype(np.float64) for share in CENTRAL},
        f"coverage_dos_{CENTRAL_DOS}": dos_coverage(pred, dos, centers),
    }


def distribution_metrics(pred_dos: Array, target: dict[str, Array], centers: Array) -> dict[str, float]:
    """Return the agreement of predicted DOS (N, K) with labels, averaged over images.

    Args:
        pred_dos: Predictions, lowest score first.
        target: Labels `dos` (N, K) and `mos` (N,).
        centers: Score of each bin (K,), increasing.

    Returns:
        `jsd`, `emd`, `kl`, `dos_rmse` (over bins), `intersection`, `cosine`; `wasserstein` in score units;
        `coverage_50`, `_80`, `_95`: share of images whose MOS label is in the central 50, 80, 95 % of the predicted
        distribution. The distribution is that of single opinions, and a MOS, their mean, is near its middle, so good
        predictions cover more than 50, 80, 95 %. `coverage_dos_90`, see `dos_coverage`: 0.9 if well calibrated.

    Raises:
        ValueError: The arrays are empty or differ in shape.
    """
    return {name: float(values.mean()) for name, values in per_image_metrics(pred_dos, target, centers).items()}


def split_metrics(pred: dict[str, Array], target: dict[str, Array], centers: Array) -> dict[str, float]:
    """Return every metric of a test set: `score_metrics`, `sos_srcc`, `sos_plcc`, `distribution_metrics`.

    Args:
        pred: `mos` (N,), `sos` (N,) and, if the bins match those of the labels, `dos` (N, K), lowest score first.
        target: Labels `mos`, `sos` and `dos`.
        centers: Score of each bin (K,), increasing.
    """
    return {
        **score_metrics(pred["mos"], target["mos"]),
        "sos_srcc": srcc(pred["sos"], target["sos"]),
        "sos_plcc": plcc(pred["sos"], target["sos"]),
        **(distribution_metrics(pred["dos"], target, centers) if "dos" in pred else {}),
    }


def _relative_entropy(p: Array, q: Array) -> Array:
    ratio = np.divide(p, q, out=np.ones_like(p), where=p > 0)
    return (p * np.log(ratio)).sum(1)


def metric_title(metric: str) -> str:
    """Return the title of a metric, such as `SOS SRCC` for `sos_srcc`."""
    return metric.replace("_", " ").upper()


def as_numbers(values: list[float | None]) -> Array:
    """Convert metrics from JSON to float64, with NaN for null (not defined)."""
    return np.array([np.nan if value is None else value for value in values], dtype=np.float64)
