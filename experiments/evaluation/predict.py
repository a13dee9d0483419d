"""Predictions on a part of a database, their tables and metrics, and the confidence intervals of the metrics."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch.utils.data import DataLoader

from datasets.database import Database
from datasets.loader import batches
from datasets.transforms import to_images
from experiments.training.calibration import fit_temperature, tempered
from experiments.training.precision import scoring_precision
from experiments.training.selection import final_metrics
from experiments.training.setup import EvaluatedPart, SplitRun
from experiments.training.state import TrainingState
from models.fused import fused_model
from models.precision import FP32
from models.richiqa import RichIQA
from utils.bootstrap import confidence_intervals
from utils.distributed import gathered, main_process_only, world
from utils.errors import UserError
from utils.metrics import IN_UNITS, pit_histogram
from utils.progress import Progress
from utils.settings import Config

Array = np.ndarray


@torch.inference_mode()
def predict(model: RichIQA, loader: DataLoader, precision: str = FP32) -> Array:
    """Return the predicted DOS (N, K), float64, of every image of a loader, in its order.

    With several processes, each predicts its share of the images and all return the whole.

    Args:
        model: Network.
        loader: Loader of the images.
        precision: Precision of `models.fused.fused_model`.

    Raises:
        UserError: A prediction is not finite.
    """
    device = next(model.parameters()).device
    fused = fused_model(model.eval(), precision)
    loader.sampler.set_position(epoch=0)
    predicted = []
    with Progress("evaluation", len(loader), "batch") as progress:
        for batch in batches(loader):
            predicted.append(fused(to_images(batch["image"].to(device, non_blocking=True))))  # (B, K)
            progress.update(images=len(batch["image"]) * world())
    # copied once, so that no batch waits for the previous one; a process may have no image
    own = [torch.cat(predicted).cpu().double().numpy()] if predicted else []
    predicted = np.concatenate(gathered(own))
    if not np.isfinite(predicted).all():
        raise UserError(
            "the network predicts values that are not finite; start again with a smaller optim.lr, or with "
            "optim.clip_norm=1"
        )
    return predicted


@dataclass(frozen=True)
class Predictions:
    """The predicted DOS (N, K) of N images of a database."""

    database: Database
    names: Sequence[str]
    dos: Array

    def table(self) -> pd.DataFrame:
        """Return a table with one row per image.

        Columns: image, target_mos, pred_mos, target_sos, pred_sos, target_p1..pK, pred_p1..pK; the latter only if the
        network's bins are those of the labels.
        """
        pred, target = self.database.quantities(self.dos), self.database.targets(self.names)
        columns = {"image": [self.database.records[name].image for name in self.names]}
        for quantity in ("mos", "sos"):
            columns |= {"target_" + quantity: target[quantity], "pred_" + quantity: pred[quantity]}
        for side, values in (("target", target), ("pred", pred)):
            shares = values["dos"].T if "dos" in values else ()
            columns |= {f"{side}_p{k}": column for k, column in enumerate(shares, start=1)}
        return pd.DataFrame(columns)

    def tempered(self, temperature: float) -> "Predictions":
        """Return what the network would predict with its logits divided by a temperature."""
        return replace(self, dos=tempered(self.dos, temperature))

    def details(self) -> dict[str, Any]:
        """Return what metrics.json contains besides the metrics.

        Returns:
            `noise_ceiling`: two estimates of what a perfect predictor would reach, None if the database has no votes.
            `intervals`: 95 % interval of each metric. `interval_units`: the `unit` that the bootstrap draws, the
            reference or image set if splits keep it together, and their `count`. `pit_histogram`: share of images in
            each tenth of the PIT, None if the network's bins are not those of the labels.
        """
        units, centers = self.database.units(self.names), self.database.scale.bin_centers
        pred, target = self.database.quantities(self.dos), self.database.targets(self.names)
        return {
            "noise_ceiling": self.database.ceiling(self.names),
            "intervals": confidence_intervals(pred, target, centers, units),
            "interval_units": {"unit": self.database.unit, "count": len(set(units))},
            "pit_histogram": pit_histogram(pred["dos"], target["mos"], centers) if "dos" in pred else None,
        }


def calibrate(predicted: dict[str, list[Predictions]]) -> tuple[dict[str, list[Predictions]], float]:
    """Return the predictions of each part with the temperature that suits the validation part, and this temperature."""
    validation = predicted["validation"]
    labels = [each.database.turned(each.database.targets(each.names)["dos"]) for each in validation]
    temperature = fit_temperature([each.dos for each in validation], labels)
    return {name: [each.tempered(temperature) for each in parts] for name, parts in predicted.items()}, temperature


def predict_parts(state: TrainingState, parts: Sequence[EvaluatedPart], config: Config) -> list[Predictions]:
    """Return the predictions for a part of each database, by the network that is kept."""
    precision = scoring_precision(config.train.precision)
    return [
        Predictions(part.database, part.names, predict(state.scored_model, part.loader, precision)) for part in parts
    ]


def predict_last(state: TrainingState, parts: Sequence[EvaluatedPart], config: Config) -> list[Predictions]:
    """Return the predictions for a part after the last epoch, with the temperature that was fitted then."""
    predicted, temperature = predict_parts(state, parts, config), state.history[-1].get("temperature")
    return predicted if temperature is None else [each.tempered(temperature) for each in predicted]


def part_metrics(predictions: Sequence[Predictions]) -> dict[str, Any]:
    """Return the metrics of a part of each database, see `joined_metrics`."""
    return joined_metrics({each.database.title: each.database.metrics(each.names, each.dos) for each in predictions})


def details(predictions: Sequence[Predictions]) -> dict[str, dict[str, Any]]:
    """Return the details of a part of each database, by key and title."""
    by_title = {each.database.title: each.details() for each in predictions}
    keys = next(iter(by_title.values()))
    return {key: {title: values[key] for title, values in by_title.items()} for key in keys}


def joined_metrics(metrics: dict[str, dict[str, float]]) -> dict[str, Any]:
    """Return the means over databases of the metrics by title, and under `databases` the metrics themselves.

    Metrics in units of the scale have no mean over several databases, since their scales differ.
    """
    names = [name for name in next(iter(metrics.values())) if len(metrics) == 1 or name not in IN_UNITS]
    means = {name: float(np.mean([scores[name] for scores in metrics.values()])) for name in names}
    return {**means, "databases": metrics}


@main_process_only
def finish_split(state: TrainingState, predictions: Sequence[Predictions], run: SplitRun) -> None:
    """Write the predictions of the test parts after the last epoch, and the metrics."""
    tables = {each.database.title: each.table() for each in predictions}
    table = pd.concat(tables, names=["database"]).reset_index("database", drop=len(tables) == 1)
    run.folder.finish(table, final_metrics(state, run.config, details(predictions)))
