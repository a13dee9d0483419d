"""The settings: every key of a YAML file with its type, its default (the release's) and its allowed values."""

import os
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]
PathText = Annotated[str, AfterValidator(os.path.expanduser)]
SMALLEST_BATCH = 2  # BatchNorm needs two values to train on
Title = Annotated[str, Field(pattern=r"^[\w][\w .+-]*$")]
SosA = Annotated[float, Field(gt=0, le=1)] | Literal["fit"]


class Settings(BaseModel):
    """Base class of the settings: frozen, unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, coerce_numbers_to_str=True)


class RunSettings(Settings):
    """Where a run is written: `<root>/<name>/split_NN/`."""

    name: Annotated[str, Field(pattern=r"^[\w][\w.+-]*$")] = "koniq10k"
    root: PathText = "checkpoint"


class ScaleSettings(Settings):
    """The rating scale. It travels inside the checkpoint."""

    low: float = 1
    high: float = 5
    bin_centers: tuple[float, ...] = (1, 2, 3, 4, 5)
    higher_is_better: bool = True


class DatasetSettings(Settings):
    """The database and how its labels are made.

    `sos_a: fit` uses all rows of the file, test images included, so that an image has the same label in all splits;
    `loss.sos_a: fit` uses only the training part.

    The network's bins are in the order of the config's `scale`; the bins of a database with the opposite direction are
    reversed. MOS and SOS are compared on the scale of each image's database.
    """

    name: Title = "koniq10k"
    title: Title | None = None  # None: the name
    scale: ScaleSettings | None = None  # None or an omitted key: as in configs/<name>.yaml
    weight: Positive = 1  # factor of its images in the loss
    root: PathText = "data/koniq10k"
    labels: PathText | None = None  # relative to root; None: the first known file that exists; for `csv`, the only one
    dos: Literal["auto", "counts", "gaussian", "max_entropy"] = "auto"  # auto: votes if any, else Gaussian
    sos_source: Literal["release", "file", "hypothesis", "auto"] = "release"  # auto: file where it has one
    sos_a: SosA | None = None  # SOS^2 = a (MOS - low)(high - MOS); fit: to all rows; None: the database's
    strict: bool = False  # refuse rows that are odd but usable
    allow_missing: bool = False  # omit rows whose image is missing
    decode: Literal["exact", "draft"] = "exact"  # draft: JPEGs at the smallest scale not below resize
    cache: Literal["none", "ram", "disk"] = "none"  # of squashed images; it changes no number
    cache_folder: PathText | None = None  # of the disk cache; None: cache/ under run.root
    split_file: PathText | None = None  # for protocol.method `file`

    @model_validator(mode="before")
    @classmethod
    def _root_and_title_by_name(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        name = values.get("name", cls.model_fields["name"].default)
        values = {"root": f"data/{name}", **values}
        return values if values.get("title") is not None else {**values, "title": name}


class TransformSettings(Settings):
    """Images are squashed to a square of `resize` pixels, then cropped to a square of `crop` pixels."""

    resize: Count = 512
    crop: Count = 384

    @model_validator(mode="after")
    def _crop_fits(self):
        if self.crop > self.resize:
            raise ValueError(f"crop ({self.crop}) must not be larger than resize ({self.resize})")
        return self


class ModelSettings(Settings):
    """The network. `stages` is counted from 1; `all` is every stage of CvT or feature level of a timm model."""

    backbone: str = "cvt_21"
    pretrained: PathText = "none"
    memory: Literal["full", "short", "long", "none"] = "full"
    memory_weight: Fraction = 0.001
    stages: Literal["all"] | tuple[Count, ...] = "all"
    init: Literal["trunc_norm", "xavier"] = "trunc_norm"
    drop_path: Annotated[float, Field(ge=0, lt=1)] = 0.1

    @model_validator(mode="after")
    def _stages_are_a_set(self):
        if self.stages != "all" and (not self.stages or list(self.stages) != sorted(set(self.stages))):
            raise ValueError(f"stages must be `all` or different numbers in rising order, got {list(self.stages)}")
        return self


class LossSettings(Settings):
    """Weights and variants of the joint loss.

    `units`: `native` measures MOS and SOS in units of the scale (the release), `acr` as if every scale were as wide as
    1..5.
    """

    dos: NonNegative = 100
    mos: NonNegative = 5
    sos: NonNegative = 0.5
    sos_target: Literal["hypothesis", "label"] = "hypothesis"
    sos_a: SosA | tuple[SosA, ...] = 0.09  # one value for all databases, or a list
    units: Literal["native", "acr"] = "native"

    @model_validator(mode="after")
    def _something_to_learn(self):
        if self.dos == self.mos == self.sos == 0:
            raise ValueError("at least one of the weights dos, mos, sos must be above 0")
        return self


class OptimSettings(Settings):
    """The optimiser. `adam` adds weight decay to the gradient (the release), `adamw` decouples it."""

    name: Literal["adam", "adamw"] = "adam"
    lr: Positive = 1e-5
    weight_decay: NonNegative = 5e-7
    clip_norm: Positive | None = None
    ema_decay: Annotated[float, Field(gt=0, lt=1)] | None = None


class ScheduleSettings(Settings):
    """The learning rate over the steps of a run. `optim.lr` is the constant, the start or the peak."""

    name: Literal["constant", "cosine", "onecycle"] = "constant"


class TrainSettings(Settings):
    """Length, batches, precision and device of the training.

    `accumulate` is the number of equal parts that a batch passes through the network in, to save memory; BatchNorm sees
    the parts. `checkpointing` keeps only what is between the backbone's blocks and computes the rest again for the
    gradient. `precision` applies to training and evaluation.
    """

    epochs: Count = 50
    batch_size: Annotated[int, Field(ge=SMALLEST_BATCH)] = 32
    accumulate: Count = 1
    precision: Literal["fp32", "tf32", "bf16"] = "fp32"
    compile: bool = False
    checkpointing: bool = False
    device: str = "auto"
    workers: Annotated[int, Field(ge=0)] = 4
    save_steps: Annotated[int, Field(ge=0)] = 0

    @model_validator(mode="after")
    def _parts_are_equal(self):
        if self.batch_size % self.accumulate or self.batch_size // self.accumulate < SMALLEST_BATCH:
            raise ValueError(
                f"accumulate ({self.accumulate}) must divide batch_size ({self.batch_size}) into equal parts of "
                f"{SMALLEST_BATCH} images or more"
            )
        if self.compile and self.checkpointing:
            raise ValueError("compile and checkpointing cannot be used together; set one to false")
        return self


class LoggingSettings(Settings):
    """What is written beside `log.jsonl`. TensorBoard is optional: `pip install tensorboard`."""

    tensorboard: bool = False


class ProtocolSettings(Settings):
    """How images are split, and which epoch is kept.

    `validation_fraction` is taken from the training part, so the test part does not depend on it. Fractions are shares
    of images, or of references (scenes) or image sets if `unit` says so. `parallel_splits` are trained at the same
    time, each in its own process and on its own GPU.
    """

    method: Literal["random", "official", "file"] = "random"
    unit: Literal["auto", "image", "reference", "image_set"] = "auto"
    splits: Annotated[int, Field(ge=1, le=99)] = 10
    parallel_splits: Count = 1
    split_seed: Annotated[int, Field(ge=0)] = 0
    train_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.8
    validation_fraction: Annotated[float, Field(ge=0, lt=1)] = 0.0
    selection: Literal["release", "validation", "last"] = "release"

    @model_validator(mode="after")
    def _parts_exist(self):
        if self.validation_fraction >= self.train_fraction:
            raise ValueError(
                f"validation_fraction ({self.validation_fraction}) is taken from the training part and must be below "
                f"train_fraction ({self.train_fraction})"
            )
        if self.selection == "validation" and self.method == "random" and self.validation_fraction == 0:
            raise ValueError("selection `validation` needs a validation part: set validation_fraction, such as 0.1")
        if self.method == "official" and self.splits != 1:
            raise ValueError(f"method `official` has one split: set splits to 1 (got {self.splits})")
        if self.method != "random" and self.validation_fraction > 0:
            raise ValueError(f"method `{self.method}` has its own validation part: set validation_fraction to 0")
        return self


class Config(Settings):
    """A whole experiment. The defaults are the release on KonIQ-10k, with an untrained backbone.

    A single `dataset` may be given as a mapping, whose scale is the config's; it is stored as a tuple of one.
    """

    run: RunSettings = RunSettings()
    seed: Annotated[int, Field(ge=0)] = 0
    dataset: tuple[DatasetSettings, ...] = ()
    scale: ScaleSettings = ScaleSettings()
    transform: TransformSettings = TransformSettings()
    model: ModelSettings = ModelSettings()
    loss: LossSettings = LossSettings()
    optim: OptimSettings = OptimSettings()
    schedule: ScheduleSettings = ScheduleSettings()
    train: TrainSettings = TrainSettings()
    protocol: ProtocolSettings = ProtocolSettings()
    logging: LoggingSettings = LoggingSettings()

    @model_validator(mode="before")
    @classmethod
    def _dataset_is_a_list(cls, values: Any) -> Any:
        given = values.get("dataset", {}) if isinstance(values, dict) else None
        if not isinstance(given, dict):
            return values
        if "scale" in given:
            raise ValueError("dataset.scale: only in a list of databases; for a single one, use `scale`")
        scale = values.get("scale", {})
        scale = {**ScaleSettings().model_dump(), **scale} if isinstance(scale, dict) else scale
        return {**values, "dataset": [{**given, "scale": scale}]}

    @model_validator(mode="after")
    def _databases_fit_together(self):
        titles = [dataset.title for dataset in self.dataset]
        if not titles:
            raise ValueError("dataset: empty list; give at least one database")
        repeated = sorted({title for title in titles if titles.count(title) > 1})
        if repeated:
            raise ValueError(f"dataset: {', '.join(repeated)} given twice; set a different `title` for each")
        without_file = [dataset.title for dataset in self.dataset if dataset.split_file is None]
        if self.protocol.method == "file" and without_file:
            raise ValueError(f"protocol.method `file` needs dataset.split_file (missing for {', '.join(without_file)})")
        if self.protocol.method != "file" and len(without_file) < len(titles):
            raise ValueError("dataset.split_file needs protocol.method `file`; set that, or omit split_file")
        if isinstance(self.loss.sos_a, tuple) and len(self.loss.sos_a) != len(titles):
            raise ValueError(
                f"loss.sos_a: {len(self.loss.sos_a)} values for {len(titles)} databases; give one, or one for each"
            )
        return self
