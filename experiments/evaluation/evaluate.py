"""Evaluate checkpoints on databases: one checkpoint, or a folder of runs, whose results form a matrix."""

import argparse
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from datasets.database import load_databases
from datasets.loader import make_loader, worker_errors
from datasets.noise_ceiling import ceiling_line
from datasets.scale import RatingScale
from experiments.evaluation.predict import Predictions, details, part_metrics, predict
from experiments.evaluation.test_images import Target, choose_images
from experiments.failures import Failures
from experiments.results.lines import metrics_line
from experiments.results.matrix import write_matrix
from experiments.schema import EvaluationMetrics
from experiments.training.precision import require_precision, scoring_precision, use_precision
from experiments.training.run_folder import (
    BEST,
    METRICS,
    PREDICTIONS,
    SPLIT_FOLDER,
    read_checked,
    require_split,
    write_checked,
)
from models.weights import TrainedNetwork, load_network
from utils.config import load_config
from utils.errors import MissingFileError, UserError
from utils.files import require_place, write_text
from utils.hub import cached_repository, local_file
from utils.runtime import environment, pick_device
from utils.schema import VERSION
from utils.settings import Config

FOLDER = "evaluations"


def run_evaluation(args: argparse.Namespace, configs: Sequence[Config]) -> int:
    """Evaluate one checkpoint, or a folder of runs, on the databases of the configs; return the exit status.

    Each pair is written to `<output>/<run>/split_NN/<database>/` as metrics.json and predictions.csv, then the matrix
    of all results in the output folder, including earlier ones.

    Raises:
        UserError: A pair failed, after all others were evaluated; or the device does not support `train.precision`.
    """
    output = Path(args.output or Path(configs[0].run.root) / FOLDER)
    require_place(output)
    part, checkpoints = args.part or "auto", find_checkpoints(args.evaluate)
    release_config = load_config(args.trained_with) if args.trained_with else None
    device = pick_device(configs[0].train.device)
    targets = find_targets(configs, part, args.split or 1)
    for target in targets:
        require_precision(target.config.train.precision, device)
    failures = Failures(collecting=len(checkpoints) * len(targets) > 1)
    for path in checkpoints:
        label = checkpoint_label(path)
        failures.release()
        with failures.collect(str(label), count=len(targets)):
            network = load_network(path, release_config)
            if network.own and release_config is not None:
                raise UserError(f"{path} contains the config that it was trained with; omit --trained-with")
            network.model.to(device)
            print(f"{path}: {network.config.model.backbone} on {device}")
            for target in targets:
                with failures.collect(f"{label} on {target.database.title}"):
                    evaluate_on(network, target, part, output / label)
    text = write_matrix(output)
    if text:
        print(f"\n{text}")
    if output.is_dir():
        print(f"written to {output}")
    failures.raise_any(len(checkpoints) * len(targets), "evaluations")
    return 0


def find_checkpoints(place: str | Path) -> list[Path]:
    """Return the given file, that of an address on the hub, or every best.pt of the runs in a folder.

    Raises:
        MissingFileError: There is none.
        UserError: The file cannot be loaded from the hub.
    """
    place = local_file(place)
    if place.is_dir():
        found = sorted(path for path in place.rglob(BEST) if SPLIT_FOLDER.fullmatch(path.parent.name))
        if not found:
            raise MissingFileError(f"--evaluate: {place} contains no split_NN/{BEST}; name a run or a checkpoint")
        return found
    if not place.is_file():
        raise MissingFileError(f"--evaluate: checkpoint {place} does not exist")
    return [place]


def find_targets(configs: Sequence[Config], part: str, number: int) -> list[Target]:
    """Return the databases of these configs; with part `test`, with split `number` of each.

    Raises:
        UserError: There is no such split, or two databases have the same title.
    """
    targets = []
    for config in configs:
        if part == "test":
            require_split(config, number)
        for settings, database in zip(config.dataset, load_databases(config), strict=True):
            split = database.split(config, number) if part == "test" else None
            targets.append(Target(settings.name, database, config, split))
    titles = [target.database.title for target in targets]
    repeated = sorted({title for title in titles if titles.count(title) > 1})
    if repeated:
        raise UserError(
            f"--config: {', '.join(repeated)} given twice; give each database once, and set a different dataset.title "
            "in the file of each if two share a name"
        )
    return targets


def evaluate_on(network: TrainedNetwork, target: Target, part: str, output: Path) -> None:
    """Evaluate one network on one database; write its metrics and predictions, and print the metrics."""
    database = target.database.for_network(RatingScale.from_settings(network.config.scale))
    test = choose_images(network, target, part)
    folder = output / database.title
    require_same_results(folder, network.path, target.as_dict(part))
    dataset = database.dataset(test.names, network.config.transform)
    run, *split = checkpoint_label(network.path).parts
    train = target.config.train
    device = next(network.model.parameters()).device
    options = {"pin_memory": device.type == "cuda", "image_bytes": 3 * network.config.transform.test_side**2}
    loader = make_loader(dataset, train.batch_size, workers=train.workers, **options)
    with use_precision(train.precision, device), worker_errors():
        dos = predict(network.model, loader, scoring_precision(train.precision))
    predictions = Predictions(database, test.names, dos)
    metrics = {
        "version": VERSION,
        **part_metrics([predictions]),
        **details([predictions]),
        **test.as_dict(),
        "scale": asdict(database.scale),
        "turned": database.reversed_bins,
        "target": target.as_dict(part),
        "run": f"{run} ({network.path.name})" if len(split) > 1 else run,  # a last.pt gets its own row in the matrix
        "finished": not split or (network.path.absolute().parent / METRICS).exists(),
        "checkpoint": str(network.path),
        "precision": train.precision,
        "environment": environment(device),
    }
    write_text(folder / PREDICTIONS, predictions.table().to_csv(index=False))
    write_checked(folder / METRICS, EvaluationMetrics, metrics, indent=2)
    turned = ", bins turned" if database.reversed_bins else ""
    unfinished = "" if metrics["finished"] else ", training not finished"
    print(f"  {database.title}: {test.part}{turned}{unfinished}\n    {metrics_line(metrics)}")
    for note in test.notes:
        print(f"    note: {note}")
    ceiling = metrics["noise_ceiling"][database.title]
    if ceiling:
        print(f"    noise ceiling   {ceiling_line(ceiling)}")


def require_same_results(folder: Path, checkpoint: Path, target: dict[str, Any]) -> None:
    """Check that existing results in a folder are of the same checkpoint, images and labels."""
    if not (folder / METRICS).exists():
        return
    before = read_checked(folder / METRICS, EvaluationMetrics)
    if Path(before["checkpoint"]).absolute() != checkpoint.absolute():
        raise UserError(f"{folder} contains results of {before['checkpoint']}; choose another folder with --output")
    if before["target"] != target:
        changed = [
            f"{key} {old} then, {target[key]} now" for key, old in before["target"].items() if old != target[key]
        ]
        raise UserError(
            f"{folder} contains results on other images or labels ({'; '.join(changed)}); choose another folder with "
            "--output, set another dataset.title, or delete it"
        )


def checkpoint_label(checkpoint: Path) -> Path:
    """Return `run/split_NN` for a best.pt in a run folder, `run/split_NN/last` for a last.pt, else the file's name.

    A file in the cache of the Hugging Face hub is named after its repository: `owner--name`.
    """
    path = checkpoint.absolute()
    if repository := cached_repository(path):
        return Path(repository)
    if not SPLIT_FOLDER.fullmatch(path.parent.name):
        return Path(path.stem)
    folder = Path(path.parent.parent.name) / path.parent.name
    return folder if path.name == BEST else folder / path.stem
