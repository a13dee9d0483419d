"""What a split needs before its first step: network, loss and loaders; nothing is written here."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import torch
from torch.utils.data import DataLoader

from datasets.database import Database
from datasets.dataset import JoinedDataset
from datasets.loader import make_loader
from datasets.splits import Split
from experiments.training.run_folder import RunFolder
from losses import JointLoss, build_loss
from models import RichIQA, build_model
from models.sync_batchnorm import synchronise
from models.weights import load_pretrained
from utils.distributed import in_turns, is_distributed
from utils.errors import UserError, one_line
from utils.runtime import Interruption, derive_seed, seed_everything
from utils.schema import VERSION
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


@dataclass(frozen=True)
class SplitRun:
    """One split of a run: what it is trained on and where it is written."""

    config: Config
    number: int
    databases: tuple[Database, ...]
    splits: tuple[Split, ...]
    folder: RunFolder
    interruption: Interruption

    def describe_origin(self) -> dict:
        """What split.json says of each database, by title: the names of each part, and how the labels were made."""
        databases = {
            database.title: {
                **split.as_dict(),
                "labels": {**asdict(database.recipe), "hash": database.hash, "mos_hash": database.mos_hash},
            }
            for database, split in zip(self.databases, self.splits, strict=True)
        }
        return {"version": VERSION, "databases": databases}


Parts = dict[str, list[EvaluatedPart]]  # by name


def try_set_up(run: SplitRun, device: torch.device, resume: bool) -> None:
    """Shows mistakes before anything is deleted, loads weights and fills a cache on the disk, once for all splits."""
    model, *_ = set_up(run, device)
    if not resume:
        load_pretrained(model, run.config.model)


def set_up(run: SplitRun, device: torch.device) -> tuple[RichIQA, JointLoss, DataLoader, Parts]:
    """Network, untrained and on the CPU, loss, training loader and evaluated parts of a split; writes nothing."""
    config = run.config
    seed = derive_seed(config.seed, run.number)
    seed_everything(seed)
    model = build_model(config.model, len(config.scale.bin_centers))
    if config.train.checkpointing:
        model.backbone.checkpoint_blocks()
    require_size(model, config)
    if is_distributed():
        synchronise(model)
    loss = build_loss(config, run.databases, run.splits)
    with in_turns():  # the first fills a cache on the disk
        loaders = build_loaders(config, run.databases, run.splits, seed, pin_memory=device.type == "cuda")
    return model, loss, *loaders


def require_size(model: torch.nn.Module, config: Config) -> None:
    """Refuses an image size that the backbone cannot take, before anything is written."""
    crop = config.transform.crop
    try:
        with torch.inference_mode():
            model.eval()(torch.zeros(1, 3, crop, crop))
    except (RuntimeError, AssertionError, ValueError) as error:  # what torch and timm say of a size
        raise UserError(
            f"transform.crop: {config.model.backbone} cannot take images of {crop} pixels ({one_line(error)}); use "
            "another size"
        ) from error
