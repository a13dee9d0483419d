"""Whether the files of a finished split have the form in which main.py writes them."""

from collections.abc import Iterator, Sequence
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

from datasets.labels import LabelRecipe
from datasets.ratings import PARTS
from experiments.results.lines import SELECTION_NOTES
from experiments.training.run_folder import METRICS, SPLIT, RunFolder
from utils.errors import UserError
from utils.metrics import BETTER, CENTRAL
from utils.settings import Config

OF_LABELS = ("noise_ceiling", "intervals")
METRIC_NAMES = (*BETTER, *(f"coverage_{share}" for share in CENTRAL))
OF_RECIPE = {field.name for field in fields(LabelRecipe) if field.default is MISSING}

Found = Iterator[tuple[str, Any]]


def require_form(folder: Path, metrics: dict[str, Any], origin: dict[str, Any], titles: Sequence[str]) -> None:
    """Refuses what is JSON and not what main.py writes, before anything is made of it.

    Args:
        folder: Of the split.
        metrics: metrics.json.
        origin: split.json.
        titles: Of several databases; of one, none.

    Raises:
        UserError: Names the file and the first key that is wrong.
    """
    _require_objects(folder / METRICS, _in_metrics(metrics, titles))
    _require_objects(folder / SPLIT, _in_origin(origin, titles))


def read_metrics(folder: RunFolder, config: Config) -> dict[str, Any]:
    """metrics.json of a finished split.

    Raises:
        UserError: It is not as main.py writes it.
    """
    metrics = folder.metrics()
    titles = [member.title or member.name for member in config.members] if config.several else []
    _require_objects(folder.path / METRICS, _in_metrics(metrics, titles))
    return metrics


def _require_objects(file: Path, found: Found) -> None:
    for key, value in found:
        if not isinstance(value, dict):
            raise UserError(f"{file}: {key} is not as main.py writes it, or missing; put it back or delete the split")


def is_record(record: Any) -> bool:
    """Whether a line of log.jsonl is the record of an epoch."""
    parts = ("train", "validation", "test")
    return isinstance(record, dict) and all(isinstance(record.get(part, {}), dict) for part in parts)


def _in_metrics(metrics: dict[str, Any], titles: Sequence[str]) -> Found:
    """By name, what has to be an object; what is inside one comes after it."""
    selections = metrics.get("selections", {})
    yield "selections", selections
    yield from ((f"selections.{name}", one if name in SELECTION_NOTES else None) for name, one in selections.items())
    yield "undefined", {} if isinstance(metrics.get("undefined", []), list) else None
    yield "environment", metrics.get("environment") or {}
    places = {"": metrics, **{f"selections.{name}.": of_one for name, of_one in selections.items()}}
    for place, values in places.items():
        yield from _numbers(place, values)
    for key in OF_LABELS:
        yield key, metrics.get(key) or {}
        yield from ((f"{key}.{title}", (metrics.get(key) or {}).get(title) or {}) for title in titles)
    if titles:
        yield "pit_histogram", metrics.get("pit_histogram") or {}
        for place, values in places.items():
            yield f"{place}databases", values.get("databases")
            for title in titles:
                yield f"{place}databases.{title}", values["databases"].get(title)
                yield from _numbers(f"{place}databases.{title}.", values["databases"][title])
    ceiling = metrics.get("noise_ceiling") or {}
    for of_one in [ceiling.get(title) or {} for title in titles] if titles else [ceiling]:
        yield "noise_ceiling", {} if all(map(is_number, of_one.values())) else None
    yield "selections.last", selections.get("last")


def is_number(value: Any) -> bool:
    """Whether JSON holds a number, or null for one that is not defined."""
    return value is None or (isinstance(value, (int, float)) and not isinstance(value, bool))


def _numbers(place: str, metrics: dict[str, Any]) -> Found:
    """The metrics that are there; what is no number is no object either."""
    yield from (
        (f"{place}{name}", {} if is_number(metrics[name]) else None) for name in METRIC_NAMES if name in metrics
    )


def _in_origin(origin: dict[str, Any], titles: Sequence[str]) -> Found:
    if titles:
        yield "databases", origin.get("databases")
        yield from ((title, origin["databases"].get(title)) for title in titles)
    for of_one in [origin["databases"][title] for title in titles] if titles else [origin]:
        labels = of_one.get("labels")
        yield "labels", {} if labels is None else labels
        yield "labels", {} if labels is None or labels.keys() >= OF_RECIPE else None
        yield from ((part, {} if isinstance(of_one.get(part), list) else None) for part in PARTS)
        yield "hash", {} if isinstance(of_one.get("hash"), str) else None
