"""What a database says of an image, before and after its labels are made."""

from dataclasses import dataclass


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
        split: `train`, `validation` or `test` of the official split.
        name: Path of the image in the official layout, the same on every machine; the image itself by default.
        source: File and row, for messages.
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

    def __post_init__(self):
        object.__setattr__(self, "name", self.name or self.image)

    @property
    def voters(self) -> int | None:
        """How many people rated the image; None where that is not known: fractions do not tell."""
        if self.grades is not None:
            return len(self.grades)
        if self.counts is None or any(count != int(count) for count in self.counts):
            return None
        return int(sum(self.counts)) if sum(self.counts) > 1 else None


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

    def __post_init__(self):
        object.__setattr__(self, "name", self.name or self.image)
