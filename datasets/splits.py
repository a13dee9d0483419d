"""Which image is for training, validation and test; seeded or from a file, saved by name, with a hash.

A name is the path of an image in the official layout, so that a split does not depend on where the images lie.
"""

import hashlib
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from datasets.ratings import PARTS, Record
from datasets.readers.tables import pick, read_table
from utils.errors import MissingFileError, UserError, did_you_mean, shortened, some_of
from utils.files import read_json, reading
from utils.schema import require_version
from utils.settings import ProtocolSettings

SEEN_BEFORE = "seen_before"  # in split.json: the images that the weights at the start were trained on
BESIDE = ("hash", "labels")  # what split.json has beside the parts of a database
FEWEST_FOR_SRCC = 2
SHOWN = 3  # names in one message
SHOWN_LENGTH = 60  # of a value in one message


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
    left_out: Collection[str] = (),
) -> Split:
    """Split `number` (from 1) of a database.

    `random` sorts the names, shuffles them with a generator of its own, seeded by (split_seed, number), and takes the
    first round(train_fraction * n) for training, the last of these for validation. Where the unit is the reference,
    references take the place of names, so that no scene is on both sides; likewise image sets. `official` takes the
    parts that the database states, `file` those of a split file.

    Args:
        records: The database.
        protocol: Method, unit, seed and fractions.
        number: From 1.
        split_file: For `file`, see `read_split`.
        title: For `file`: which database's split it is, of a file with several.
        left_out: For `file`: names of the database that this copy lacks.

    Raises:
        UserError: A part would be empty or is too small to select by, the database states no official parts, or the
            file does not fit it.
    """
    if protocol.method == "file":
        split = read_split(records, Path(split_file), number, title, left_out)
    else:
        split = _official(records) if protocol.method == "official" else _random(records, protocol, number)
    for part in ("train", "test", *(("validation",) if protocol.selection == "validation" else ())):
        if not getattr(split, part):
            advice = {
                "random": "change protocol.train_fraction or protocol.validation_fraction",
                "official": "use protocol.method=random",
                "file": "name images of it in the file",
            }
            raise UserError(
                f"protocol: {len(records)} images leave the {part} part of split {number} empty; "
                f"{advice[protocol.method]}"
            )
    if protocol.selection == "validation" and len(split.validation) < FEWEST_FOR_SRCC:
        which = f"split {number}{f' of {title}' if title else ''}"
        advice = "raise protocol.validation_fraction" if protocol.method == "random" else "give it more images"
        raise UserError(
            f"protocol.selection: the validation part of {which} is one image, of which SRCC is not defined; {advice}, "
            "or use selection `last`"
        )
    return split


def read_split(
    records: Sequence[Record], path: Path, number: int = 1, title: str | None = None, left_out: Collection[str] = ()
) -> Split:
    """The split that a file states, for every image of the database but those left out.

    The file is one of: the `split.json` of a run; JSON with lists of names under `train`, `test` and, if wanted,
    `validation`; JSON that maps each name to its part; a list of any of these, one for each split; CSV with the columns
    `image` and `split`. A name is the path of the image below the root, in the official layout or as it lies. A
    stated hash must be that of the names.

    Raises:
        MissingFileError: No such file.
        UserError: Another form, an unknown or missing image, an image in two parts, or another hash.
    """
    with reading(path):
        if not path.is_file():
            raise MissingFileError(f"dataset.split_file: {path} does not exist")
        part_of, stated_hash = _parts_in_file(path, number, title)
    by_spelling = {record.image: record.name for record in records} | {record.name: record.name for record in records}
    by_spelling |= {name: name for name in left_out}
    unknown = [name for name in part_of if name not in by_spelling]
    if unknown:
        raise UserError(f"{path}: {_some(unknown)} not in the database; it has {records[0].name} and so on")
    names = {by_spelling[name]: part for name, part in part_of.items()}
    if len(names) != len(part_of):
        raise UserError(f"{path}: {len(part_of) - len(names)} images are given under two names")
    missing = [record.name for record in records if record.name not in names]
    if missing:
        raise UserError(f"{path}: {_some(missing)} in the database, but not in the file; every image needs a part")
    whole = Split(*(tuple(sorted(name for name in names if names[name] == part)) for part in PARTS))
    if stated_hash not in (None, whole.hash):
        raise UserError(f"{path}: states the hash {stated_hash}, but its names have {whole.hash}; it was changed")
    absent = set(left_out)
    return Split(*(tuple(name for name in getattr(whole, part) if name not in absent) for part in PARTS))


def unit_of(records: Sequence[Record], protocol: ProtocolSettings) -> str:
    """What a random split keeps together; `auto` is the reference where every image has one, else the image."""
    if protocol.unit != "auto":
        return protocol.unit
    return "image" if any(record.reference is None for record in records) else "reference"


def keys_of(records: Sequence[Record], unit: str) -> dict[str, str]:
    """By name of each image, which unit it is of: itself, or its reference or image set.

    Raises:
        UserError: The database does not state it of every image.
    """
    keys = {record.name: record.name if unit == "image" else getattr(record, unit) for record in records}
    if None in keys.values():
        raise UserError(f"protocol.unit: `{unit}`, but the database does not state it of every image; use `image`")
    return keys


def _official(records: Sequence[Record]) -> Split:
    without = [record.name for record in records if record.split not in PARTS]
    if without:
        raise UserError(
            f"protocol.method: `official`, but the label files do not say which part {without[0]} and "
            f"{len(without) - 1} others belong to; use `random`, or add the file of the database that does"
        )
    return Split(*(tuple(sorted(r.name for r in records if r.split == part)) for part in PARTS))


def _random(records: Sequence[Record], protocol: ProtocolSettings, number: int) -> Split:
    key_of = keys_of(records, unit_of(records, protocol))
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
        if "version" in content:
            require_version(content, path)
        if title not in content["databases"]:
            raise UserError(f"{path}: holds splits of {', '.join(content['databases'])}, but not of {title}")
        content = content["databases"][title]
    if not isinstance(content, dict):
        raise UserError(
            f"{path}: a split is a mapping, got {type(content).__name__}; see docs/DATABASES.md for the forms"
        )
    if "train" not in content:
        return _require_parts(content, path), None
    for key in content:
        if key not in (*PARTS, *BESIDE):
            raise UserError(f"{path}: unknown key {key!r}{did_you_mean(key, PARTS)}; allowed: {', '.join(PARTS)}")
    lists = {part: content.get(part) or [] for part in PARTS}
    for part, value in lists.items():
        if not isinstance(value, list):
            raise UserError(f"{path}: {part} must be a list of names, got {shortened(repr(value), SHOWN_LENGTH)}")
    names = [name for part in PARTS for name in lists[part]]
    texts = {str(name) for name in names if not isinstance(name, str)}
    twice = sorted(texts or {name for name, count in Counter(names).items() if count > 1})
    if twice:
        raise UserError(f"{path}: {_some(twice)} given twice, or not a name")
    return {name: part for part in PARTS for name in lists[part]}, content.get("hash")


def _require_parts(part_of: dict[str, Any], path: Path) -> dict[str, str]:
    for name, part in part_of.items():
        if not isinstance(part, str) or part not in PARTS:
            what = shortened(repr(part), SHOWN_LENGTH)
            raise UserError(f"{path}: the part of {name} is {what}; allowed: {', '.join(PARTS)}")
    return part_of


def _some(names: list[str]) -> str:
    """`a, b, c and 7 more are`."""
    return f"{some_of(names, SHOWN)} {'is' if len(names) == 1 else 'are'}"
