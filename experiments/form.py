"""Whether the files of a finished split have the form in which main.py writes them."""

from collections.abc import Iterator, Sequence
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

from datasets.labels import LabelRecipe
from datasets.ratings import PARTS
from utils.errors import UserError
from utils.run_folder import METRICS, SPLIT

OF_LABELS = ("noise_ceiling", "intervals")
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
    for file, found in ((METRICS, _in_metrics(metrics, titles)), (SPLIT, _in_origin(origin, titles))):
        for key, value in found:
            if not isinstance(value, dict):
                raise UserError(
                    f"{folder / file}: {key} is not as main.py writes it, or missing; put it back or delete the split"
                )


def is_record(record: Any) -> bool:
    """Whether a line of log.jsonl is the record of an epoch."""
    parts = ("train", "validation", "test")
    return isinstance(record, dict) and all(isinstance(record.get(part, {}), dict) for part in parts)


def _in_metrics(metrics: dict[str, Any], titles: Sequence[str]) -> Found:
    """By name, what has to be an object; what is inside one comes after it."""
    selections = metrics.get("selections", {})
    yield "selections", selections
    yield from ((f"selections.{name}", of_one) for name, of_one in selections.items())
    yield "environment", metrics.get("environment") or {}
    for key in OF_LABELS:
        yield key, metrics.get(key) or {}
        yield from ((f"{key}.{title}", (metrics.get(key) or {}).get(title) or {}) for title in titles)
    if titles:
        yield "pit_histogram", metrics.get("pit_histogram") or {}
        for place, values in {"": metrics, **{f"selections.{name}.": one for name, one in selections.items()}}.items():
            yield f"{place}databases", values.get("databases")
            yield from ((f"{place}databases.{title}", values["databases"].get(title)) for title in titles)


def _in_origin(origin: dict[str, Any], titles: Sequence[str]) -> Found:
    if titles:
        yield "databases", origin.get("databases")
    for title in titles or [""]:
        of_one = origin["databases"].get(title) if titles else origin
        yield title, of_one
        labels = of_one.get("labels")
        yield "labels", {} if labels is None else labels
        yield "labels", {} if labels is None or labels.keys() >= OF_RECIPE else None
        for part in PARTS:
            yield part, {} if isinstance(of_one.get(part, []), list) else None
