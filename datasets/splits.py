"""Splits into training, validation and test parts: seeded, official or from a file; saved by name, with a hash.

The name of an image is its path in the official layout, so that a split does not depend on where the images are.
"""

import hashlib
import posixpath
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from datasets.ratings import PARTS, Record, part_named
from datasets.readers.tables import IMAGE_TITLES, pick, read_table, refuse
from utils.errors import MissingFileError, UserError, did_you_mean, shortened, some_of
from utils.files import read_json, reading
from utils.image_names import Spellings, with_slashes
from utils.schema import require_version
from utils.settings import ProtocolSettings

SEEN_BEFORE = "seen_before"  # in split.json: the images that the weights at the start were trained on
OTHER_KEYS = ("hash", "labels")  # of a database in split.json, beside its parts
FEWEST_FOR_SRCC = 2
IF_EMPTY = {  # what to do about an empty part, by method
    "random": "change protocol.train_fraction or protocol.validation_fraction",
    "official": "set protocol.validation_fraction, or use protocol.method=random",
    "file": "list images for it in the file",
}
SHOWN = 3  # names in one message
SHOWN_LENGTH = 60  # characters of a value in one message


@dataclass(frozen=True)
class Split:
    """Image names of the training, validation and test parts; validation may be empty."""

    train: tuple[str, ...]
    validation: tuple[str, ...]
    test: tuple[str, ...]

    @property
    def hash(self) -> str:
        """Hash of the parts, independent of the machine and of the order within a part."""
        lines = [f"{part}\t{name}" for part in PARTS for name in sorted(getattr(self, part))]
        return hashlib.sha256("\n".join(lines).encode(errors="surrogateescape")).hexdigest()[:16]

    @classmethod
    def from_parts(cls, part_of: Mapping[str, str]) -> "Split":
        """Return the split with these parts by name."""
        return cls(*(tuple(sorted(name for name in part_of if part_of[name] == part)) for part in PARTS))

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
    """Make one split of a database.

    `auto` is `official` if the database states a part of every image, else `random`. `random` sorts the names and
    shuffles them with a separate generator seeded by (split_seed, number). The first round(train_fraction * n)
    names are for training, except the last of these, which are for validation; the rest is for testing. If the unit
    is the reference or the image set, these are shuffled instead of names, so that each lies in one part only.
    `official` uses the parts stated by the database; a validation part may be drawn from the training part in the
    same way. `file` uses the parts of a split file.

    Args:
        records: Records of the database.
        protocol: Method, unit, seed and fractions.
        number: Number of the split, from 1.
        split_file: Path of the split file, for `file`; see `read_split`.
        title: Title of the database, for a split file with several databases.
        left_out: Names of images that this copy of the database lacks, for `file`.

    Raises:
        UserError: A part is empty or too small for the selection, the database states no official parts, or the file
            does not fit the database.
    """
    method = split_method(records, protocol)
    if method == "file":
        split = read_split(records, Path(split_file), number, title, left_out)
    else:
        split = (_official if method == "official" else _random)(records, protocol, number)
    validated = protocol.selection == "validation" or protocol.calibration != "none"
    for part in ("train", "test", *(("validation",) if validated else ())):
        if not getattr(split, part):
            raise UserError(
                f"protocol: {len(records)} images leave the {part} part of split {number} empty; {IF_EMPTY[method]}"
            )
    if protocol.selection == "validation" and len(split.validation) < FEWEST_FOR_SRCC:
        which = f"split {number}{f' of {title}' if title else ''}"
        advice = "raise protocol.validation_fraction" if method == "random" else "give it more images"
        raise UserError(
            f"protocol.selection: the validation part of {which} has one image, so SRCC is not defined; {advice}, "
            "or use selection `last`"
        )
    return split


def read_split(
    records: Sequence[Record], path: Path, number: int = 1, title: str | None = None, left_out: Collection[str] = ()
) -> Split:
    """Read a split from a file.

    The file may be the `split.json` of a run; JSON with lists of names under `train`, `test` and optionally
    `validation`; JSON that maps each name to its part; a JSON list of these, one per split; or CSV with the columns
    `image` and `split`. A name is the path of an image below the root, in the official layout or in that of this copy,
    found as `Spellings` do.
    If the file has a hash, it must match the names.

    Args:
        records: Records of the database; each must have a part in the file.
        path: Path of the split file.
        number: Number of the split, from 1.
        title: Title of the database, for a file with several databases.
        left_out: Names of images that this copy of the database lacks.

    Raises:
        MissingFileError: The file does not exist.
        UserError: The format is unknown, an image is unknown, missing or in two parts, or the hash does not match.
    """
    with reading(path):
        if not path.is_file():
            raise MissingFileError(f"dataset.split_file: {path} does not exist")
        part_of, stated_hash = _parts_in_file(path, number, title)
    by_spelling = {record.image: record.name for record in records} | {record.name: record.name for record in records}
    spellings = Spellings(by_spelling | {name: name for name in left_out})
    meant = {name: spellings.find(posixpath.normpath(with_slashes(name))) for name in part_of}
    unknown = [name for name in part_of if meant[name] is None]
    if unknown:
        raise UserError(f"{path}: {_some(unknown)} not in the database, whose images have names like {records[0].name}")
    names = {meant[name]: part for name, part in part_of.items()}
    if len(names) != len(part_of):
        raise UserError(f"{path}: {len(part_of) - len(names)} images are listed under two names")
    missing = [record.name for record in records if record.name not in names]
    if missing:
        raise UserError(f"{path}: {_some(missing)} in the database, but not in the file; every image must have a part")
    whole = Split.from_parts(names)
    if stated_hash not in (None, whole.hash):
        raise UserError(
            f"{path}: the hash {stated_hash} does not match the names, which give {whole.hash}; the file was changed"
        )
    return Split.from_parts({name: part for name, part in names.items() if name not in left_out})


def split_method(records: Sequence[Record], protocol: ProtocolSettings) -> str:
    """Return the method of splitting a database; `auto` is official if it states a part of every image."""
    if protocol.method != "auto":
        return protocol.method
    return "official" if all(record.split in PARTS for record in records) else "random"


def split_unit(records: Sequence[Record], protocol: ProtocolSettings) -> str:
    """Return the unit of random splits; `auto` is the reference if every image has one, else the image."""
    if protocol.unit != "auto":
        return protocol.unit
    return "image" if any(record.reference is None for record in records) else "reference"


def split_keys(records: Sequence[Record], unit: str) -> dict[str, str]:
    """Return the unit of each image by name: the name itself, its reference or its image set.

    Raises:
        UserError: The database does not state the unit of every image.
    """
    keys = {record.name: record.name if unit == "image" else getattr(record, unit) for record in records}
    if None in keys.values():
        raise UserError(f"protocol.unit: `{unit}`, but the database does not state it for every image; use `image`")
    return keys


def _official(records: Sequence[Record], protocol: ProtocolSettings, number: int) -> Split:
    without = [record.name for record in records if record.split not in PARTS]
    if without:
        raise UserError(
            f"protocol.method: `official`, but the label files do not say which part {without[0]} and "
            f"{len(without) - 1} others belong to; use `random`, or add the label file that does"
        )
    split = Split.from_parts({record.name: record.split for record in records})
    if protocol.validation_fraction == 0 or (protocol.method == "auto" and split.validation):
        return split
    if split.validation:
        raise UserError(
            f"protocol.validation_fraction: {protocol.validation_fraction}, but the official split has a validation "
            f"part of {len(split.validation)} images; set it to 0"
        )
    key_of = split_keys(records, split_unit(records, protocol))
    keys = sorted({key_of[name] for name in split.train})
    order = np.random.default_rng([protocol.split_seed, number]).permutation(len(keys))
    drawn = {keys[index] for index in order[: round(protocol.validation_fraction * len(set(key_of.values())))]}
    validation = tuple(name for name in split.train if key_of[name] in drawn)
    return Split(tuple(name for name in split.train if key_of[name] not in drawn), validation, split.test)


def _random(records: Sequence[Record], protocol: ProtocolSettings, number: int) -> Split:
    key_of = split_keys(records, split_unit(records, protocol))
    keys = sorted(set(key_of.values()))
    order = np.random.default_rng([protocol.split_seed, number]).permutation(len(keys))
    train_end = round(protocol.train_fraction * len(keys))
    fit_end = train_end - round(protocol.validation_fraction * len(keys))
    part_of = {
        keys[index]: "train" if place < fit_end else "validation" if place < train_end else "test"
        for place, index in enumerate(order)
    }
    return Split.from_parts({name: part_of[key] for name, key in key_of.items()})


def _parts_in_file(path: Path, number: int, title: str | None) -> tuple[dict[str, str], str | None]:
    """Return the part of each name, and the hash in the file or None."""
    is_json = path.suffix.lower() == ".json"
    content = read_json(path) if is_json else None
    if isinstance(content, list):
        if not 1 <= number <= len(content):
            raise UserError(f"{path}: contains {len(content)} splits, but split {number} was requested")
        content = content[number - 1]
    elif number != 1:
        raise UserError(f"{path}: contains one split, but split {number} was requested; set protocol.splits to 1")
    if is_json:
        return _parts_in_json(content, path, title)
    table = pick(read_table(path), path, {"image": IMAGE_TITLES, "split": ("split", "set")})
    names = table["image"]
    refuse(names.duplicated(), path, lambda line: f"{names[line]} occurs twice")
    return _require_parts(dict(zip(names, table["split"], strict=True)), path), None


def _parts_in_json(content: Any, path: Path, title: str | None) -> tuple[dict[str, str], str | None]:
    if isinstance(content, dict) and isinstance(content.get("databases"), dict):
        if "version" in content:
            require_version(content, path)
        if title not in content["databases"]:
            raise UserError(f"{path}: contains splits of {', '.join(content['databases'])}, but not of {title}")
        content = content["databases"][title]
    if not isinstance(content, dict):
        raise UserError(
            f"{path}: a split is a mapping, got {type(content).__name__}; see docs/DATABASES.md for the formats"
        )
    if "train" not in map(part_named, content):
        return _require_parts(content, path), None
    content = {part_named(key) or key: value for key, value in content.items()}
    for key in content:
        if key not in (*PARTS, *OTHER_KEYS):
            raise UserError(f"{path}: unknown key {key!r}{did_you_mean(key, PARTS)}; allowed: {', '.join(PARTS)}")
    lists = {part: content.get(part) or [] for part in PARTS}
    for part, value in lists.items():
        if not isinstance(value, list):
            raise UserError(f"{path}: {part} must be a list of names, got {shortened(repr(value), SHOWN_LENGTH)}")
    names = [name for part in PARTS for name in lists[part]]
    texts = {str(name) for name in names if not isinstance(name, str)}
    twice = sorted(texts or {name for name, count in Counter(names).items() if count > 1})
    if twice:
        raise UserError(f"{path}: {_some(twice)} listed twice or not a name")
    return {name: part for part in PARTS for name in lists[part]}, content.get("hash")


def _require_parts(part_of: dict[str, Any], path: Path) -> dict[str, str]:
    """Return the part of each name, as we call it."""
    for name, part in part_of.items():
        if part_named(part) is None:
            value = shortened(repr(part), SHOWN_LENGTH)
            raise UserError(f"{path}: the part of {name} is {value}; allowed: {', '.join(PARTS)}")
    return {name: part_named(part) for name, part in part_of.items()}


def _some(names: list[str]) -> str:
    """Return the start of a message: `a, b, c and 7 more are`."""
    return f"{some_of(names, SHOWN)} {'is' if len(names) == 1 else 'are'}"
