"""Rating and Record: an image of a database before and after its labels are made."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

PARTS = ("train", "validation", "test")
PART_NAMES = {  # in files
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("validation", "valid", "val"), "validation"),
    **dict.fromkeys(("test", "testing"), "test"),
}
LARGEST_PANEL = 10**7  # voters of one image


@dataclass(frozen=True)
class Rating:
    """Entry of a label file for one image, in units of the rating scale.

    Args:
        image: Path relative to the root, as spelt on disk.
        mos: Mean opinion score; None until `labels.complete` computes it from the votes.
        sos: Standard deviation of the opinions, if the file or its votes have it.
        counts: Votes or fractions in each bin of the scale, lowest score first.
        grades: Single opinions, if they are not restricted to the bins.
        reference: Reference image or scene, the same for all its distorted versions.
        image_set: Set of images that `protocol.unit: image_set` keeps in one part of a split.
        split: Part in the official split: `train`, `validation` or `test`.
        name: Path of the image in the official layout, the same on every machine; defaults to `image`.
        source: File and row, for messages.
        file: Path of the label file.
        note: Inconsistency of the row, which is nevertheless usable.
        open_ended: Whether scores may lie outside the scale, as realigned scores do.
        missing: Whether the image file is missing.
        damage: What is wrong with the image file, as far as `image_files.find_damage` sees.
        sos_from_votes: Whether the SOS is computed from the votes.
    """

    image: str
    mos: float | None
    sos: float | None = None
    counts: tuple[float, ...] | None = None
    reference: str | None = None
    split: str | None = None
    source: str = ""
    name: str = ""
    grades: tuple[float, ...] | None = None
    note: str = ""
    open_ended: bool = False
    missing: bool = False
    image_set: str | None = None
    file: str = ""
    damage: str = ""
    sos_from_votes: bool = False

    def __post_init__(self):
        object.__setattr__(self, "name", self.name or self.image)

    @property
    def voters(self) -> int | None:
        """Number of voters; None if unknown, as with fractions, or implausible."""
        if self.grades is not None:
            return len(self.grades)
        total = 0 if self.counts is None else sum(self.counts)
        whole = 1 < total <= LARGEST_PANEL and tuple(map(int, self.counts)) == self.counts
        return int(total) if whole else None


@dataclass(frozen=True)
class Record:
    """Labelled image: path relative to the root, MOS and SOS in units of the scale, DOS summing to 1."""

    image: str
    mos: float
    sos: float
    dos: tuple[float, ...]
    reference: str | None = None
    split: str | None = None
    name: str = ""  # path in the official layout, the same on every machine; splits are made and saved by name
    image_set: str | None = None

    def __post_init__(self):
        object.__setattr__(self, "name", self.name or self.image)


def part_named(name: object) -> str | None:
    """Return the part of a split that a file calls so, in any case, such as `Val`; None if it is none."""
    return PART_NAMES.get(name.strip().casefold()) if isinstance(name, str) else None


def arrays(labels: Sequence[Rating] | Sequence[Record], *fields: str) -> dict[str, np.ndarray]:
    """Return an array over all labels for each field."""
    return {field: np.array([getattr(label, field) for label in labels]) for field in fields}
