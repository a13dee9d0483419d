"""Trains and evaluates RichIQA.

`python main.py [--config FILE ...] [key.subkey=value ...] [--resume] [--split N]`, or
`python main.py --evaluate CHECKPOINT --config FILE ...`.
"""

import argparse
import shlex
import sys
import traceback
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

from utils.installation import require_installation

require_installation("jinja2")

import numpy as np
import torch
from tqdm import tqdm

from datasets.database import load_databases
from experiments.command_line import parse_arguments, require_processes
from experiments.evaluation.evaluate import FOLDER, evaluate, find_checkpoints, find_targets
from experiments.evaluation.predict import details, joined_metrics, joined_predictions, predict, table
from experiments.evaluation.provenance import seen_before, seen_tests
from experiments.failures import Failures
from experiments.results.lines import epoch_line, results_lines, summary_of_splits
from experiments.results.report import is_current, write_report
from experiments.results.schema import read_metrics
from experiments.suite import Experiment, different, how_to_go_on, load_configs, require_different_names
from experiments.training.parallel import environments_of, run_processes
from experiments.training.precision import require_support, scoring_precision, use_precision
from experiments.training.selection import file_epoch, final_metrics
from experiments.training.setup import EvaluatedPart, Parts, SplitRun, set_up, try_set_up
from experiments.training.state import TrainingState
from experiments.training.step import Stepper, train_epoch
from models.weights import load_pretrained
from utils.config import load_config
from utils.distributed import any_of, barrier, broadcast_from_main, in_turns, is_distributed, is_main, main_process_only
from utils.errors import UserError, one_line
from utils.files import require_place
from utils.processes import joined
from utils.runtime import Interruption, pick_device
from utils.script import run_script
from utils.settings import Config

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
    failures = Failures(
        collecting=suite and not is_distributed()
    )  # of several processes, all end with the one that fails
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


def run_evaluation(args: argparse.Namespace, configs: Sequence[Config]) -> int:
    """Evaluates one checkpoint, or a folder of runs, on the databases of the configs."""
    output = Path(args.output or Path(configs[0].run.root) / FOLDER)
    require_place(output)
    part, checkpoints = args.part or "auto", find_checkpoints(args.evaluate)
    trained_with = load_config(args.trained_with) if args.trained_with else None
    device = pick_device(configs[0].train.device)
    evaluate(checkpoints, find_targets(configs, part, args.split or 1), part, device, output, trained_with)
    return 0


def run_experiment(experiment: Experiment, args: argparse.Namespace, resume: bool, interruption: Interruption) -> bool:
    """Runs the splits of an experiment that are not finished; False where it was interrupted."""
    config, folders = experiment.config, experiment.folders
    device = pick_device(config.train.device)
    require_support(config.train, device)
    with in_turns():  # the demo writes its own
        databases = load_databases(config)
    for database in databases:
        print(f"{database.title}: {database.recipe.describe()}")
    print(f"{config.run.name}: {config.model.backbone} on {device}")
    splits = {number: tuple(database.split(config, number) for database in databases) for number in folders}
    runs = [SplitRun(config, number, databases, splits[number], folders[number], interruption) for number in folders]
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
            print_split(run, was_finished)
        interruption.requested = any_of(interruption.requested)
        if interruption.requested and not (finished and run is runs[-1]):
            return False
    if is_main():
        print_end(runs)
    return True


def print_split(run: SplitRun, was_finished: bool) -> None:
    """The results of a finished split, and a new report where there is something new to say."""
    results = results_lines(read_metrics(run.folder, run.config))
    print(f"split {run.number} is finished, see {run.folder.path}\n{results}")
    if not (was_finished and is_current(run.folder.path.parent)):
        print_report(run.folder.path.parent)


def print_end(runs: list[SplitRun]) -> None:
    """The summary of finished splits, and what can be done with the last one."""
    if len(runs) > 1:
        print(summary_of_splits([read_metrics(run.folder, run.config) for run in runs]))
    best = runs[-1].folder.best
    if best.exists():
        print(f"score an image with it: python inference.py IMAGE --checkpoint {shlex.quote(str(best))}")


def print_report(path: Path) -> None:
    """Writes the report of a run; what keeps it from being written is no reason to lose the splits to come."""
    try:
        print(f"report: {write_report(path)}")
    except Exception as error:
        if not isinstance(error, UserError):
            traceback.print_exc()
        command = f"python tools/report.py {shlex.quote(str(path))}"
        print(f"warning: no report: {one_line(error)}; {command} tries again", file=sys.stderr)


def run_side_by_side(runs: list[SplitRun], device: torch.device, resume: bool, overwrite: bool) -> bool:
    """Runs these splits in processes of their own; False where they were interrupted."""
    config, first = runs[0].config, runs[0].folder
    environments = environments_of(config, min(config.protocol.parallel_splits, len(runs)))
    interruption = runs[0].interruption
    with interruption.at_once():
        try_set_up(runs[0], device, resume)
    if interruption.requested:
        return False
    if overwrite:
        with first.lock():
            first.delete_other_splits()
            first.delete()
    return run_processes(config, [run.number for run in runs], environments, resume, interruption)


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
            print(f"split {run.number}: goes on {position_of(state, len(train_loader))}")
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
        write_results(state, test, predicted.get("test") or predict_parts(state, test, config), run)


def position_of(state: TrainingState, steps: int) -> str:
    """Where a resumed split goes on; `steps` are those of an epoch."""
    if state.step == steps:
        return f"with the evaluation of epoch {state.epoch + 1}"
    return f"after epoch {state.epoch}, step {state.step}"


def finish_epoch(state: TrainingState, parts: Parts, run: SplitRun) -> dict[str, list]:
    """Evaluates the epoch, files it, saves, says a line on the terminal; returns the predicted DOS of each part."""
    predicted = {name: predict_parts(state, of_databases, run.config) for name, of_databases in parts.items()}
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


@main_process_only
def write_results(state: TrainingState, parts: list[EvaluatedPart], predicted: list[np.ndarray], run: SplitRun) -> None:
    """Predictions of every test image after the last epoch, metrics and what stands beside them; the run's report."""
    tables, of_labels = {}, {}
    for part, dos in zip(parts, predicted, strict=True):
        tables[part.database.title] = table(part.database, part.names, dos)
        of_labels[part.database.title] = details(part.database, part.names, dos)
    run.folder.finish(joined_predictions(tables), final_metrics(state, run.config, of_labels))


def predict_parts(state: TrainingState, parts: list[EvaluatedPart], config: Config) -> list[np.ndarray]:
    """Predicted DOS (N, K) of a part of each database."""
    precision = scoring_precision(config.train.precision)
    return [predict(state.scored_model, part.loader, precision) for part in parts]


if __name__ == "__main__":
    run_script(main)
