"""Results of a network, read from the folders that `main.py --evaluate` writes, or from that of its training.

N images, K bins.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from datasets.decoding import load_image
from datasets.readers import with_defaults
from datasets.scale import RatingScale
from experiments.evaluation.test_images import OPTIMISTIC
from experiments.results.results import read_predictions, undamaged
from experiments.schema import EvaluationMetrics, SplitMetrics
from experiments.training.calibration import tempered
from experiments.training.run_folder import BEST, LAST, METRICS, PREDICTIONS, read_checked
from models.weights import TrainedNetwork
from scoring.predictor import Predictor
from utils.errors import MissingFileError, UserError
from utils.metrics import CENTRAL, CENTRAL_DOS, distribution_metrics, pit_histogram

COVERAGES = (*(f"coverage_{share}" for share in CENTRAL), f"coverage_dos_{CENTRAL_DOS}")
CHECKED = 3  # images of each evaluation that are scored again
TOLERANCE = 0.01  # of a share

Array = np.ndarray


@dataclass(frozen=True)
class Calibration:
    """Coverages by metric, and the share of images in each tenth of the PIT."""

    coverage: dict[str, float]
    pit: list[float]


@dataclass(frozen=True)
class DatabaseResults:
    """The metrics of a network on one database.

    Args:
        title: Title of the database.
        scale: Its rating scale.
        metrics: metrics.json of an evaluation, of which this class needs `databases` and `intervals`, and its users
            `images`, `part`, `own` and `trained_on`.
    """

    title: str
    scale: RatingScale
    metrics: dict[str, Any]

    def interval(self, metric: str) -> tuple[float | None, float | None]:
        """Return both ends of the 95 % interval of a metric; None if it is not known."""
        return tuple(self.metrics["intervals"].get(self.title, {}).get(metric) or (None, None))


@dataclass(frozen=True)
class Evaluation(DatabaseResults):
    """The evaluation of a network on one database.

    Args:
        root: Folder of its images.
        predictions: Rows of predictions.csv.
    """

    root: Path
    predictions: pd.DataFrame

    @classmethod
    def read(cls, folder: Path) -> "Evaluation":
        """Return the evaluation in a folder.

        Raises:
            UserError: A file is missing, damaged or of older code.
        """
        metrics = read_checked(folder / METRICS, EvaluationMetrics)
        if metrics.get("scale") is None:
            raise UserError(f"{folder / METRICS} does not contain the rating scale; repeat the evaluation")
        (title,) = metrics["databases"]
        predictions = undamaged(folder / PREDICTIONS, lambda path: read_predictions(path, [title]))
        scale = RatingScale(**metrics["scale"])
        return cls(title, scale, metrics, Path(metrics["target"]["root"]), predictions)

    def dos(self, side: str) -> Array | None:
        """Return the distributions (N, K) of `target` or `pred`; None if the network has other bins."""
        columns = [f"{side}_p{k}" for k in range(1, self.scale.num_bins + 1)]
        present = set(columns) <= set(self.predictions.columns)
        return self.predictions[columns].to_numpy(dtype=np.float64) if present else None

    def calibration(self, temperature: float) -> Calibration | None:
        """Return the calibration with the logits divided by another temperature, relative to that of the network."""
        pred, target, mos = self.dos("pred"), self.dos("target"), self.predictions["target_mos"].to_numpy()
        if pred is None:
            return None
        dos, centers = tempered(pred, temperature), np.array(self.scale.bin_centers)
        measured = distribution_metrics(dos, {"dos": target, "mos": mos}, centers)
        return Calibration({name: measured[name] for name in COVERAGES}, pit_histogram(dos, mos, centers))

    def errors(self) -> Array:
        """Return predicted minus labelled MOS (N,)."""
        return (self.predictions["pred_mos"] - self.predictions["target_mos"]).to_numpy(dtype=np.float64)

    def worst(self, count: int) -> pd.DataFrame:
        """Return the rows of predictions.csv with the largest errors of MOS, the largest first."""
        return self.predictions.iloc[np.argsort(-np.abs(self.errors()), kind="stable")[:count]]

    def require_network(self, predictor: Predictor) -> None:
        """Check, by scoring a few images again, that a network made these predictions.

        Raises:
            MissingFileError: An image is not available.
            UserError: Another network did.
        """
        pred = self.dos("pred")
        for number, name in enumerate(self.predictions["image"][:CHECKED] if pred is not None else ()):
            dos = np.array(predictor(load_image(self.root / name)).dos)
            dos = dos[::-1] if self.metrics["turned"] else dos
            if np.abs(dos - pred[number]).max() > TOLERANCE:
                raise UserError(
                    f"{predictor.checkpoint} predicts another distribution for {name} than the evaluation on "
                    f"{self.title} did; evaluate this file, in another folder"
                )


def read_evaluations(folders: Sequence[Path]) -> list[Evaluation]:
    """Return the evaluations in folders and their subfolders, those of databases that were trained on first.

    Raises:
        MissingFileError: A folder contains none.
        UserError: A database occurs twice.
    """
    found = []
    for folder in folders:
        inside = [path.parent for path in sorted(folder.rglob(METRICS))]
        if not inside:
            raise MissingFileError(f"--evaluations: {folder} contains no {METRICS}; `main.py --evaluate` writes it")
        found += map(Evaluation.read, inside)
    titles = [evaluation.title for evaluation in found]
    repeated = sorted({title for title in titles if titles.count(title) > 1})
    if repeated:
        raise UserError(f"--evaluations: {', '.join(repeated)} evaluated more than once; name one folder for each")
    return sorted(found, key=lambda evaluation: (not evaluation.metrics["own"], evaluation.title))


def training_results(network: TrainedNetwork) -> list[DatabaseResults]:
    """Return the test results in the metrics.json beside a best.pt or last.pt; none if there is no such file.

    That file has intervals of the last epoch only.
    """
    path = network.path
    if path.name not in (BEST, LAST) or network.origin is None or not (path.parent / METRICS).is_file():
        return []
    metrics = read_checked(path.parent / METRICS, SplitMetrics)
    last = path.name == LAST or metrics["selected_epoch"] == metrics["epoch"]
    scores = metrics if path.name == LAST else metrics["selected"]
    optimistic = f", {OPTIMISTIC}" if path.name == BEST and metrics["selection"] == "release" else ""
    results = []
    for settings in with_defaults(network.config).dataset:
        images = len(network.origin["databases"][settings.title]["test"])
        entry = {
            **{"images": images, "part": f"the {images} test images of the network's own split{optimistic}"},
            **{"own": True, "trained_on": 0},
            **{"databases": scores["databases"], "intervals": metrics["intervals"] if last else {}},
        }
        results.append(DatabaseResults(settings.title, RatingScale.from_settings(settings.scale), entry))
    return results
