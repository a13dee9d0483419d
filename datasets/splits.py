"""Which image is for training, validation and test; seeded, saved by name, with a hash."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from datasets.labels import Record
from utils.errors import UserError
from utils.settings import ProtocolSettings

PARTS = ("train", "validation", "test")


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
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]

    def as_dict(self) -> dict:
        return {"hash": self.hash, **{part: list(getattr(self, part)) for part in PARTS}}


def make_split(records: Sequence[Record], protocol: ProtocolSettings, number: int) -> Split:
    """Split `number` (from 1) of a database.

    `random` sorts the names, shuffles them with a generator of its own, seeded by (split_seed, number), and takes the
    first round(train_fraction * n) for training, the last of these for validation. Where the unit is the reference,
    references take the place of names, so that no scene is on both sides.

    Raises:
        UserError: A part would be empty, or the database states no official parts.
    """
    split = _official(records) if protocol.method == "official" else _random(records, protocol, number)
    for part in ("train", "test", *(("validation",) if protocol.selection == "validation" else ())):
        if not getattr(split, part):
            raise UserError(
                f"protocol: {len(records)} images leave the {part} part of split {number} empty; change "
                "protocol.train_fraction, protocol.validation_fraction or the database"
            )
    return split


def _official(records: Sequence[Record]) -> Split:
    without = [record.image for record in records if record.split not in PARTS]
    if without:
        raise UserError(
            f"protocol.method: `official`, but the label files do not say which part {without[0]} and "
            f"{len(without) - 1} others belong to; use `random`, or add the file of the database that does"
        )
    return Split(*(tuple(sorted(r.image for r in records if r.split == part)) for part in PARTS))


def _random(records: Sequence[Record], protocol: ProtocolSettings, number: int) -> Split:
    unit = protocol.unit
    if unit == "auto":
        unit = "reference" if all(record.reference is not None for record in records) else "image"
    if unit == "reference" and any(record.reference is None for record in records):
        raise UserError("protocol.unit: `reference`, but the database does not state references; use `image`")
    keys = sorted({getattr(record, unit) for record in records})
    order = np.random.default_rng([protocol.split_seed, number]).permutation(len(keys))
    shuffled = [keys[index] for index in order]
    train_end = round(protocol.train_fraction * len(keys))
    fit_end = train_end - round(protocol.validation_fraction * len(keys))
    bounds = {"train": shuffled[:fit_end], "validation": shuffled[fit_end:train_end], "test": shuffled[train_end:]}
    part_of = {key: part for part, keys_of_part in bounds.items() for key in keys_of_part}
    return Split(*(tuple(sorted(r.image for r in records if part_of[getattr(r, unit)] == part)) for part in PARTS))
