"""Finished checkpoints on databases: one on one, or a folder of runs on a list of databases as a matrix."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from datasets.database import load_databases
from datasets.loader import make_loader
from datasets.noise_ceiling import ceiling_line
from datasets.scale import RatingScale
from experiments.evaluation.predict import details, joined_metrics, predict, table
from experiments.evaluation.test_images import Target, choose_images
from experiments.failures import Failures
from experiments.results.lines import metrics_line
from experiments.results.matrix import write_matrix
from experiments.results.schema import read_evaluation
from experiments.training.precision import require_precision, scoring_precision, use_precision
from experiments.training.run_folder import BEST, METRICS, PREDICTIONS, SPLIT_FOLDER, require_split
from experiments.training.selection import keyed_by_title
from models.weights import TrainedNetwork, load_network
from utils.config import load_config
from utils.errors import MissingFileError, UserError
from utils.files import require_place, to_json, write_text
from utils.runtime import environment, pick_device
from utils.schema import VERSION, EvaluationMetrics, checked
from utils.settings import Config

FOLDER = "evaluations"


def run_evaluation(args: argparse.Namespace, configs: Sequence[Config]) -> int:
    """Evaluates one checkpoint, or a folder of runs, on the databases of the configs."""
    output = Path(args.output or Path(configs[0].run.root) / FOLDER)
    require_place(output)
    part, checkpoints = args.part or "auto", find_checkpoints(args.evaluate)
    trained_with = load_config(args.trained_with) if args.trained_with else None
    device = pick_device(configs[0].train.device)
    evaluate(checkpoints, find_targets(configs, part, args.split or 1), part, device, output, trained_with)
    return 0


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
        UserError: Also where there is no such split, or two databases go by one title.
    """
    targets = []
    for config in configs:
        if part == "test":
            require_split(config, number)
        for settings, database in zip(config.dataset, load_databases(config), strict=True):
            split = database.split(config, number) if part == "test" else None
            targets.append(Target(settings.name, database, config, split))
    titles = [target.database.title for target in targets]
    twice = sorted({title for title in titles if titles.count(title) > 1})
    if twice:
        raise UserError(
            f"--config: {', '.join(twice)} is there twice; name each database once, and give different ones of "
            "one name their own dataset.title, each in its file"
        )
    return targets


def evaluate(
    checkpoints: Sequence[Path],
    targets: Sequence[Target],
    part: str,
    device: torch.device,
    output: Path,
    config_of_release: Config | None = None,
) -> None:
    """Evaluates each checkpoint on each database; writes and prints the metrics, and the matrix of all there are.

    Each pair leaves `<output>/<run>/split_NN/<database>/` with metrics.json and predictions.csv.

    Args:
        checkpoints: Files.
        targets: Databases.
        part: One of PARTS.
        device: Where the networks run.
        output: Folder; results of other calls in it are in the matrix, too.
        config_of_release: What a checkpoint of the release was trained with.

    Raises:
        UserError: A pair failed; the others are evaluated all the same. Or a config's `train.precision` cannot be had.
    """
    for target in targets:
        require_precision(target.config.train.precision, device)
    failures = Failures(collecting=len(checkpoints) * len(targets) > 1)
    for path in checkpoints:
        failures.release()
        with failures.collected(str(label_of(path)), pieces=len(targets)):
            network = load_trained(path, config_of_release)
            network.model.to(device)
            print(f"{path}: {network.config.model.backbone} on {device}")
            for target in targets:
                with failures.collected(f"{label_of(path)} on {target.database.title}"):
                    evaluate_on(network, target, part, output / label_of(path))
    print_matrix(output)
    failures.require_none(len(checkpoints) * len(targets), "evaluations")


def load_trained(path: Path, config_of_release: Config | None) -> TrainedNetwork:
    """A network to be evaluated.

    Raises:
        UserError: A checkpoint of the release without a config, or one of this project with another's.
    """
    network = load_network(path, config_of_release)
    if network.own and config_of_release is not None:
        raise UserError(f"{path} carries the config that it was trained with; leave --trained-with away")
    return network


def evaluate_on(network: TrainedNetwork, target: Target, part: str, output: Path) -> None:
    """Metrics of one network on one database, written beside its predictions."""
    database = target.database.for_network(RatingScale.from_settings(network.config.scale))
    choice = choose_images(network, target, part)
    folder = output / database.title
    require_same_results(folder, network.path, target.as_dict(part))
    dataset = database.dataset(choice.names, network.config.transform)
    train = target.config.train
    device = next(network.model.parameters()).device
    loader = make_loader(dataset, train.batch_size, workers=train.workers, pin_memory=device.type == "cuda")
    with use_precision(train.precision, device):
        dos = predict(network.model, loader, scoring_precision(train.precision))
    metrics = {
        "version": VERSION,
        **joined_metrics({database.title: database.metrics(choice.names, dos)}),
        **keyed_by_title({database.title: details(database, choice.names, dos)}),
        **choice.as_dict(),
        "turned": database.reversed_bins,
        "target": target.as_dict(part),
        "run": name_of(network.path),
        "finished": is_finished(network.path),
        "checkpoint": str(network.path),
        "precision": train.precision,
        "environment": environment(device),
    }
    checked(EvaluationMetrics, metrics, folder / METRICS)
    write_text(folder / PREDICTIONS, table(database, choice.names, dos).to_csv(index=False))
    write_text(folder / METRICS, to_json(metrics, indent=2) + "\n")
    turned = ", bins turned" if database.reversed_bins else ""
    unfinished = "" if metrics["finished"] else ", training not finished"
    print(f"  {database.title}: {choice.words}{turned}{unfinished}\n    {metrics_line(metrics)}")
    for note in choice.notes:
        print(f"    note: {note}")
    ceiling = metrics["noise_ceiling"][database.title]
    if ceiling:
        print(f"    noise ceiling   {ceiling_line(ceiling)}")


def print_matrix(output: Path) -> None:
    """The matrix of every result under a folder, where there are several; says where all is written."""
    text = write_matrix(output)
    if text:
        print(f"\n{text}")
    if output.is_dir():
        print(f"written to {output}")


def require_same_results(folder: Path, checkpoint: Path, target: dict[str, Any]) -> None:
    """Refuses to put results where those of a checkpoint of another place, or on other images or labels, lie."""
    if not (folder / METRICS).exists():
        return
    before = read_evaluation(folder / METRICS)
    if Path(before["checkpoint"]).absolute() != checkpoint.absolute():
        raise UserError(f"{folder} holds results of {before['checkpoint']}; choose another folder with --output")
    on = before["target"]
    if on != target:
        changed = [f"{key} {on[key]} there, {now} here" for key, now in target.items() if on[key] != now]
        raise UserError(
            f"{folder} holds results on other images or labels ({'; '.join(changed)}); choose another folder with "
            "--output, another dataset.title, or delete that one"
        )


def label_of(checkpoint: Path) -> Path:
    """`run/split_NN` of a best.pt in a run folder, `run/split_NN/last` of a last.pt; elsewhere the name of the file."""
    path = checkpoint.absolute()
    if not SPLIT_FOLDER.fullmatch(path.parent.name):
        return Path(path.stem)
    folder = Path(path.parent.parent.name) / path.parent.name
    return folder if path.name == BEST else folder / path.stem


def name_of(checkpoint: Path) -> str:
    """What its row of the matrix is called: the run; a last.pt is not averaged with the best.pt of other splits."""
    run, *below = label_of(checkpoint).parts
    return f"{run} ({checkpoint.name})" if len(below) > 1 else run


def is_finished(checkpoint: Path) -> bool:
    """Whether the training of a checkpoint in a run folder has come to its end; of one elsewhere, it is taken so."""
    folder = checkpoint.absolute().parent
    return not SPLIT_FOLDER.fullmatch(folder.name) or (folder / METRICS).exists()
