"""Trains and evaluates RichIQA.

`python main.py [--config FILE ...] [key.subkey=value ...] [--resume] [--split N]`, or
`python main.py --evaluate CHECKPOINT --config FILE ...`.
"""

import argparse
import shlex
import sys
from collections.abc import Sequence
from contextlib import nullcontext

from utils.installation import require_installation

require_installation("jinja2")

import torch
from tqdm import tqdm

from datasets.database import load_databases
from experiments.command_line import parse_arguments, require_processes
from experiments.evaluation.evaluate import run_evaluation
from experiments.evaluation.predict import Predicted, finish_split, part_metrics, predict_parts
from experiments.evaluation.provenance import seen_before, seen_tests
from experiments.failures import Failures
from experiments.results.lines import end_lines, epoch_line, results_lines
from experiments.results.report import is_current, print_report
from experiments.results.schema import read_metrics
from experiments.suite import Experiment, different, how_to_go_on, load_configs, require_different_names
from experiments.training.parallel import run_side_by_side
from experiments.training.precision import require_support, use_precision
from experiments.training.selection import file_epoch
from experiments.training.setup import Parts, SplitRun, set_up
from experiments.training.state import TrainingState
from experiments.training.step import Stepper, train_epoch
from models.weights import load_pretrained
from utils.distributed import any_of, barrier, broadcast_from_main, in_turns, is_distributed, is_main
from utils.processes import joined
from utils.runtime import Interruption, pick_device
from utils.script import run_script

INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    with joined():
        return run(parse_arguments(arguments))


def run(args: argparse.Namespace) -> int:
    """Does what the command line says; the exit status."""
    configs = load_configs(args.config, args.overrides)
    require_processes(configs, args)
    if args.evaluate:
        return run_evaluation(args, configs)
    suite = len(configs) > 1
    experiments = [Experiment.of(config, args.split) for config in different(configs)]
    require_different_names(experiments)
    for experiment in experiments:
        experiment.check_overwrite(args.resume or suite, args.overwrite)
    failures = Failures(collecting=suite and not is_distributed())  # processes end with the one that fails
    with Interruption() as interruption:
        for number, experiment in enumerate(experiments, start=1):
            failures.release()
            finished = True
            with failures.collected(experiment.config.run.name):
                finished = run_experiment(experiment, args, args.resume or (suite and not args.overwrite), interruption)
            if not finished or (interruption.requested and number < len(experiments)):
                advice = how_to_go_on(suite, args.overwrite, experiments[number:])
                print(f"interrupted; everything is saved, and {advice}")
                return INTERRUPTED
    failures.require_none(len(experiments), "runs")
    if suite:
        paths = [str(experiment.path) for experiment in experiments]
        print(f"for a table: python tools/summarize.py {shlex.join(paths)}")
    return 0


def run_experiment(experiment: Experiment, args: argparse.Namespace, resume: bool, interruption: Interruption) -> bool:
    """Runs the splits of an experiment that are not finished; False where it was interrupted."""
    config = experiment.config
    device = pick_device(config.train.device)
    require_support(config.train, device)
    with in_turns():  # the demo writes its own
        databases = load_databases(config)
    for database in databases:
        print(f"{database.title}: {database.recipe.describe()}")
    print(f"{config.run.name}: {config.model.backbone} on {device}")
    runs = []
    for number, folder in experiment.folders.items():
        splits = tuple(database.split(config, number) for database in databases)
        runs.append(SplitRun(config, number, databases, splits, folder, interruption))
    waiting = [run for run in runs if not (resume and run.folder.finished)]
    if config.protocol.parallel_splits > 1 and args.split is None and len(waiting) > 1:
        if not run_side_by_side(waiting, device, resume, args.overwrite):
            return False
        resume = True  # they are all finished: what follows says so
    for run in runs:
        was_finished = resume and run.folder.finished
        anew = args.overwrite and args.split is None and run.number == 1
        with use_precision(config.train.precision, device):
            run_split(run, device, resume, anew)
        finished = broadcast_from_main(run.folder.finished)
        if finished and is_main():
            print(f"split {run.number} is finished, see {run.folder.path}")
            print(results_lines(read_metrics(run.folder, config)))
            if not (was_finished and is_current(run.folder.path.parent)):
                print_report(run.folder.path.parent)
        interruption.requested = any_of(interruption.requested)
        if interruption.requested and not (finished and run is runs[-1]):
            return False
    if is_main():
        print(end_lines(runs[-1].folder, [read_metrics(run.folder, config) for run in runs]))
    return True


def run_split(run: SplitRun, device: torch.device, resume: bool, anew: bool) -> None:
    """Trains and evaluates one split, unless it is finished; where it is interrupted, everything is saved.

    Args:
        run: What and where.
        device: Of the network.
        resume: Whether to go on with what is there.
        anew: Whether the other splits that are there are of a run that this one replaces.
    """
    config, folder = run.config, run.folder
    finished, resuming = broadcast_from_main((folder.finished and resume, folder.resumable and resume))
    if finished or resuming:
        folder.require_same_data(run.describe_origin())
    if finished:
        return
    with run.interruption.at_once():
        model, loss, train_loader, parts = set_up(run, device)
    if any_of(run.interruption.requested):
        return
    before = {}
    if not resuming:
        with in_turns():  # the first downloads them
            print(f"split {run.number}: {load_pretrained(model, config.model)}")
        before = seen_before(config.model)
    state = TrainingState(model.to(device), config, len(train_loader))
    with folder.lock() if is_main() else nullcontext():
        barrier()  # nobody reads or writes before it is held
        if resuming:
            folder.restore(state)
            print(f"split {run.number}: goes on {state.position(len(train_loader))}")
        else:
            if anew:
                folder.delete_other_splits()
            folder.begin(config, {**run.describe_origin(), **before})
        for warning in seen_tests(config, run.databases, run.splits, folder.origin()):
            print(f"warning: {warning}", file=sys.stderr)
        predicted, stepper = {}, Stepper(state, loss, config.train)
        while state.epoch < config.train.epochs:
            if not train_epoch(stepper, train_loader, run):
                return
            folder.save(config, state)  # an evaluation may take longer than a cluster waits before it kills
            predicted = finish_epoch(state, parts, run)
        test = parts["test"]
        finish_split(state, test, predicted.get("test") or predict_parts(state, test, config), run)


def finish_epoch(state: TrainingState, parts: Parts, run: SplitRun) -> dict[str, Predicted]:
    """Evaluates the epoch, files it, saves, says a line on the terminal; returns the predicted DOS of each part."""
    predicted = {name: predict_parts(state, of_databases, run.config) for name, of_databases in parts.items()}
    metrics = {name: part_metrics(of_databases, predicted[name]) for name, of_databases in parts.items()}
    record = file_epoch(state, metrics, run.config.protocol.selection)
    run.folder.save_epoch(run.config, state)
    tqdm.write(epoch_line(record, run.config.train.epochs))
    return predicted


if __name__ == "__main__":
    run_script(main)
