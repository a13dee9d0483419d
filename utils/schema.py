"""The schema of what the project writes and reads again: metrics.json, split.json, log.jsonl, checkpoints.

What is per database is keyed by its title. Of a checkpoint it is what is not tensors. Version and keys are stated here
alone; writers and readers share them.
"""

from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, InstanceOf, model_validator

from utils.config import validated
from utils.errors import UserError
from utils.settings import Config, ScaleSettings

VERSION = 1

Number = Annotated[float, Field(strict=True)] | None  # None: not defined; JSON has no NaN
Metrics = dict[str, Number]
Text = InstanceOf[str]  # names of files may hold bytes that are no UTF-8, which `str` refuses
Texts = tuple[Text, ...]


class Content(BaseModel):
    """Unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class LabelsContent(Content):
    """How the labels of a database were made, and hashes of them; see `datasets.labels.LabelRecipe`."""

    dos: str
    sos: str
    sos_a: Number
    images: int
    fallbacks: int
    odd: int
    left_out: int
    hash: str
    mos_hash: str  # whatever SOS and DOS are made of the MOS


class DatabaseSplit(Content):
    """The names of the images in each part of a database."""

    hash: str
    train: Texts
    validation: Texts
    test: Texts
    labels: LabelsContent


class SeenDatabase(Content):
    """A database of a training.

    `name` is that in the config, `root` the folder of its images, `labels` and `mos_hash` as in LabelsContent, `seen`
    the training and validation images, `test` the test images, which are not kept of an ancestor.
    """

    name: str
    title: str
    root: Text
    labels: str
    mos_hash: str
    seen: Texts
    test: Texts = ()


class SeenBefore(Content):
    """The images that the weights at the start were trained on; `known` is False where an ancestor does not tell."""

    known: bool
    databases: tuple[SeenDatabase, ...]


class SplitContent(Content):
    """split.json."""

    version: int
    databases: dict[str, DatabaseSplit]
    seen_before: SeenBefore | None = None


class Scores(Content):
    """Metrics by name, with the `epoch` that they are of, or the `epochs` where each has its own."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: Metrics

    epoch: int | None = None
    epochs: dict[str, int] | None = None


class PartScores(Scores):
    """The means over databases of the metrics of a part, and the metrics of each database."""

    databases: dict[str, Scores]


class EpochRecord(Content):
    """A line of log.jsonl."""

    epoch: int
    lr: Number
    train: Metrics
    validation: PartScores | None = None
    test: PartScores
    seconds: Number


class IntervalUnits(Content):
    """What the bootstrap draws, and how many of them there are."""

    unit: str
    count: int


class TestResults(PartScores):
    """Metrics of test parts and what stands beside them, see `experiments.evaluation.predict.details`."""

    __test__ = False  # not for pytest

    version: int
    noise_ceiling: dict[str, Metrics | None]
    intervals: dict[str, dict[str, tuple[Number, Number]]]
    interval_units: dict[str, IntervalUnits]
    pit_histogram: dict[str, tuple[Number, ...] | None]
    environment: dict[str, str]

    def by_title(self) -> dict[str, dict[str, Any]]:
        """By key, what has to be of the same databases."""
        keys = ("databases", "noise_ceiling", "intervals", "interval_units", "pit_histogram")
        return {key: getattr(self, key) for key in keys}

    @model_validator(mode="after")
    def _same_databases(self):
        titles = self.databases.keys()
        for key, values in self.by_title().items():
            if values.keys() != titles:
                raise ValueError(f"{key}: of {', '.join(values) or 'no database'}; expected: {', '.join(titles)}")
        return self


class Selections(Content):
    """Test metrics as each way of selection reports them."""

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
    """What tells results on a database from those on another, see `experiments.evaluation.test_images.Target`."""

    root: Text
    labels: str
    part: str
    split: str | None


class EvaluationMetrics(TestResults):
    """metrics.json of an evaluation; the keys from `images` to `notes` are those of `test_images.Choice`."""

    run: Text
    checkpoint: Text
    finished: bool
    target: EvaluationTarget
    turned: bool
    precision: str
    images: int
    part: str
    own: bool
    trained_on: int
    training_images: Literal["known", "unknown"]
    optimistic: bool
    notes: tuple[str, ...]


class CheckpointContent(BaseModel):
    """What is not tensors in a checkpoint: of a training's last.pt and best.pt, or of an exported network."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    version: int
    config: Config
    scale: ScaleSettings
    split: SplitContent | None = None  # split.json; an exported network carries none
    epoch: int | None = None
    metrics: EpochRecord | None = None  # of the epoch that best.pt is of
    step: int | None = None
    seconds: Number = None
    loss_sums: Metrics | None = None
    history: tuple[EpochRecord, ...] | None = None
    best: EpochRecord | None = None


Schema = TypeVar("Schema", bound=BaseModel)


def checked(schema: type[Schema], content: dict[str, Any], path: str | Path) -> Schema:
    """The content of a file as its schema has it; called before a file is written and after it is read.

    Raises:
        UserError: Another version, or a key that does not fit.
    """
    require_version(content, path)
    try:
        return validated(schema, content, str(path))
    except UserError as error:
        raise UserError(f"{error}; restore the file, or write it again") from error


def require_version(content: dict[str, Any], path: str | Path) -> None:
    """Refuses a file of another version."""
    found = content.get("version")
    if found != VERSION:
        stated = "no version" if found is None else f"version {found}"
        raise UserError(
            f"{path} has {stated}, and this code reads version {VERSION}; write the file again with this code, or read "
            "it with the code that wrote it"
        )
