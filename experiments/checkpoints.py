"""Finished checkpoints on databases: one on one, or a folder of runs on a list of databases as a matrix."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from datasets.database import Database, load_databases
from datasets.iqa import make_loader
from datasets.scale import RatingScale
from datasets.splits import Split
from datasets.transforms import build_test_transform
from experiments.matrix import write_matrix
from experiments.prediction import details, predict, table
from models.loading import TrainedNetwork, load_network
from utils.errors import MissingFileError, UserError
from utils.files import read_json, to_json, write_text
from utils.report import ceiling_line, metrics_line
from utils.run_folder import BEST, METRICS, PREDICTIONS, SPLIT_FOLDER
from utils.runtime import environment
from utils.settings import Config

PARTS = ("auto", "all", "test")
FOLDER = "evaluations"


@dataclass(frozen=True)
class Target:
    """A database that checkpoints are evaluated on: which images are its test part, by its own config."""

    name: str
    database: Database
    config: Config
    test: Split | None


def find_checkpoints(place: str | Path) -> list[Path]:
    """The file that is named, or every best.pt of finished and unfinished runs under a folder.

    Raises:
        MissingFileError: There is none.
    """
    place = Path(place)
    if place.is_dir():
        found = sorted(path for path in place.rglob(BEST) if SPLIT_FOLDER.fullmatch(path.parent.name))
        if not found:
            raise MissingFileError(f"--evaluate: there is no split_NN/{BEST} under {place}; name a run or a checkpoint")
        return found
    if not place.is_file():
        raise MissingFileError(f"--evaluate: checkpoint {place} does not exist")
    return [place]


def find_targets(configs: Sequence[Config], part: str, number: int) -> list[Target]:
    """Every database of these configs, once; with part `test`, split `number` of each.

    Raises:
        UserError: Also where two databases go by one title.
    """
    targets = []
    for config in configs:
        for member, database in zip(config.members, load_databases(config), strict=True):
            split = database.split(config, number) if part == "test" else None
            targets.append(Target(member.name, database, config, split))
    titles = [target.database.title for target in targets]
    twice = sorted({title for title in titles if titles.count(title) > 1})
    if twice:
        raise UserError(f"--config: {', '.join(twice)} is there twice; name each database once")
    return targets


def evaluate(
    checkpoints: Sequence[Path], targets: Sequence[Target], part: str, device: torch.device, output: Path
) -> None:
    """Evaluates each checkpoint on each database; writes and prints the metrics, and the matrix where it has cells.

    Each pair leaves `<output>/<run>/split_NN/<database>/` with metrics.json and predictions.csv.
    """
    results = []
    for path in checkpoints:
        network = load_network(path, targets[0].config)
        network.model.to(device)
        print(f"{path}: {network.config.model.backbone} on {device}")
        results += [evaluate_on(network, target, part, output / label_of(path)) for target in targets]
    if len(results) > 1:
        print("\n" + write_matrix(results, output))
    print(f"written to {output}")


def evaluate_on(network: TrainedNetwork, target: Target, part: str, output: Path) -> dict[str, Any]:
    """Metrics of one network on one database, written beside its predictions."""
    database = target.database.for_network(RatingScale(**network.config.scale.model_dump()))
    names, which, own = choose_images(network, target, part)
    folder = output / database.title
    require_same_checkpoint(folder, network.path)
    dataset = database.dataset(names, build_test_transform(network.config.transform))
    train = target.config.train
    dos = predict(network.model, make_loader(dataset, train.batch_size, workers=train.workers))
    metrics = {
        **database.metrics(names, dos),
        **details(database, names, dos),
        "images": len(names),
        "part": which,
        "own": own,
        "turned": database.reversed_bins,
        "database": database.title,
        "checkpoint": str(network.path),
        "environment": environment(),
    }
    write_text(folder / PREDICTIONS, table(database, names, dos).to_csv(index=False))
    write_text(folder / METRICS, to_json(metrics, indent=2) + "\n")
    print(
        f"  {database.title}: {which}{', bins turned' if database.reversed_bins else ''}\n    {metrics_line(metrics)}"
    )
    if metrics["noise_ceiling"]:
        print(f"    noise ceiling   {ceiling_line(metrics['noise_ceiling'])}")
    return {**metrics, "run": label_of(network.path).parts[0]}


def choose_images(network: TrainedNetwork, target: Target, part: str) -> tuple[tuple[str, ...], str, bool]:
    """Names of the images to score, which they are in words, and whether the network was trained on this database.

    `auto` takes all images of a foreign database, and of one that the network was trained on only the test images of
    that training.

    Raises:
        UserError: None of those test images is here.
    """
    records = target.database.records
    own = splits_seen(network, target.name)
    seen = {name for split in own for kind in ("train", "validation") for name in split[kind]} & records.keys()
    if part == "all" or not (seen or target.test):
        note = f", of which the network was trained on {len(seen)}" if seen else ""
        return tuple(sorted(records)), f"all {len(records)} images{note}", bool(seen)
    if not seen:
        return target.test.test, f"the {len(target.test.test)} test images of the config's split", False
    names = tuple(name for split in own for name in split["test"] if name in records)
    if not names:
        raise UserError(
            f"{target.database.title}: none of the images that {network.path} was tested on is here; --part all "
            "scores every image, those of its training as well"
        )
    return names, f"the {len(names)} test images of the network's own split", True


def splits_seen(network: TrainedNetwork, name: str) -> list[dict[str, Any]]:
    """The splits of the databases of this name that a network was trained with."""
    if network.origin is None:
        return []
    members = network.config.members
    titles = [member.title or member.name for member in members if member.name == name]
    by_title = network.origin.get("databases", {titles[0]: network.origin} if titles else {})
    return [by_title[title] for title in titles]


def require_same_checkpoint(folder: Path, checkpoint: Path) -> None:
    """Refuses to put results where those of a checkpoint of another place lie."""
    if (folder / METRICS).exists():
        before = read_json(folder / METRICS).get("checkpoint")
        if before is None or Path(before).absolute() != checkpoint.absolute():
            raise UserError(f"{folder} holds results of {before}; choose another folder with --output")


def label_of(checkpoint: Path) -> Path:
    """`run/split_NN` of a best.pt in a run folder, `run/split_NN/last` of a last.pt; elsewhere the name of the file."""
    path = checkpoint.absolute()
    if not SPLIT_FOLDER.fullmatch(path.parent.name):
        return Path(path.stem)
    folder = Path(path.parent.parent.name) / path.parent.name
    return folder if path.name == BEST else folder / path.stem
