"""Predictions of a part of a database, as metrics, as a table, and with how sure the metrics are."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch.utils.data import DataLoader

from datasets.database import Database
from datasets.iqa import batches
from datasets.transforms import to_images
from models.fast import fast_model
from models.precision import FP32
from models.richiqa import RichIQA
from utils.bootstrap import confidence_intervals
from utils.distributed import gathered, world
from utils.errors import UserError
from utils.metrics import pit_histogram
from utils.progress import Progress
from utils.report import predictions_table

Array = np.ndarray


@torch.inference_mode()
def predict(model: RichIQA, loader: DataLoader, precision: str = FP32) -> Array:
    """Predicted DOS (N, K), float64, of every image of a loader, in its order, in a precision of `fast_model`.

    Of several processes each predicts its share, and all return the whole.

    Raises:
        UserError: The network predicts something that is not finite.
    """
    device = next(model.parameters()).device
    fast = fast_model(model.eval(), precision)
    loader.sampler.set_position(epoch=0)
    predicted = []
    with Progress("evaluation", len(loader), "batch") as progress:
        for batch in batches(loader):
            predicted.append(fast(to_images(batch["image"].to(device, non_blocking=True))))  # (B, K)
            progress.update(images=len(batch["image"]) * world())
    # copied once, so that no batch waits for the one before; a process may have had no image
    own = [torch.cat(predicted).cpu().double().numpy()] if predicted else []
    predicted = np.concatenate(gathered(own))
    if not np.isfinite(predicted).all():
        raise UserError(
            "the network predicts values that are not finite; start again with a smaller optim.lr or with "
            "optim.clip_norm=1"
        )
    return predicted


def table(database: Database, names: Sequence[str], dos: Array) -> pd.DataFrame:
    """One row per image, from predicted distributions (N, K)."""
    images = [database.records[name].image for name in names]
    return predictions_table(images, database.quantities(dos), database.targets(names))


def details(database: Database, names: Sequence[str], dos: Array) -> dict[str, Any]:
    """What is said beside the metrics of predicted distributions (N, K), for metrics.json.

    Returns:
        `noise_ceiling`: two estimates of what a perfect predictor would reach, None where no votes are on file;
        `intervals`: 95 % intervals of every metric; `interval_units`: the `unit` that these were drawn by, the
        reference or image set where splits are made by it, and the `count` of them; `pit_histogram`: share of images
        in each tenth of PIT, None where the bins of the network are not those of the labels.
    """
    units = database.units(names)
    pred, target, centers = database.quantities(dos), database.targets(names), database.scale.bin_centers
    return {
        "noise_ceiling": database.ceiling(names),
        "intervals": confidence_intervals(pred, target, centers, units),
        "interval_units": {"unit": database.unit, "count": len(set(units))},
        "pit_histogram": pit_histogram(pred["dos"], target["mos"], centers) if "dos" in pred else None,
    }
