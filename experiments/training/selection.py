"""Which epoch is chosen, and the metrics that a finished split is remembered by."""

import math
from typing import Any

import numpy as np

from experiments.training.state import TrainingState
from utils.metrics import BETTER, HIGHER, as_numbers
from utils.runtime import environment
from utils.schema import VERSION
from utils.settings import Config

PARTS = ("validation", "test")  # that an epoch can be selected on


def file_epoch(state: TrainingState, metrics: dict[str, dict[str, Any]], selection: str) -> dict[str, Any]:
    """Ends the epoch under way: its record, with the metrics of each part, in the history and, if chosen, as best."""
    record = {
        "epoch": state.epoch + 1,
        "lr": state.optimizer.param_groups[0]["lr"],
        "train": state.mean_losses(),
        **metrics,
        "seconds": state.seconds,
    }
    state.finish_epoch(record)
    if state.best is None or is_better(record, state.best, selection):
        state.best = record
    return record


def is_better(record: dict, best: dict, selection: str) -> bool:
    """Whether selection prefers an epoch: by SRCC on test (`release`), on validation, or simply the later one.

    An SRCC that is not defined is never preferred to one that is; as long as there is none, the later epoch counts. It
    is the mean over the databases, and not defined where that of one of them is not: without it the mean would
    be over other databases than in other epochs, and higher or lower for that alone.
    """
    if selection == "last":
        return True
    part = "test" if selection == "release" else "validation"
    ours, theirs = record[part]["srcc"], best[part]["srcc"]
    return ours > theirs or math.isnan(theirs)


def undefined(history: list[dict[str, Any]], part: str) -> bool:
    """Whether the SRCC of a part is not defined in any epoch, or there is no such part."""
    return all(math.isnan(record.get(part, {}).get("srcc", math.nan)) for record in history)


def selections(history: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Test metrics as each way of selection reports them, from the records of all epochs.

    Returns:
        `last`: of the last epoch; `validation`, where there is such a part and its SRCC is defined in any epoch: of the
        epoch with the best one; both with their `epoch`. `release`: every metric at its own best epoch on the test
        part, these under `epochs`: what looking at the test labels can make of a run.
    """
    chosen = {"last": history[-1]}
    if not undefined(history, "validation"):
        best = history[0]
        for record in history[1:]:
            best = record if is_better(record, best, "validation") else best
        chosen["validation"] = best
    honest = {name: {"epoch": record["epoch"], **record["test"]} for name, record in chosen.items()}
    return {**honest, "release": best_per_metric([record["test"] for record in history])}


def best_per_metric(tests: list[dict[str, Any]]) -> dict[str, Any]:
    """The best value of each metric over epochs, and under `epochs` the first epoch, from 1, that reached it.

    Args:
        tests: Means over databases of the metrics of each epoch, and under `databases` those of each.
    """
    titles = tests[0]["databases"]
    databases = {title: _best_values([metrics["databases"][title] for metrics in tests]) for title in titles}
    return {**_best_values(tests), "databases": databases}


def _best_values(tests: list[dict[str, Any]]) -> dict[str, Any]:
    best: dict[str, Any] = {"epochs": {}}
    for name in [name for name in tests[0] if name in BETTER]:
        values = as_numbers([metrics[name] for metrics in tests])
        best[name] = float("nan")
        if not np.isnan(values).all():
            index = int(np.nanargmax(values) if BETTER[name] == HIGHER else np.nanargmin(values))
            best[name], best["epochs"][name] = float(values[index]), index + 1
    return best


def final_metrics(state: TrainingState, config: Config, of_labels: dict[str, dict[str, Any]]) -> dict:
    """Metrics of the last epoch and of every selection, with what it all cost.

    Args:
        state: After the last epoch.
        config: Of the run.
        of_labels: By title of the database, what each test part adds, see `experiments.evaluation.predict.details`.
    """
    return {
        "version": VERSION,
        **state.history[-1]["test"],
        "epoch": state.epoch,
        "selection": config.protocol.selection,
        "selected_epoch": state.best["epoch"],
        "selected": state.best["test"],
        "selections": selections(state.history),
        "undefined": [part for part in PARTS if part in state.history[-1] and undefined(state.history, part)],
        **keyed_by_title(of_labels),
        "seconds": sum(record["seconds"] for record in state.history),
        "environment": environment(state.device),
    }


def keyed_by_title(details: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """By key and title, what is said of each database by title and key."""
    keys = next(iter(details.values()))
    return {key: {title: values[key] for title, values in details.items()} for key in keys}
