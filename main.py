"""Train and evaluate RichIQA.

`python main.py [--config FILE ...] [key.subkey=value ...] [--resume] [--split N]`, or
`python main.py --evaluate CHECKPOINT --config FILE ...`.
"""

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parent))  # missing under python -P or -I

from utils.script import INTERRUPTED, run_script, start_imports

if __name__ == "__main__":
    start_imports()

from utils.installation import require_installation

require_installation("jinja2")

import torch
from tqdm import tqdm

from datasets.loader import worker_errors
from experiments.command_line import check_processes, parse_arguments
from experiments.evaluation.evaluate import run_evaluation
from experiments.evaluation.predict import (
    Predictions,
    calibrate,
    finish_split,
    part_metrics,
    predict_last,
    predict_parts,
)
from experiments.evaluation.provenance import describe_ancestors, seen_test_warnings
from experiments.failures import Failures
from experiments.results.lines import closing_lines, epoch_line, results_lines
from experiments.results.report import is_current, print_report
from experiments.results.results import FinishedSplit
from experiments.suite import Experiment, load_configs, make_experiments, resume_advice
from experiments.training.parallel import run_in_parallel
from experiments.training.precision import require_support, use_determinism, use_precision
from experiments.training.selection import record_epoch
from experiments.training.setup import Parts, SplitRun, load_runs, open_folder, set_up
from experiments.training.state import TrainingState
from experiments.training.step import Stepper, train_epoch
from models.weights import load_pretrained
from utils.distributed import any_process, broadcast_from_main, in_turns, is_distributed, is_main
from utils.memory import keep_freed_memory
from utils.processes import process_group
from utils.runtime import Interruption, pick_device
from utils.threads import set_threads


def main(arguments: Sequence[str] | None = None) -> int:
    with process_group():
        return run(parse_arguments(arguments))


def run(args: argparse.Namespace) -> int:
    """Run what the command line asks for, and return the exit status."""
    configs = load_configs(args.config, args.overrides)
    check_processes(configs, args)
    if args.evaluate:
        return run_evaluation(args, configs)
    suite = len(configs) > 1
    resume = args.resume or (suite and not args.overwrite)
    experiments = make_experiments(configs, args.split, resume, args.overwrite)
    failures = Failures(collecting=suite and not is_distributed())  # several processes end with the one that fails
    with Interruption() as interruption:
        for number, experiment in enumerate(experiments, start=1):
            failures.release()
            completed = True
            with failures.collect(experiment.config.run.name):
                completed = run_experiment(experiment, args, resume, interruption)
            if not completed or (interruption.requested and number < len(experiments)):
                advice = resume_advice(suite, args.overwrite, experiments[number:])
                print(f"interrupted; everything is saved, and {advice}")
                return INTERRUPTED
    failures.raise_any(len(experiments), "runs")
    if suite:
        paths = [str(experiment.path) for experiment in experiments]
        print(f"for a table: python tools/summarize.py {shlex.join(paths)}")
    return 0


def run_experiment(experiment: Experiment, args: argparse.Namespace, resume: bool, interruption: Interruption) -> bool:
    """Run the unfinished splits of an experiment; return False if it was interrupted."""
    config = experiment.config
    device = pick_device(config.train.device)
    require_support(config.train, device)
    set_threads(config.train.threads)
    keep_freed_memory()
    runs = load_runs(config, experiment.folders, interruption)
    print(f"{config.run.name}: {config.model.backbone} on {device}")
    if resume:
        with in_turns():
            for run in runs:
                run.folder.reopen(config)
    unfinished = [run for run in runs if not (resume and run.folder.finished)]
    if config.protocol.parallel_splits > 1 and args.split is None and len(unfinished) > 1:
        if not run_in_parallel(unfinished, device, resume, args.overwrite):
            return False
        resume = True  # all splits are finished: the loop prints their results
    for run in runs:
        was_finished = resume and run.folder.finished
        delete_others = args.overwrite and args.split is None and run.number == 1
        train = config.train
        with use_determinism(train.deterministic), use_precision(train.precision, device), worker_errors():
            run_split(run, device, resume, delete_others)
        finished = broadcast_from_main(run.folder.finished)
        if finished and is_main():
            print(f"split {run.number} is finished, see {run.folder.path}")
            print(results_lines(FinishedSplit.read(run.number, run.folder).metrics))
            if not (was_finished and is_current(experiment.path)):
                print_report(experiment.path)
        interruption.requested = any_process(interruption.requested)
        if interruption.requested and not (finished and run is runs[-1]):
            return False
    if is_main():
        finished_splits = [FinishedSplit.read(run.number, run.folder).metrics for run in runs]
        print(closing_lines(runs[-1].folder, finished_splits), end="")
    return True


def run_split(run: SplitRun, device: torch.device, resume: bool, delete_others: bool) -> None:
    """Train and evaluate one split, unless it is finished. If it is interrupted, everything is saved.

    Args:
        run: The split.
        device: Device of the network.
        resume: Whether to continue the split if it was started.
        delete_others: Whether to delete the other splits of the run, which this run replaces.
    """
    config = run.config
    finished, resuming = run.check_resume(resume)
    if finished:
        return
    with run.interruption.at_once():
        model, loss, train_loader, parts = set_up(run, device)
    if any_process(run.interruption.requested):
        return
    ancestors = {}
    if not resuming:
        with in_turns():  # the first process downloads the weights
            print(f"split {run.number}: {load_pretrained(model, config.model)}")
        ancestors = describe_ancestors(config.model)
    state = TrainingState(model.to(device), config, len(train_loader))
    with open_folder(run, state, len(train_loader), resuming, ancestors, delete_others):
        for warning in seen_test_warnings(config, run.databases, run.splits, run.folder.origin()):
            print(f"warning: {warning}", file=sys.stderr)
        predicted, stepper = {}, Stepper(state, loss, config.train)
        while state.epoch < config.train.epochs:
            if not train_epoch(stepper, train_loader, run):
                return
            run.folder.save(config, state)  # evaluation may take longer than a cluster waits before it kills the job
            predicted = finish_epoch(state, parts, run)
        finish_split(state, predicted.get("test") or predict_last(state, parts["test"], config), run)


def finish_epoch(state: TrainingState, parts: Parts, run: SplitRun) -> dict[str, list[Predictions]]:
    """Evaluate, record, save and print an epoch; return the predictions of each part."""
    predicted = {name: predict_parts(state, members, run.config) for name, members in parts.items()}
    temperature = None
    if run.config.protocol.calibration != "none":
        predicted, temperature = calibrate(predicted)
    metrics = {name: part_metrics(predictions) for name, predictions in predicted.items()}
    record = record_epoch(state, metrics, run.config.protocol.selection, temperature)
    run.folder.save_epoch(run.config, state)
    run.folder.save(run.config, state)
    tqdm.write(epoch_line(record, run.config.train.epochs))
    return predicted


if __name__ == "__main__":
    run_script(main, unread=1)
