"""Metrics of random and degenerate inputs beside SciPy's, and trainings on odd labels."""

import json
import math
import re
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image
from scipy import stats
from scipy.spatial.distance import jensenshannon
from scipy.special import rel_entr

from main import main
from tests.running import ROOT
from tests.torture.part import Outcome, Part
from utils import metrics
from utils.errors import UserError

INPUTS = 1_000  # that an attempt compares
SAME = 1e-6  # relative and absolute: sums of numbers far from zero lose digits in both

Array = np.ndarray
Rng = np.random.Generator

VECTORS: tuple[Callable[[Rng, int], Array], ...] = (
    lambda rng, n: rng.normal(size=n),
    lambda rng, n: rng.uniform(1, 5, n),
    lambda rng, n: rng.integers(0, 3, n).astype(float),  # mostly ties
    lambda rng, n: np.full(n, rng.choice([0.0, 0.1, 3.3, -1e6])),
    lambda rng, n: np.eye(n)[0] * rng.normal(),  # one differs
    lambda rng, n: 1e6 + rng.normal(size=n),
    lambda rng, n: rng.normal(size=n) * 10.0 ** rng.integers(-60, 60),
    lambda rng, n: np.exp(20 * rng.normal(size=n)),
    lambda rng, n: np.float32(rng.uniform(1, 5, n)).astype(float),
)
SHARES: tuple[Callable[[Rng, int], Array], ...] = (
    lambda rng, k: rng.dirichlet(np.ones(k)),
    lambda rng, k: rng.dirichlet(np.full(k, 0.01)),  # nearly one bin, others may be 0
    lambda rng, k: np.eye(k)[rng.integers(k)],
    lambda _, k: np.full(k, 1 / k),
    lambda rng, k: np.float32(rng.dirichlet(np.ones(k))).astype(float),
    lambda rng, k: rng.multinomial(25, rng.dirichlet(np.ones(k))) / 25,
)


def compare_metrics(number: int, folder: Path, prepared: Path) -> Outcome:
    """Compare INPUTS pairs of vectors and of distributions; a twentieth of them are equal, as many reversed."""
    rng = np.random.default_rng(number)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # SciPy's, about constant vectors
        for index in range(INPUTS):
            n, k = int(rng.integers(2, 60)), int(rng.integers(2, 12))
            x, y = (rng.choice(VECTORS)(rng, n) for _ in range(2))
            p, q = (rng.choice(SHARES)(rng, k) for _ in range(2))
            if index % 20 == 0:
                x, p = y.copy(), q.copy()
            elif index % 20 == 1:
                x = -y
            wrong = _wrong_correlations(x, y) or _wrong_distances(p, q, np.sort(rng.uniform(size=k)))
            if wrong:
                return Outcome(f"{wrong}, input {index}")
    return Outcome()


def _wrong_correlations(x: Array, y: Array) -> str:
    constant = np.ptp(x) == 0 or np.ptp(y) == 0
    for name, theirs in (("srcc", stats.spearmanr), ("plcc", stats.pearsonr), ("krcc", stats.kendalltau)):
        ours = getattr(metrics, name)(x, y)
        expected = math.nan if constant else float(theirs(x, y).statistic)
        if not np.isclose(ours, expected, rtol=SAME, atol=SAME, equal_nan=True):
            return f"{name} is {ours}, not {expected}"
    return ""


def _wrong_distances(p: Array, q: Array, centers: Array) -> str:
    cumulated = np.abs(np.cumsum(p) - np.cumsum(q))
    expected = {
        "jsd": np.nan_to_num(jensenshannon(p, q)) ** 2,  # the root of a sum that rounding can make negative
        "emd": math.sqrt(np.mean(cumulated**2)),
        "kl": rel_entr(q, np.maximum(p, metrics.SMALLEST_SHARE)).sum(),
        "wasserstein": stats.wasserstein_distance(centers, centers, p, q),
    }
    for name, value in expected.items():
        more = (centers,) if name == "wasserstein" else ()
        ours = float(getattr(metrics, name)(p[None], q[None], *more)[0])
        if not np.isclose(ours, value, rtol=SAME, atol=SAME):
            return f"{name} is {ours}, not {value}"
    return ""


@dataclass(frozen=True)
class OddLabels:
    """Labels of a few images, overrides of the config, and the error they lead to; empty if the run ends well."""

    name: str
    mos: Sequence[float] = tuple(2 + index / 8 for index in range(16))
    sos: float = 0.5
    options: tuple[str, ...] = ()
    error: str = ""


ODD = (
    OddLabels("ordinary"),
    OddLabels("same MOS", (3.0,) * 16),
    OddLabels("SOS of 0", sos=0.0),
    OddLabels("same MOS, SOS of 0", (3.0,) * 16, 0.0, ("dataset.dos=max_entropy",)),
    OddLabels("only the ends of the scale", (1.0, 5.0) * 8, 0.0, ("dataset.dos=max_entropy",)),
    OddLabels("one image", (3.0,), error="leave the .* part of split 1 empty"),
    OddLabels("two images", (2.0, 3.0), error="train"),
    OddLabels("no training image", options=("protocol.train_fraction=0.01",), error="leave the train part"),
    OddLabels("no test image", options=("protocol.train_fraction=0.99",), error="leave the test part"),
    OddLabels(
        "one validation image",
        options=("protocol.validation_fraction=0.0625", "protocol.selection=validation"),
        error="the validation part of split 1 .*has one image",
    ),
    OddLabels("exploding", options=("optim.lr=1e30",), error="not finite"),
    OddLabels("exploding, skipped", options=("optim.lr=1e30", "train.on_nonfinite=skip"), error="not finite"),
    OddLabels("exploding in bfloat16", options=("optim.lr=1e30", "train.precision=bf16"), error="not finite"),
    OddLabels("loss beyond float32", options=("loss.mos=1e39",), error="not finite"),
)


def train_on_odd_labels(number: int, folder: Path, prepared: Path) -> Outcome:
    """Train on a few images; the run ends with valid JSON, or with the expected error."""
    odd, rng = ODD[number], np.random.default_rng(number)
    images = [f"{index}.png" for index in range(len(odd.mos))]
    for image in images:
        Image.fromarray(rng.integers(256, size=(40, 40, 3), dtype=np.uint8)).save(folder / image)
    pd.DataFrame({"image": images, "mos": odd.mos, "sos": odd.sos}).to_csv(folder / "labels.csv", index=False)
    quick = ("transform.resize=40", "transform.crop=32", "model.backbone=cvt_nano", "model.pretrained=none")
    small = ("train.epochs=2", "train.batch_size=2", "train.device=cpu", "train.workers=0", "protocol.splits=1")
    place = (f"run.root={folder / 'runs'}", "run.name=odd", f"dataset.root={folder}", "dataset.labels=labels.csv")
    scale = ("scale.low=1", "scale.high=5", "scale.bin_centers=[1,2,3,4,5]")
    try:
        main(["--config", str(ROOT / "configs" / "custom.yaml"), *place, *scale, *quick, *small, *odd.options])
    except UserError as error:
        expected = odd.error and re.search(odd.error, str(error)) and "\n" not in str(error)
        return Outcome("" if expected else f"{odd.name}: {error}")
    if odd.error:
        return Outcome(f"{odd.name}: ended well, without the error `{odd.error}`")
    metrics_file = folder / "runs" / "odd" / "split_01" / "metrics.json"
    json.loads(metrics_file.read_text(encoding="utf-8"), parse_constant=_refuse)
    return Outcome()


def _refuse(constant: str) -> None:
    raise ValueError(f"metrics.json contains {constant}")


PARTS = (
    Part(
        "metrics",
        "metrics of random, tied, constant, tiny, huge and one-hot inputs",
        "SRCC, PLCC, KRCC, JSD, EMD, KL and Wasserstein are SciPy's or the closed form, to 1e-6",
        100,
        compare_metrics,
        inputs=INPUTS,
    ),
    Part(
        "odd_labels",
        "trainings on equal labels, SOS of 0, one image, empty parts, exploding weights",
        "the run ends with valid results, or with one clear error",
        len(ODD),
        train_on_odd_labels,
    ),
)
