"""What main.py writes of a run, made by hand: contents of metrics.json and split.json that fit their schema."""

import json
from pathlib import Path

from experiments.evaluation.predict import joined_metrics
from experiments.training.selection import best_per_metric
from utils.schema import VERSION

LABELS = {
    **{"dos": "counts", "sos": "file", "sos_a": None, "images": 5, "fallbacks": 0, "odd": 0},
    **{"left_out": 0, "damaged": 0, "hash": "l", "mos_hash": "m"},
}


def split_content(titles, labels=(), **parts) -> dict:
    """split.json of databases that are split alike; `parts` and `labels` are what is to be otherwise."""
    one = {"hash": "h", "train": list("abcd"), "validation": [], "test": ["e"], "labels": {**LABELS, **dict(labels)}}
    return {"version": VERSION, "databases": {title: {**one, **parts} for title in titles}}


def part_scores(databases: dict[str, dict]) -> dict:
    """The metrics of each database beside their means."""
    (first, *others) = databases.values()
    return joined_metrics(databases) if others else {**first, "databases": databases}


def test_results(databases: dict[str, dict], **changes) -> dict:
    """What metrics.json of a split and of an evaluation have in common, from the metrics of each database."""
    details = {"noise_ceiling": None, "interval_units": {"unit": "image", "count": 5}, "pit_histogram": None}
    details["intervals"] = {"srcc": [0, 1]}
    given = {key: dict.fromkeys(databases, changes.pop(key, value)) for key, value in details.items()}
    return {"version": VERSION, **part_scores(databases), **given, "environment": {"python": "3.11"}, **changes}


test_results.__test__ = False  # not for pytest


def metrics_content(databases: dict[str, dict], **changes) -> dict:
    """metrics.json of a split of one epoch, from the metrics of each database."""
    results = test_results(databases, **changes)
    scores = part_scores(databases)
    whole = {
        **{"epoch": 1, "selection": "last", "selected_epoch": 1, "selected": scores, "undefined": [], "seconds": 200.0},
        "selections": {"last": {"epoch": 1, **scores}, "release": best_per_metric([scores])},
    }
    return {**whole, **results}


def evaluation_content(**changes) -> dict:
    """metrics.json of an evaluation of the run `a` on bid; numbers among the changes are metrics."""
    title = changes.pop("database", "bid")
    metrics = {name: changes.pop(name) for name in ("srcc", "plcc") if name in changes}
    target = {"root": "data", "labels": changes.pop("labels", "l"), "part": "auto", "split": None}
    whole = {
        **{"run": "a", "checkpoint": "best.pt", "finished": True, "target": target, "turned": False},
        **{"precision": "fp32", "images": 5, "part": "all 5 images", "own": False, "trained_on": 0},
        **{"training_images": "known", "optimistic": False, "notes": []},
    }
    return {**test_results({title: metrics}), **whole, **changes}


def database_split(folder: Path, title: str = "koniq10k") -> dict:
    """What split.json in the folder of a split says of one database."""
    return json.loads((folder / "split.json").read_text())["databases"][title]
