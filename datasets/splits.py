"""Which image is for training, validation and test; seeded or from a file, saved by name, with a hash.

A name is the path of an image in the official layout, so that a split does not depend on where the images lie.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from datasets.ratings import Record
from datasets.readers.tables import pick, read_table
from utils.errors import MissingFileError, UserError
from utils.files import read_json
from utils.settings import ProtocolSettings

PARTS = ("train", "validation", "test")
SHOWN = 3  # names in one message


@dataclass(frozen=True)
class Split:
    """Image names of the three parts; validation may be empty."""

    train: tuple[str, ...]
    validation: tuple[str, ...]
    test: tuple[str, ...]

    @property
    def hash(self) -> str:
        """The same for the same parts on any machine, whatever the order within them."""
        lines = [f"{part}\t{name}" for part in PARTS for name in sorted(getattr(self, part))]
        return hashlib.sha256("\n".join(lines).encode(errors="surrogateescape")).hexdigest()[:16]

    def as_dict(self) -> dict:
        return {"hash": self.hash, **{part: list(getattr(self, part)) for part in PARTS}}


def make_split(
    records: Sequence[Record],
    protocol: ProtocolSettings,
    number: int,
    split_file: str | Path | None = None,
    title: str | None = None,
) -> Split:
    """Split `number` (from 1) of a database.

    `random` sorts the names, shuffles them with a generator of its own, seeded by (split_seed, number), and takes the
    first round(train_fraction * n) for training, the last of these for validation. Where the unit is the reference,
    references take the place of names, so that no scene is on both sides. `official` takes the parts that the database
    states, `file` those of a split file.

    Args:
        records: The database.
        protocol: Method, unit, seed and fractions.
        number: From 1.
        split_file: For `file`, see `read_split`.
        title: For `file`: which database's split it is, of a file with several.

    Raises:
        UserError: A part would be empty, the database states no official parts, or the file does not fit it.
    """
    if protocol.method == "file":
        split = read_split(records, Path(split_file), number, title)
    else:
        split = _official(records) if protocol.method == "official" else _random(records, protocol, number)
    for part in ("train", "test", *(("validation",) if protocol.selection == "validation" else ())):
        if not getattr(split, part):
            raise UserError(
                f"protocol: {len(records)} images leave the {part} part of split {number} empty; change "
                "protocol.train_fraction, protocol.validation_fraction or the database"
            )
    return split


def read_split(records: Sequence[Record], path: Path, number: int = 1, title: str | None = None) -> Split:
    """The split that a file states, for every image of the database.

    The file is one of: the `split.json` of a run; JSON with lists of names under `train`, `test` and, if wanted,
    `validation`; JSON that maps each name to its part; a list of any of these, one for each split; CSV with the columns
    `image` and `split`. A name is the path of the image below the root, in the official layout or as it lies. A
    stated hash must be that of the names.

    Raises:
        MissingFileError: No such file.
        UserError: Another form, an unknown or missing image, an image in two parts, or another hash.
    """
    if not path.is_file():
        raise MissingFileError(f"dataset.split_file: {path} does not exist")
    part_of, stated_hash = _parts_in_file(path, number, title)
    by_spelling = {record.image: record.name for record in records} | {record.name: record.name for record in records}
    unknown = [name for name in part_of if name not in by_spelling]
    if unknown:
        raise UserError(f"{path}: {_some(unknown)} not in the database; it has {records[0].name} and so on")
    names = {by_spelling[name]: part for name, part in part_of.items()}
    if len(names) != len(part_of):
        raise UserError(f"{path}: {len(part_of) - len(names)} images are given under two names")
    missing = [record.name for record in records if record.name not in names]
    if missing:
        raise UserError(f"{path}: {_some(missing)} in the database, but not in the file; every image needs a part")
    split = Split(*(tuple(sorted(name for name in names if names[name] == part)) for part in PARTS))
    if stated_hash not in (None, split.hash):
        raise UserError(f"{path}: states the hash {stated_hash}, but its names have {split.hash}; it was changed")
    return split


def _official(records: Sequence[Record]) -> Split:
    without = [record.name for record in records if record.split not in PARTS]
    if without:
        raise UserError(
            f"protocol.method: `official`, but the label files do not say which part {without[0]} and "
            f"{len(without) - 1} others belong to; use `random`, or add the file of the database that does"
        )
    return Split(*(tuple(sorted(r.name for r in records if r.split == part)) for part in PARTS))


def _random(records: Sequence[Record], protocol: ProtocolSettings, number: int) -> Split:
    with_reference = [record for record in records if record.reference is not None]
    unit = protocol.unit
    if unit == "auto":
        unit = "reference" if len(with_reference) == len(records) else "image"
    if unit == "reference" and len(with_reference) < len(records):
        raise UserError("protocol.unit: `reference`, but the database does not state references; use `image`")
    key_of = {record.name: record.reference if unit == "reference" else record.name for record in records}
    keys = sorted(set(key_of.values()))
    order = np.random.default_rng([protocol.split_seed, number]).permutation(len(keys))
    shuffled = [keys[index] for index in order]
    train_end = round(protocol.train_fraction * len(keys))
    fit_end = train_end - round(protocol.validation_fraction * len(keys))
    bounds = {"train": shuffled[:fit_end], "validation": shuffled[fit_end:train_end], "test": shuffled[train_end:]}
    part_of = {key: part for part, keys_of_part in bounds.items() for key in keys_of_part}
    return Split(*(tuple(sorted(name for name in key_of if part_of[key_of[name]] == part)) for part in PARTS))


def _parts_in_file(path: Path, number: int, title: str | None) -> tuple[dict[str, str], str | None]:
    """The part of each name, and the stated hash if there is one."""
    if path.suffix.lower() == ".json":
        content = read_json(path)
        if isinstance(content, list):
            if not 1 <= number <= len(content):
                raise UserError(f"{path}: holds {len(content)} splits, but split {number} is wanted")
            content = content[number - 1]
        elif number != 1:
            raise UserError(f"{path}: holds one split, but split {number} is wanted; set protocol.splits to 1")
        return _parts_in_json(content, path, title)
    table = pick(read_table(path), path, {"image": ("image",), "split": ("split",)})
    if number != 1:
        raise UserError(f"{path}: a CSV holds one split, but split {number} is wanted; set protocol.splits to 1")
    twice = table["image"][table["image"].duplicated()]
    for line, name in twice.items():
        raise UserError(f"{path}, line {line}: {name} was given before")
    return _require_parts(dict(zip(table["image"], table["split"], strict=True)), path), None


def _parts_in_json(content: Any, path: Path, title: str | None) -> tuple[dict[str, str], str | None]:
    if isinstance(content, dict) and isinstance(content.get("databases"), dict):
        if title not in content["databases"]:
            raise UserError(f"{path}: holds splits of {', '.join(content['databases'])}, but not of {title}")
        content = content["databases"][title]
    if not isinstance(content, dict):
        raise UserError(f"{path}: a split is a mapping, got {type(content).__name__}; see the README for the forms")
    if not isinstance(content.get("train"), list):
        return _require_parts(content, path), None
    lists = {part: content.get(part, []) for part in PARTS}
    names = [name for part in PARTS for name in lists[part]]
    twice = sorted({str(name) for name in names if not isinstance(name, str)} or _repeated(names))
    if twice:
        raise UserError(f"{path}: {_some(twice)} given twice, or not a name")
    return {name: part for part in PARTS for name in lists[part]}, content.get("hash")


def _require_parts(part_of: dict[str, Any], path: Path) -> dict[str, str]:
    for name, part in part_of.items():
        if part not in PARTS:
            raise UserError(f"{path}: the part of {name} is {part!r}; allowed: {', '.join(PARTS)}")
    return part_of


def _repeated(names: list[str]) -> set[str]:
    seen: set[str] = set()
    return {name for name in names if name in seen or seen.add(name)}


def _some(names: list[str]) -> str:
    """`a, b, c and 7 others are`."""
    more = f" and {len(names) - SHOWN} others" if len(names) > SHOWN else ""
    return f"{', '.join(names[:SHOWN])}{more} {'is' if len(names) == 1 else 'are'}"
