"""Which epoch is chosen, and the metrics that a finished split is remembered by."""

import math
from typing import Any

from utils.optim import TrainingState
from utils.runtime import environment
from utils.settings import Config


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
    """Whether selection prefers an epoch: by SRCC on test (`release`), on validation, or simply the later one."""
    if selection == "last":
        return True
    part = "test" if selection == "release" else "validation"
    ours, theirs = record[part]["srcc"], best[part]["srcc"]
    return ours > theirs or (math.isnan(theirs) and not math.isnan(ours))


def final_metrics(state: TrainingState, config: Config, ceilings: dict[str, dict | None]) -> dict:
    """Metrics of the last epoch, of the selected one, what noisy labels allow at best, and what it all cost.

    Args:
        state: After the last epoch.
        config: Of the run.
        ceilings: The noise ceiling of each database's test labels, by title; None where no votes are on file.
    """
    return {
        **state.history[-1]["test"],
        "epoch": state.epoch,
        "selection": config.protocol.selection,
        "selected_epoch": state.best["epoch"],
        "selected": state.best["test"],
        "noise_ceiling": ceilings if config.several else next(iter(ceilings.values())),
        "seconds": sum(record["seconds"] for record in state.history),
        "environment": environment(),
    }
