"""Build the loss of a config."""

from collections.abc import Sequence
from dataclasses import replace

from datasets.database import Database
from datasets.labels import fit_sos_a
from datasets.splits import Split
from losses.joint import JointLoss
from utils.settings import Config


def build_loss(config: Config, databases: Sequence[Database], splits: Sequence[Split]) -> JointLoss:
    """Return the loss of a run; `sos_a: fit` is fitted to the training labels of each database, and printed."""
    given = config.loss.sos_a
    sos_a = list(given) if isinstance(given, tuple) else [given] * len(databases)
    for number, (database, split) in enumerate(zip(databases, splits, strict=True)):
        if sos_a[number] == "fit":
            labels = database.targets(split.train)
            sos_a[number] = fit_sos_a(labels["mos"], labels["sos"], database.scale)
            print(f"{database.title}: sos_a {sos_a[number]:.4f}, fitted to the training part")
    return JointLoss(
        # the network's bins are ordered from worst to best
        [replace(database.scale, higher_is_better=not database.reversed_bins) for database in databases],
        database_weights=[database.weight for database in databases],
        best_last=config.scale.higher_is_better,
        **{**config.loss.model_dump(), "sos_a": sos_a},
    )
