"""Set up one split: network, loss, data loaders and run folder."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader

from datasets.database import Database, load_databases
from datasets.dataset import JoinedDataset
from datasets.loader import make_loader
from datasets.splits import Split
from experiments.training.run_folder import RunFolder
from experiments.training.selection import PARTS
from experiments.training.state import TrainingState
from losses import JointLoss, build_loss
from models import RichIQA, build_model
from models.sync_batchnorm import synchronise
from utils.distributed import barrier, broadcast_from_main, in_turns, is_distributed, is_main, world
from utils.errors import UserError, one_line
from utils.files import AGAIN
from utils.runtime import Interruption, derive_seed, seed_everything
from utils.schema import TRAIN_MOS, VERSION
from utils.settings import Config


@dataclass(frozen=True)
class EvaluatedPart:
    """The images of one part of one database."""

    database: Database
    names: tuple[str, ...]
    loader: DataLoader


Parts = dict[str, list[EvaluatedPart]]  # by name


def build_loaders(
    config: Config, databases: Sequence[Database], splits: Sequence[Split], seed: int, pin_memory: bool
) -> tuple[DataLoader, Parts]:
    """Return the training loader over all databases, and by name the evaluated parts of each database.

    Raises:
        UserError: A batch is larger than the training part.
    """
    size = config.train.batch_size
    pairs = list(zip(databases, splits, strict=True))
    train = JoinedDataset([db.dataset(split.train, config.transform, train=True) for db, split in pairs])
    if size > len(train):
        raise UserError(f"train.batch_size: {size} is more than the {len(train)} training images; set a smaller one")
    options = {"workers": config.train.workers, "pin_memory": pin_memory}
    test_options = {**options, "image_bytes": 3 * config.transform.test_side**2}
    parts = {
        part: [
            EvaluatedPart(db, names, make_loader(db.dataset(names, config.transform), size, **test_options))
            for db, names in ((db, getattr(split, part)) for db, split in pairs)
            if names
        ]
        for part in PARTS
        if any(getattr(split, part) for split in splits)
    }
    together = size // config.train.accumulate
    damaged = math.ceil(round(config.transform.damage * together / world(), 9)) * world()  # without float noise
    options |= {"together": together, "damaged": damaged, "image_bytes": 3 * config.transform.crop**2}
    return make_loader(train, size, seed=seed, train=True, **options), parts


@dataclass(frozen=True)
class SplitRun:
    """One split of a run: its config, databases and folder."""

    config: Config
    number: int
    databases: tuple[Database, ...]
    splits: tuple[Split, ...]
    folder: RunFolder
    interruption: Interruption

    def check_resume(self, resume: bool) -> tuple[bool, bool]:
        """Return whether the split is finished, and whether it continues from a saved state; both False without resume.

        Raises:
            UserError: The images or labels have changed since the split was started.
        """
        finished, resuming = broadcast_from_main((self.folder.finished and resume, self.folder.resumable and resume))
        if finished or resuming:
            self.folder.require_same_data(self.describe_origin())
        return finished, resuming

    def describe_origin(self) -> dict:
        """Return the content of split.json: for each database the images of each part, and its label recipe."""
        databases = {
            database.title: {
                **split.as_dict(),
                "labels": {**asdict(database.recipe), "hash": database.hash, "mos_hash": database.mos_hash},
            }
            for database, split in zip(self.databases, self.splits, strict=True)
        }
        labels = [
            database.scale.normalised(database.targets(split.train)["mos"])
            for database, split in zip(self.databases, self.splits, strict=True)
        ]
        percentiles = np.percentile(np.concatenate(labels), range(101)).round(5).tolist()
        return {"version": VERSION, "databases": databases, TRAIN_MOS: percentiles}


def load_runs(config: Config, folders: dict[int, RunFolder], interruption: Interruption) -> list[SplitRun]:
    """Load the databases of a config, print how their labels are made, and return the splits by their folders."""
    with in_turns():  # the first process writes the demo database
        databases = load_databases(config)
    for database in databases:
        split = f"; {database.split_method(config)} split" if config.protocol.method == "auto" else ""
        print(f"{database.title}: {database.recipe.describe()}{split}")
    return [
        SplitRun(config, number, databases, tuple(db.split(config, number) for db in databases), folder, interruption)
        for number, folder in folders.items()
    ]


def set_up(run: SplitRun, device: torch.device) -> tuple[RichIQA, JointLoss, DataLoader, Parts]:
    """Return the network, untrained and on the CPU, the loss, the training loader and the evaluated parts."""
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
    with in_turns():  # the first process fills a disk cache
        loaders = build_loaders(config, run.databases, run.splits, seed, pin_memory=device.type == "cuda")
    return model, loss, *loaders


@contextmanager
def open_folder(
    run: SplitRun, state: TrainingState, steps: int, resuming: bool, ancestors: dict[str, Any], delete_others: bool
) -> Iterator[None]:
    """Lock the folder of a split, then restore the saved state or begin the folder.

    Args:
        run: The split.
        state: Training state, restored in place.
        steps: Number of steps in an epoch.
        resuming: Whether to restore the saved state.
        ancestors: What split.json says of earlier training, see `describe_ancestors`.
        delete_others: Whether to delete the other splits of the run.

    Raises:
        UserError: The folder cannot be read or written, here or in the block.
    """
    with run.folder.lock() if is_main() else nullcontext(), resumable():
        barrier()  # no process reads or writes before the folder is locked
        if resuming:
            run.folder.restore(state)
            print(f"split {run.number}: resuming {state.position(steps)}")
        else:
            if delete_others:
                run.folder.delete_other_splits()
            run.folder.begin(run.config, {**run.describe_origin(), **ancestors})
        yield


@contextmanager
def resumable() -> Iterator[None]:
    """Add to an error about a file that cannot be written that --resume continues the run."""
    try:
        yield
    except UserError as error:
        if not str(error).endswith(AGAIN):
            raise
        raise type(error)(f"{error} with --resume") from error.__cause__


def require_size(model: torch.nn.Module, config: Config) -> None:
    """Check, before anything is written, that the backbone accepts the image sizes."""
    sides = {config.transform.test_side: "test_crop", config.transform.crop: "crop"}  # often the same
    for side, name in sides.items():
        try:
            with torch.inference_mode():
                model.eval()(torch.zeros(1, 3, side, side))
        except (RuntimeError, AssertionError, ValueError) as error:  # raised by torch and timm
            raise UserError(
                f"transform.{name}: {config.model.backbone} cannot take images of {side} pixels ({one_line(error)}); "
                "use another size"
            ) from error
