"""Trains and evaluates RichIQA.

`python main.py [--config FILE ...] [key.subkey=value ...] [--resume] [--split N]`, or
`python main.py --evaluate CHECKPOINT --config FILE ...`.
"""

import argparse
import math
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from utils.installation import require_installation

require_installation("matplotlib", "jinja2")

import numpy as np
import torch
from torch.utils.data import DataLoader
from tqdm import tqdm

from datasets.database import load_databases
from datasets.iqa import batches
from datasets.loaders import EvaluatedPart, build_loaders
from experiments.checkpoints import FOLDER, PARTS, evaluate, find_checkpoints, find_targets
from experiments.prediction import details, predict, table
from experiments.report import write_report
from experiments.suite import Experiment, SplitRun, is_override, load_configs, require_different_names
from losses import JointLoss, build_loss
from models import build_model
from models.pretrained import load_pretrained
from utils.errors import UserError, one_line
from utils.optim import TrainingState
from utils.report import (
    epoch_line,
    joined_metrics,
    joined_predictions,
    results_lines,
    summary_of_splits,
)
from utils.runtime import Interruption, derive_seed, pick_device, seed_everything
from utils.script import run_script
from utils.selection import file_epoch, final_metrics
from utils.settings import Config

DEMO_CONFIG = Path(__file__).parent / "configs" / "demo.yaml"
INTERRUPTED = 130
TARGETS = ("mos", "sos", "dos", "database")


def main(arguments: Sequence[str] | None = None) -> int:
    args = parse_arguments(arguments)
    configs = load_configs(args.config, args.overrides)
    if args.evaluate:
        return run_evaluation(args, configs)
    suite = len(configs) > 1
    experiments = [Experiment.of(config, args.split) for config in configs]
    require_different_names(experiments)
    for experiment in experiments:
        experiment.require_leave(args.resume or suite, args.overwrite)
    failures = []
    with Interruption() as interruption:
        for experiment in experiments:
            try:
                finished = run_experiment(experiment, args, args.resume or (suite and not args.overwrite), interruption)
            except UserError as error:
                if not suite:
                    raise
                failures.append(f"{experiment.config.run.name}: {error}")
                print(f"{failures[-1]}\nthe suite goes on", file=sys.stderr)
                continue
            if not finished or (interruption.requested and experiment is not experiments[-1]):
                print(f"interrupted; everything is saved, and {'the same command' if suite else '--resume'} goes on")
                return INTERRUPTED
    if failures:
        raise UserError(f"{len(failures)} of {len(experiments)} runs failed: {'; '.join(failures)}")
    if suite:
        print(f"for a table: python tools/summarize.py {' '.join(str(experiment.path) for experiment in experiments)}")
    return 0


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Train and evaluate RichIQA. Without --config: the demo.", allow_abbrev=False
    )
    parser.add_argument(
        "--config",
        nargs="+",
        action="extend",
        metavar="FILE",
        help="YAML file of the experiment; several, or a pattern such as 'configs/ablations/*.yaml', are a suite: what "
        "is finished is skipped, what was interrupted goes on",
    )
    parser.add_argument("--resume", action="store_true", help="go on where the run of this name stopped")
    parser.add_argument("--overwrite", action="store_true", help="delete the run of this name and start anew")
    parser.add_argument("--split", type=int, metavar="N", help="run only this split, counted from 1")
    parser.add_argument(
        "--evaluate", metavar="CHECKPOINT", help="do not train: evaluate it, or each best.pt of a folder, on --config"
    )
    parser.add_argument(
        "--part",
        choices=PARTS,
        help="with --evaluate: auto (default) is every image of a database that was not trained on, else the test "
        "images of that training; test is the test part of the config's split (--split N)",
    )
    parser.add_argument("--output", metavar="FOLDER", help=f"with --evaluate, default: <run.root>/{FOLDER}")
    parser.add_argument("overrides", nargs="*", metavar="key.subkey=value", help="settings that replace the file's")
    given = sys.argv[1:] if arguments is None else list(arguments)
    args = parser.parse_intermixed_args([text for text in given if not is_override(text)])  # else --config takes them
    args.overrides += [text for text in given if is_override(text)]
    args.config = args.config or [str(DEMO_CONFIG)]
    if args.split is not None and args.split < 1:
        parser.error("--split counts from 1")
    if args.resume and args.overwrite:
        parser.error("--resume and --overwrite contradict each other")
    if args.evaluate and (args.resume or args.overwrite):
        parser.error("--evaluate trains nothing: leave --resume and --overwrite away")
    if not args.evaluate and (args.part or args.output):
        parser.error("--part and --output go with --evaluate")
    return args


def run_evaluation(args: argparse.Namespace, configs: Sequence[Config]) -> int:
    """Evaluates one checkpoint, or a folder of runs, on the databases of the configs."""
    part, checkpoints = args.part or "auto", find_checkpoints(args.evaluate)
    device = pick_device(configs[0].train.device)
    output = Path(args.output or Path(configs[0].run.root) / FOLDER)
    evaluate(checkpoints, find_targets(configs, part, args.split or 1), part, device, output)
    return 0


def run_experiment(experiment: Experiment, args: argparse.Namespace, resume: bool, interruption: Interruption) -> bool:
    """Runs the splits of an experiment that are not finished; False where it was interrupted."""
    config, folders = experiment.config, experiment.folders
    device = pick_device(config.train.device)
    databases = load_databases(config)
    for database in databases:
        print(f"{database.title}: {database.recipe.describe()}")
    print(f"{config.run.name}: {config.model.backbone} on {device}")
    for number, folder in folders.items():
        splits = tuple(database.split(config, number) for database in databases)
        was_finished = resume and folder.finished
        run_split(SplitRun(config, number, databases, splits, folder, interruption), device, resume)
        if args.overwrite and args.split is None:
            for other in folder.other_splits():
                if other not in folders.values():
                    other.delete()
        if folder.finished:
            print(f"split {number} is finished, see {folder.path}\n{results_lines(folder.metrics())}")
            if not was_finished:
                print_report(experiment.path)
        if interruption.requested and not (folder.finished and folder == list(folders.values())[-1]):
            return False
    if len(folders) > 1:
        print(summary_of_splits([folder.metrics() for folder in folders.values()]))
    if folder.best.exists():
        print(f"score an image with it: python inference.py IMAGE --checkpoint {folder.best}")
    return True


def print_report(path: Path) -> None:
    """Writes the report of a run; what keeps it from being written is no reason to lose the splits to come."""
    try:
        print(f"report: {write_report(path)}")
    except UserError as error:
        print(f"warning: no report: {error}; python tools/report.py {path} tries again", file=sys.stderr)


def run_split(run: SplitRun, device: torch.device, resume: bool) -> None:
    """Trains and evaluates one split, unless it is finished; where it is interrupted, everything is saved."""
    config, folder = run.config, run.folder
    resuming = resume and (folder.finished or folder.resumable)
    if resuming:
        folder.require_same_data(run.describe_origin())
        if folder.finished:
            return
    seed = derive_seed(config.seed, run.number)
    seed_everything(seed)
    model = build_model(config.model, len(config.scale.bin_centers))
    require_size(model, config)
    loss = build_loss(config, run.databases, run.splits)
    train_loader, parts = build_loaders(config, run.databases, run.splits, seed, pin_memory=device.type == "cuda")
    if not resuming:
        print(f"split {run.number}: {load_pretrained(model, config.model)}")
    state = TrainingState(model.to(device), config, len(train_loader))
    with folder.held():
        if resuming:
            folder.restore(state)
            print(f"split {run.number}: goes on after epoch {state.epoch}, step {state.step}")
        else:
            folder.begin(config, run.describe_origin())
        predicted = {}
        while state.epoch < config.train.epochs:
            if not train_epoch(state, train_loader, loss, run):
                return
            predicted = finish_epoch(state, parts, run)
        test = parts["test"]
        write_results(state, test, predicted.get("test") or predict_parts(state.scored_model, test), run)


def finish_epoch(state: TrainingState, parts: dict[str, list[EvaluatedPart]], run: SplitRun) -> dict[str, list]:
    """Evaluates the epoch, files it, saves, says a line on the terminal; returns the predicted DOS of each part."""
    predicted = {name: predict_parts(state.scored_model, of_databases) for name, of_databases in parts.items()}
    metrics = {
        name: joined_metrics(
            {
                part.database.title: part.database.metrics(part.names, dos)
                for part, dos in zip(of_databases, predicted[name], strict=True)
            }
        )
        for name, of_databases in parts.items()
    }
    record = file_epoch(state, metrics, run.config.protocol.selection)
    run.folder.save_epoch(run.config, state)
    tqdm.write(epoch_line(record, run.config.train.epochs))
    return predicted


def write_results(state: TrainingState, parts: list[EvaluatedPart], predicted: list[np.ndarray], run: SplitRun) -> None:
    """Predictions of every test image after the last epoch, metrics and what stands beside them; the run's report."""
    tables, of_labels = {}, {}
    for part, dos in zip(parts, predicted, strict=True):
        tables[part.database.title] = table(part.database, part.names, dos)
        of_labels[part.database.title] = details(part.database, part.names, dos)
    run.folder.finish(joined_predictions(tables), final_metrics(state, run.config, of_labels))


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


def train_epoch(state: TrainingState, loader: DataLoader, loss: JointLoss, run: SplitRun) -> bool:
    """Trains to the end of the epoch under way; False where it was interrupted, with everything saved."""
    config = run.config
    state.model.train()
    loader.sampler.set_position(state.epoch, state.step * config.train.batch_size)
    begun = time.monotonic() - state.seconds
    title, steps = f"epoch {state.epoch + 1}/{config.train.epochs}", state.step + len(loader)
    with tqdm(batches(loader), title, steps, leave=False, initial=state.step, disable=None) as bar:
        for batch in bar:
            target = {key: batch[key].to(state.device, non_blocking=True) for key in TARGETS}
            terms = loss(state.model(batch["image"].to(state.device, non_blocking=True)), target)
            values = {name: term.item() for name, term in terms.items()}
            require_finite(values, state, batch["name"])
            state.update(terms["total"], values)
            state.seconds = time.monotonic() - begun
            bar.set_postfix(loss=f"{state.mean_losses()['total']:.3f}")
            interrupted = run.interruption.requested
            if interrupted or (config.train.save_steps and state.step % config.train.save_steps == 0):
                run.folder.save(config, state)
            if interrupted:
                return False
    return True


def predict_parts(model: torch.nn.Module, parts: list[EvaluatedPart]) -> list[np.ndarray]:
    """Predicted DOS (N, K) of a part of each database."""
    return [predict(model, part.loader) for part in parts]


def require_finite(values: dict[str, float], state: TrainingState, names: list[str]) -> None:
    """Stops a training whose loss is not a number, before the weights are touched."""
    if not all(math.isfinite(value) for value in values.values()):
        terms = ", ".join(f"{name} {value}" for name, value in values.items())
        raise UserError(
            f"the loss is not finite in epoch {state.epoch + 1}, step {state.step + 1}: {terms}; images: "
            f"{', '.join(names)}. Start again with a smaller optim.lr or with optim.clip_norm=1"
        )


if __name__ == "__main__":
    run_script(main)
