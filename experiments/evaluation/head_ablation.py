"""Ablations of everything behind the backbone: heads trained on the features of a frozen backbone, in seconds each.

The features of a database are computed once. For each variant of a config and each split, a head with random weights is
trained on them with the loss and the labels of that variant, and its last epoch is tested.

C sum of the stage widths, K bins, N images, V views.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from datasets.database import Database, load_databases
from datasets.splits import Split
from datasets.transforms import build_test_crop, build_train_crop, seeded, to_images
from experiments.results.statistics import compare, describe
from experiments.results.summary.tables import p_value
from experiments.results.tables import metric_heading
from experiments.training.state import TrainingState
from losses import build_loss
from models import RichIQA, build_model
from models.weights import TrainedNetwork
from utils.errors import UserError
from utils.progress import Progress
from utils.runtime import derive_seed, seed_everything
from utils.settings import Config
from utils.tables import mean_std, number, to_markdown

METRICS = ("srcc", "plcc", "sos_srcc", "emd", "jsd")


@dataclass(frozen=True)
class Features:
    """The pooled features of a database's images by a frozen backbone.

    Args:
        rows: Position of each image by name.
        test: Features (N, C) of the central crops.
        train: Features (V, N, C) of random crops, some of them mirrored.
        columns: First and last column, exclusive, of each stage's features.
    """

    rows: dict[str, int]
    test: Tensor
    train: Tensor
    columns: tuple[tuple[int, int], ...]


def extract(network: TrainedNetwork, database: Database, config: Config, views: int) -> Features:
    """Return the features of all images of a database, in the transform of a config.

    Args:
        network: Network whose backbone, with all its stages, is used.
        database: Database.
        config: Config, of which `transform`, `seed` and `train.batch_size` are used.
        views: Number of random crops of each image.

    Raises:
        UserError: The network does not use all stages of its backbone.
    """
    model = network.model.eval()
    if model.stages != tuple(range(1, len(model.backbone.widths) + 1)):
        raise UserError(f"{network.path}: model.stages is {list(model.stages)}; name a network that was trained on all")
    names = sorted(database.records)
    images = [database.records[name].image for name in names]
    open_image = database.source.opener(images, config.transform.resize)
    test, train = build_test_crop(config.transform), build_train_crop(config.transform)
    found = torch.empty(1 + views, len(names), sum(model.backbone.widths))  # the centre is first
    with Progress("features", len(names), "image") as progress, torch.inference_mode():
        for row, image in enumerate(map(open_image, images)):
            crops = [seeded(train, image, derive_seed(config.seed, view * len(names) + row)) for view in range(views)]
            found[0, row] = model.features(to_images(test(image)[None]))
            found[1:, row] = model.features(to_images(torch.stack(crops)))
            progress.update()
    ends = accumulate(model.backbone.widths, initial=0)
    return Features({name: row for row, name in enumerate(names)}, found[0], found[1:], tuple(pairwise(ends)))


def ablate(network: TrainedNetwork, variants: dict[str, Config], views: int, splits: int) -> pd.DataFrame:
    """Train and test the head of each variant on each split.

    Args:
        network: Network whose backbone is used.
        variants: Configs by name, for the same images and splits; the first is the baseline.
        views: Number of random crops of each image.
        splits: Number of splits.

    Returns:
        A table with one row per variant and split: `variant`, `split`, `test_share` (test to training images) and every
        metric of the test part.

    Raises:
        UserError: A config has several databases, another backbone or transform than the network, or other bins.
    """
    baseline = next(iter(variants.values()))
    features, rows = None, []
    with Progress("heads", len(variants) * splits, "head") as progress:
        for name, config in variants.items():
            database = _database(network, name, config, baseline)
            if features is None:
                features = extract(network, database, config, views)
            for split_number in range(1, splits + 1):
                split = database.split(config, split_number)
                model = train_head(features, database, split, config, derive_seed(config.seed, split_number))
                scores = database.metrics(split.test, predict(model, features, split.test))
                share = len(split.test) / len(split.train)
                rows.append({"variant": name, "split": split_number, "test_share": share, **scores})
                progress.update(images=0)
    return pd.DataFrame(rows)


def _database(network: TrainedNetwork, name: str, config: Config, baseline: Config) -> Database:
    """Return the database of a variant.

    Raises:
        UserError: The variant does not fit the network or the baseline.
    """
    ours, theirs = config.model.backbone, network.config.model.backbone
    if ours != theirs:
        raise UserError(f"{name}: model.backbone is {ours}, but {network.path} has {theirs}; it is frozen")
    if config.transform != baseline.transform:
        raise UserError(f"{name}: transform differs from the first variant's; the features are computed once")
    if len(config.dataset) > 1:
        raise UserError(f"{name}: {len(config.dataset)} databases; the heads of one database are compared, name one")
    return load_databases(config)[0]


def train_head(features: Features, database: Database, split: Split, config: Config, seed: int) -> RichIQA:
    """Return a network whose head was trained on the training part of a split, with the config's optimisation."""
    seed_everything(seed)
    model = build_model(config.model, len(config.scale.bin_centers)).train()
    loss = build_loss(config, [database], [split])
    labels = database.targets(split.train)
    labels["dos"] = np.ascontiguousarray(database.turned(labels["dos"]))
    targets = {key: torch.from_numpy(values).float() for key, values in labels.items()}
    rows, inputs = _rows(features, split.train), _stages(features.train, features, model)  # (V, N, C')
    size = min(config.train.batch_size, len(rows))
    state = TrainingState(model, config, len(rows) // size)
    for _ in range(config.train.epochs):
        order, views = torch.randperm(len(rows)), torch.randint(len(inputs), (len(rows),))
        for batch in order.split(size)[: len(rows) // size]:
            state.optimizer.zero_grad(set_to_none=True)
            dos = model.logits(inputs[views[batch], rows[batch]]).softmax(dim=1)  # (B, K)
            loss(dos, {key: values[batch] for key, values in targets.items()})["total"].backward()
            state.update()
    return state.scored_model.eval()


@torch.inference_mode()
def predict(model: RichIQA, features: Features, names: Sequence[str]) -> np.ndarray:
    """Return the predicted DOS (N, K), float64, of images."""
    return model.logits(_stages(features.test, features, model)[_rows(features, names)]).softmax(dim=1).double().numpy()


def _rows(features: Features, names: Sequence[str]) -> Tensor:
    return torch.tensor([features.rows[name] for name in names])


def _stages(values: Tensor, features: Features, model: RichIQA) -> Tensor:
    """Return features (..., C) without those of stages that a network does not use."""
    return torch.cat([values[..., slice(*features.columns[stage - 1])] for stage in model.stages], dim=-1)


def to_text(rows: pd.DataFrame) -> str:
    """Return a table from `ablate` in Markdown: mean and deviation over splits, and the difference from the baseline.

    p is of the paired t test of SRCC, corrected for splits that share images, see `experiments.results.statistics`.
    """
    groups = {name: group.sort_values("split") for name, group in rows.groupby("variant", sort=False)}
    first = next(iter(groups.values()))
    lines = []
    for name, group in groups.items():
        tested = compare(*(each["srcc"].to_numpy() for each in (group, first)), float(group["test_share"].mean()))
        described = {metric: describe(group[metric].to_numpy()) for metric in METRICS}
        lines.append(
            {
                "variant": name,
                **{metric_heading(metric): mean_std(each.mean, each.std) for metric, each in described.items()},
                "difference of SRCC": "" if group is first else number(tested.difference, sign="+"),
                "p": "" if group is first else p_value(tested.corrected_p),
            }
        )
    return to_markdown(pd.DataFrame(lines), names=1, aligned=True)
