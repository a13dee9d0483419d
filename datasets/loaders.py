"""The loaders of a run: one for training on all databases, one for each evaluated part of each."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch.utils.data import DataLoader

from datasets.database import Database
from datasets.iqa import JoinedDataset, make_loader
from datasets.splits import Split
from utils.errors import UserError
from utils.settings import Config

EVALUATED = ("validation", "test")


@dataclass(frozen=True)
class EvaluatedPart:
    """The images of one part of one database."""

    database: Database
    names: tuple[str, ...]
    loader: DataLoader


def build_loaders(
    config: Config, databases: Sequence[Database], splits: Sequence[Split], seed: int, pin_memory: bool
) -> tuple[DataLoader, dict[str, list[EvaluatedPart]]]:
    """The training loader over all databases, and by name the parts that are evaluated, of every database.

    Raises:
        UserError: A batch is larger than the training part.
    """
    size = config.train.batch_size
    pairs = list(zip(databases, splits, strict=True))
    train = JoinedDataset([db.dataset(split.train, config.transform, train=True) for db, split in pairs])
    if size > len(train):
        raise UserError(f"train.batch_size: {size} is more than the {len(train)} training images; make it smaller")
    options = {"workers": config.train.workers, "pin_memory": pin_memory}
    parts = {
        part: [
            EvaluatedPart(db, names, make_loader(db.dataset(names, config.transform), size, **options))
            for db, names in ((db, getattr(split, part)) for db, split in pairs)
            if names
        ]
        for part in EVALUATED
        if any(getattr(split, part) for split in splits)
    }
    together = size // config.train.accumulate
    return make_loader(train, size, seed=seed, train=True, together=together, **options), parts
