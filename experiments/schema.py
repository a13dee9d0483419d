"""The schema of what training and evaluation write and read: metrics.json, split.json, log.jsonl, checkpoints.

Entries per database are keyed by its title. Writers and readers share the version and the keys.
"""

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, FiniteFloat, InstanceOf, model_validator

from utils.schema import CheckpointContent, Content
from utils.settings import ScaleSettings

Number = Annotated[float, Field(strict=True)] | None  # None: undefined, since JSON has no NaN
Metrics = dict[str, Number]
Text = InstanceOf[str]  # file names may contain bytes that are not UTF-8, which `str` rejects
Texts = tuple[Text, ...]


class LabelsContent(Content):
    """How the labels of a database were made, and their hashes; see `datasets.labels.LabelRecipe`."""

    dos: str
    sos: str
    sos_a: Number
    images: int
    fallbacks: int
    odd: int
    left_out: int
    damaged: int
    hash: str
    mos_hash: str  # independent of the SOS and DOS labels


class PartsContent(Content):
    """The names of the images in each part of a database."""

    hash: str
    train: Texts
    validation: Texts
    test: Texts


class SavedSplit(Content):
    """A split in the file of `tools/check_dataset.py --save-splits`."""

    version: int
    databases: dict[str, PartsContent]


class DatabaseSplit(PartsContent):
    """The names of the images in each part of a database, and its labels."""

    labels: LabelsContent


class SeenDatabase(Content):
    """A database that a network was trained on.

    `name` is its name in the config, `root` the folder of its images, `labels` and `mos_hash` are as in LabelsContent,
    `seen` the training and validation images, `test` the test images, which are empty for an ancestor.
    """

    name: str
    title: str
    root: Text
    labels: str
    mos_hash: str
    seen: Texts
    test: Texts = ()


class SeenBefore(Content):
    """The images that the initial weights were trained on; `known` is False if an ancestor does not record them."""

    known: bool
    databases: tuple[SeenDatabase, ...]


class SplitContent(Content):
    """split.json.

    `train_mos` contains 101 percentiles of the MOS labels of all training images, from 0 for the worst score of each
    scale to 1 for the best; it is empty in files of earlier versions of this code.
    """

    version: int
    databases: dict[str, DatabaseSplit]
    train_mos: tuple[FiniteFloat, ...] = ()
    seen_before: SeenBefore | None = None


class Scores(Content):
    """Metrics by name, with their `epoch`, or `epochs` by metric."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: Metrics

    epoch: int | None = None
    epochs: dict[str, int] | None = None


class PartScores(Scores):
    """Means over databases of the metrics of a part, and the metrics of each database."""

    databases: dict[str, Scores]


class EpochRecord(Content):
    """A line of log.jsonl."""

    epoch: int
    lr: Number
    train: Metrics
    validation: PartScores | None = None
    test: PartScores
    temperature: Number = None  # with protocol.calibration
    seconds: Number


class IntervalUnits(Content):
    """The unit that the bootstrap draws, and their number."""

    unit: str
    count: int


class TestResults(PartScores):
    """Metrics of test parts with their details, see `experiments.evaluation.predict.details`."""

    __test__ = False  # not for pytest

    version: int
    noise_ceiling: dict[str, Metrics | None]
    intervals: dict[str, dict[str, tuple[Number, Number]]]
    interval_units: dict[str, IntervalUnits]
    pit_histogram: dict[str, tuple[Number, ...] | None]
    environment: dict[str, str]

    def by_title(self) -> dict[str, dict[str, Any]]:
        """Return the entries that need the same databases, by key."""
        keys = ("databases", "noise_ceiling", "intervals", "interval_units", "pit_histogram")
        return {key: getattr(self, key) for key in keys}

    @model_validator(mode="after")
    def _same_databases(self):
        titles = self.databases.keys()
        for key, values in self.by_title().items():
            if values.keys() != titles:
                raise ValueError(f"{key}: databases {', '.join(values) or 'none'}; expected: {', '.join(titles)}")
        return self


class Selections(Content):
    """Test metrics that each selection reports."""

    last: PartScores
    validation: PartScores | None = None
    release: PartScores


class SplitMetrics(TestResults):
    """metrics.json of a split."""

    epoch: int
    selection: str
    selected_epoch: int
    selected: PartScores
    selections: Selections
    undefined: tuple[str, ...]
    seconds: Number

    def by_title(self) -> dict[str, dict[str, Any]]:
        chosen = {f"selections.{name}": scores for name, scores in self.selections if scores is not None}
        chosen["selected"] = self.selected
        return {**super().by_title(), **{f"{key}.databases": scores.databases for key, scores in chosen.items()}}


class EvaluationTarget(Content):
    """What identifies a database and its images, see `experiments.evaluation.test_images.Target`."""

    root: Text
    labels: str
    part: str
    split: str | None


class EvaluationMetrics(TestResults):
    """metrics.json of an evaluation; the keys from `images` to `notes` are those of `test_images.TestImages`."""

    run: Text
    checkpoint: Text
    finished: bool
    target: EvaluationTarget
    scale: ScaleSettings | None = None  # of the labels; None in files of older code
    turned: bool
    precision: str
    images: int
    part: str
    own: bool
    trained_on: int
    training_images: Literal["known", "unknown"]
    optimistic: bool
    notes: tuple[str, ...]


class TrainingCheckpoint(CheckpointContent):
    """Everything but the tensors in last.pt and best.pt; for last.pt, also the state of the training."""

    split: SplitContent
    epoch: int | None = None
    metrics: EpochRecord | None = None  # of the epoch in best.pt
    step: int | None = None
    skipped: int | None = None
    seconds: Number = None
    loss_sums: Metrics | None = None
    history: tuple[EpochRecord, ...] | None = None
    best: EpochRecord | None = None
