"""What a database says of an image, before and after its labels are made."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

PARTS = ("train", "validation", "test")
LARGEST_PANEL = 10**7  # voters of one image


@dataclass(frozen=True)
class Rating:
    """What a label file says of one image, in units of the rating scale.

    Args:
        image: Path relative to the root, spelt as on the disk.
        mos: Mean opinion score.
        sos: Standard deviation of the opinions, where the file has it.
        counts: Votes or fractions in each bin of the scale, lowest score first.
        grades: Single opinions, where they are not confined to the bins.
        reference: The scene, the same for all its versions.
        image_set: What `protocol.unit: image_set` keeps on one side of a split, though it is no scene.
        split: `train`, `validation` or `test` of the official split.
        name: Path of the image in the official layout, the same on every machine; the image itself by default.
        source: File and row, for messages.
        file: The file.
        note: What is odd about the row, though it can be used.
        open_ended: Whether scores may lie beyond the ends of the scale, as realigned ones do.
        missing: Whether no file was found.
    """

    image: str
    mos: float
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

    def __post_init__(self):
        object.__setattr__(self, "name", self.name or self.image)

    @property
    def voters(self) -> int | None:
        """How many people rated the image; None where that is not known: of fractions, and of absurd numbers."""
        if self.grades is not None:
            return len(self.grades)
        total = 0 if self.counts is None else sum(self.counts)
        whole = 1 < total <= LARGEST_PANEL and all(count == int(count) for count in self.counts)
        return int(total) if whole else None


@dataclass(frozen=True)
class Record:
    """One labelled image: path relative to the root, MOS and SOS in units of the scale, DOS summing to 1."""

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


def arrays(labels: Sequence[Rating] | Sequence[Record], *fields: str) -> list[np.ndarray]:
    """Return these fields of all labels, one array each."""
    return [np.array([getattr(label, field) for label in labels]) for field in fields]
