"""Epoch selection: which epoch becomes best.pt, and the metrics of a finished split."""

import math
from typing import Any

import numpy as np

from experiments.training.state import TrainingState
from utils.metrics import BETTER, HIGHER, as_numbers
from utils.runtime import environment
from utils.schema import VERSION
from utils.settings import Config

PARTS = ("validation", "test")  # on which an epoch can be selected


def record_epoch(
    state: TrainingState, metrics: dict[str, dict[str, Any]], selection: str, temperature: float | None = None
) -> dict[str, Any]:
    """End the current epoch: append its record, with the metrics of each part, to the history, and return it.

    The record also becomes `state.best` if the selection prefers it.
    """
    record = {
        "epoch": state.epoch + 1,
        "lr": state.optimizer.param_groups[-1]["lr"],
        "train": state.mean_losses(),
        **metrics,
        **({} if temperature is None else {"temperature": temperature}),
        "seconds": state.seconds,
    }
    state.finish_epoch(record)
    if state.best is None or is_better(record, state.best, selection):
        state.best = record
    return record


def is_better(record: dict, best: dict, selection: str) -> bool:
    """Return whether a selection prefers an epoch to the best one so far.

    `release` compares SRCC on the test part, `validation` on the validation part, `last` prefers the later epoch. The
    SRCC is the mean over databases, undefined if it is undefined on one of them, since means over different databases
    cannot be compared. An undefined SRCC is never preferred to a defined one; while none is defined, the later epoch is
    preferred.
    """
    if selection == "last":
        return True
    part = "test" if selection == "release" else "validation"
    ours, theirs = record[part]["srcc"], best[part]["srcc"]
    return ours > theirs or math.isnan(theirs)


def undefined(history: list[dict[str, Any]], part: str) -> bool:
    """Return whether the SRCC of a part is undefined in every epoch, or the part does not exist."""
    return all(math.isnan(record.get(part, {}).get("srcc", math.nan)) for record in history)


def selections(history: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return the test metrics that each selection reports, from the records of all epochs.

    Returns:
        `last`: those of the last epoch. `validation`, if there is such a part with an SRCC that is defined in some
        epoch: those of the epoch with the best one. Both include their `epoch`. `release`: each metric at its own best
        epoch on the test part, listed under `epochs`; these are optimistic, since they use the test labels.
    """
    chosen = {"last": history[-1]}
    if not undefined(history, "validation"):
        best = history[0]
        for record in history[1:]:
            best = record if is_better(record, best, "validation") else best
        chosen["validation"] = best
    metrics = {name: {"epoch": record["epoch"], **record["test"]} for name, record in chosen.items()}
    return {**metrics, "release": best_per_metric([record["test"] for record in history])}


def best_per_metric(tests: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the best value of each metric over epochs, and under `epochs` the first epoch, from 1, that has it.

    Args:
        tests: Test metrics of each epoch: means over databases, and under `databases` those of each database.
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


def final_metrics(state: TrainingState, config: Config, details: dict[str, dict[str, Any]]) -> dict:
    """Return the content of metrics.json: metrics of the last epoch and of each selection, time and environment.

    Args:
        state: State after the last epoch.
        config: Config of the run.
        details: Details of the test parts by key and title, see `experiments.evaluation.predict.Predictions.details`.
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
        **details,
        "seconds": sum(record["seconds"] for record in state.history),
        "environment": environment(state.device),
    }
