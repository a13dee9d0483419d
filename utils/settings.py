"""The settings: every key of a YAML file with its type, default (the release's), allowed values and meaning.

docs/CONFIGURATION.md is generated from this file: the first paragraph of a class is the text above its table, the
string below a key is its meaning.
"""

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
Colour = tuple[Fraction, Fraction, Fraction]
SosA = Annotated[float, Field(gt=0, le=1)] | Literal["fit"]


class Settings(BaseModel):
    """Base class of the settings: frozen, unknown keys are errors."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        validate_default=True,
        coerce_numbers_to_str=True,
        use_attribute_docstrings=True,
    )


class RunSettings(Settings):
    """Where a run is written."""

    name: Annotated[str, Field(pattern=r"^[\w][\w.+-]*$")] = "koniq10k"
    """Name of the run: results go to `<run.root>/<run.name>/split_NN/`."""
    root: PathText = "checkpoint"
    """Folder of all runs. `~` is expanded."""


class ScaleSettings(Settings):
    """The rating scale. It travels inside the checkpoint. With several databases, it is the scale that inference
    reports on.
    """

    low: float = 1
    """Lowest score."""
    high: float = 5
    """Highest score."""
    bin_centers: tuple[float, ...] = (1, 2, 3, 4, 5)
    """Score of each bin, lowest first. Their number is the number of bins K."""
    higher_is_better: bool = True
    """`false` for scales such as DMOS, on which lower is better."""


class DatasetSettings(Settings):
    """The database and how its labels are made. With several databases, each one has these keys.

    `sos_a: fit` uses all rows of the file, so that an image has the same label in all splits.

    The network's bins are in the order of the config's `scale`; the bins of a database with the opposite direction are
    reversed. MOS and SOS are compared on the scale of each image's database.
    """

    name: Title = "koniq10k"
    """Which reader: one of the databases in [DATABASES.md](DATABASES.md), `csv` or `demo`."""
    title: Title | None = None
    """Name in reports, folders and result files. `null`: `dataset.name`."""
    scale: ScaleSettings | None = None
    """Rating scale of this database, in a list of several databases. `null`, or any key omitted: the scale that the
    database is published with.
    """
    weight: Positive = 1
    """Factor of this database's images in the loss, in a list of several databases."""
    root: PathText = "data/koniq10k"
    """Folder that the official archive was unpacked to. Omitted, it is `data/<dataset.name>`."""
    labels: PathText | None = None
    """Which label file, relative to `root`. `null`: the first known file that exists; for `csv`, the only one."""
    dos: Literal["auto", "counts", "gaussian", "max_entropy"] = "auto"
    """DOS label: votes, Gaussian, or maximum entropy. `auto`: votes where the file has them, else Gaussian."""
    sos_source: Literal["release", "file", "hypothesis", "auto"] = "release"
    """SOS label: as the release, from the file, or from the SOS hypothesis. `auto`: from the file where it has one,
    else from the hypothesis.
    """
    sos_a: SosA | None = None
    """The a of the hypothesis SOS^2 = a (MOS - low)(high - MOS) for labels. `fit`: least squares over all rows of
    the file, test images included. `null`: the database's own value.
    """
    strict: bool = False
    """Refuse rows that are odd but usable."""
    unreadable: Literal["refuse", "omit"] = "refuse"
    """Images that are missing, empty, truncated or no images, as far as the ends of their files show: refuse the
    database, or omit their rows.
    """
    decode: Literal["exact", "draft"] = "exact"
    """`draft` decodes JPEGs at the smallest scale that is not below twice `transform.resize`; it changes pixels
    slightly.
    """
    cache: Literal["none", "ram", "disk"] = "none"
    """Keep squashed images in memory (`ram`, one process only) or in one file (`disk`). It changes no number."""
    cache_folder: PathText | None = None
    """Folder of the `disk` cache. `null`: `cache/` under `run.root`."""
    split_file: PathText | None = None
    """With `protocol.method: file`, the file that says which image is in which part."""

    @model_validator(mode="before")
    @classmethod
    def _root_and_title_by_name(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        name = values.get("name", cls.model_fields["name"].default)
        values = {"root": f"data/{name}", **values}
        return values if values.get("title") is not None else {**values, "title": name}


class TransformSettings(Settings):
    """Images are squashed to a square, then cropped."""

    resize: Count = 512
    """Side of the square that an image is squashed to, in pixels."""
    crop: Count = 384
    """Side of the square that is cropped: at random in training, the centre in tests. At most `resize`."""
    test_crop: Count | None = None
    """Another side for tests, at most `resize`, such as all of the image. `null`: `crop`."""
    damage: Fraction = 0
    """Share of each training batch that also passes through the network damaged, with two strengths of a random
    distortion (`datasets/distortions.py`), for `loss.rank`. Rounded up to a multiple of the processes.
    """

    @property
    def test_side(self) -> int:
        """Side of the square that the network sees in tests."""
        return self.test_crop or self.crop

    @model_validator(mode="after")
    def _crop_fits(self):
        for name, side in (("crop", self.crop), ("test_crop", self.test_side)):
            if side > self.resize:
                raise ValueError(f"{name} ({side}) must not be larger than resize ({self.resize})")
        return self


class ModelSettings(Settings):
    """The network."""

    backbone: str = "cvt_21"
    """`cvt_21`, `cvt_13`, `cvt_nano`, or `timm:<name>` for a timm model with feature levels."""
    pretrained: PathText = "none"
    """`none`, `imagenet22k` (CvT), `timm` (a timm backbone), or a file, or `hf://owner/name[@revision]` on the
    Hugging Face hub: weights, or a checkpoint to fine-tune, whose training images are remembered.
    """
    pretrained_part: Literal["all", "backbone"] = "all"
    """How much of a network's checkpoint is loaded: `backbone` leaves the head random, as for a new number of bins."""
    pixel_mean: Colour | None = None
    """Mean of the pixels (red, green, blue; from 0 to 1) that the weights of a timm backbone were trained on. `null`:
    as timm states it; ImageNet's for CvT.
    """
    pixel_std: tuple[Positive, Positive, Positive] | None = None
    """Standard deviation of these pixels."""
    memory: Literal["full", "short", "long", "none"] = "full"
    """Memory path: `full` (the release), `short` (z = s), `long` (v in place of s), or `none`."""
    memory_weight: Fraction = 0.001
    """Share of the memory logits in the prediction."""
    temperature: Positive = 1
    """Divisor of the logits: above 1 it flattens the DOS, below it sharpens it. `protocol.calibration` fits it."""
    stages: Literal["all"] | tuple[Count, ...] = "all"
    """Which stages feed the head, counted from 1, in rising order. Later ones are not built."""
    init: Literal["trunc_norm", "xavier"] = "trunc_norm"
    """Initialisation of CvT's linear layers."""
    drop_path: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Stochastic depth of the last block; it rises linearly from 0."""

    @model_validator(mode="after")
    def _stages_are_a_set(self):
        if self.stages != "all" and (not self.stages or list(self.stages) != sorted(set(self.stages))):
            raise ValueError(f"stages must be `all` or different numbers in rising order, got {list(self.stages)}")
        return self


class LossSettings(Settings):
    """Weights and variants of the joint loss."""

    dos: NonNegative = 100
    """Weight of the DOS term (EMD). At least one of the three weights is above 0."""
    mos: NonNegative = 5
    """Weight of the MOS term (mean absolute error)."""
    sos: NonNegative = 0.5
    """Weight of the SOS term (mean squared error)."""
    rank: NonNegative = 0
    """Weight of the ranking term: a hinge by which images have to score lower, the more they are damaged; see
    `transform.damage`. Not in the release.
    """
    sos_target: Literal["hypothesis", "label"] = "hypothesis"
    """What the predicted SOS is compared with: the SOS hypothesis at the predicted MOS (the release), or the SOS
    label.
    """
    sos_a: SosA | tuple[SosA, ...] = 0.09
    """The a of the hypothesis in the loss. `fit`: least squares over the training part. With several databases, one
    value for all or a list.
    """
    units: Literal["native", "acr"] = "native"
    """`native` measures MOS and SOS in units of the scale (the release), `acr` as if every scale were as wide as
    1..5.
    """

    @model_validator(mode="after")
    def _something_to_learn(self):
        if self.dos == self.mos == self.sos == 0:
            raise ValueError("at least one of the weights dos, mos, sos must be above 0")
        return self


class OptimSettings(Settings):
    """The optimiser."""

    name: Literal["adam", "adamw"] = "adam"
    """`adam` adds weight decay to the gradient (the release), `adamw` decouples it."""
    lr: Positive = 1e-5
    """Learning rate: the constant, or the start of `cosine`, or the peak of `onecycle`."""
    backbone_lr: Positive = 1
    """Learning rate of the backbone, as a factor of `lr`. Below 1, it keeps more of its pretrained weights."""
    weight_decay: NonNegative = 5e-7
    """Weight decay."""
    clip_norm: Positive | None = None
    """Largest norm of the gradient. `null`: no clipping."""
    ema_decay: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Decay of averaged weights, which are then evaluated and saved. `null`: no averaging."""


class ScheduleSettings(Settings):
    """The learning rate over the steps of a run."""

    name: Literal["constant", "cosine", "onecycle"] = "constant"
    """Shape of the schedule."""
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0
    """Share of all steps over which the rate rises linearly from near 0. Not with `onecycle`, which rises itself."""

    @model_validator(mode="after")
    def _one_rise(self):
        if self.warmup > 0 and self.name == "onecycle":
            raise ValueError(
                f"warmup ({self.warmup}) is for constant and cosine; onecycle has its own rise: set it to 0"
            )
        return self


class TrainSettings(Settings):
    """Length, batches, precision and device of the training."""

    epochs: Count = 50
    """Epochs of each split."""
    batch_size: Annotated[int, Field(ge=SMALLEST_BATCH)] = 32
    """Images of one step, of all processes together. The last incomplete batch is dropped."""
    accumulate: Count = 1
    """Equal parts of a batch, passed in turn to save memory. Each has at least 2 images; BatchNorm sees the parts."""
    precision: Literal["fp32", "tf32", "bf16"] = "fp32"
    """Precision of training and evaluation. `tf32` needs a CUDA GPU from Ampere on; so does `bf16` on a GPU."""
    compile: bool = False
    """Compile the network with `torch.compile`; not together with `checkpointing`."""
    checkpointing: bool = False
    """Keep only what is between the backbone's blocks; compute the rest again for the gradient."""
    device: str = "auto"
    """`auto` (CUDA, else MPS, else CPU), or a device such as `cuda:1`."""
    threads: Count | None = None
    """Threads of each process on a CPU. `null`: one per core it may use, by affinity and the container's limits."""
    workers: Annotated[int, Field(ge=0)] = 4
    """Processes that load images. 0: none beside the main one."""
    save_steps: Annotated[int, Field(ge=0)] = 0
    """Also save within an epoch, every so many steps. 0: only after each epoch."""
    on_nonfinite: Literal["stop", "skip"] = "stop"
    """What to do if the loss or a gradient is not finite: stop the run, or skip the step, which then has no effect."""
    skip_limit: Count = 10
    """Steps of one epoch that `skip` may skip; one more stops the run."""
    deterministic: bool = False
    """Use only operations that give the same bits in every run, also where they are slower. It matters on a GPU."""
    keep: Annotated[int, Field(ge=0)] = 0
    """Older states to keep, to go back to: those of the last so many epochs, as `last_epoch_007.pt`. 0: none."""

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
    """What is written beside `log.jsonl`."""

    tensorboard: bool = False
    """Write event files for TensorBoard (`pip install tensorboard`)."""


class ProtocolSettings(Settings):
    """How images are split, and which epoch is kept."""

    method: Literal["random", "official", "file", "auto"] = "random"
    """`random` splits, the database's `official` split, or those of a `file`. `auto`: official for each database that
    has such a split, else random.
    """
    unit: Literal["auto", "image", "reference", "image_set"] = "auto"
    """What a random split keeps together. `auto`: references (scenes) where there are any, else images."""
    splits: Annotated[int, Field(ge=1, le=99)] = 10
    """Number of splits. Those of `official` differ in the seed of the training, and in the validation part that
    `validation_fraction` draws.
    """
    parallel_splits: Count = 1
    """Splits trained at the same time, each in its own process and on its own GPU."""
    split_seed: Annotated[int, Field(ge=0)] = 0
    """Seed of the random splits."""
    train_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.8
    """Share of images (or units) for training, the validation part included."""
    validation_fraction: Annotated[float, Field(ge=0, lt=1)] = 0
    """Share of all images for validation, drawn from the training part. Below `train_fraction`; not with `file`, nor
    with an `official` split that has a validation part, which `auto` uses instead.
    """
    selection: Literal["release", "validation", "last"] = "release"
    """Which epoch becomes `best.pt`: best SRCC on the test part (the release, optimistic), best SRCC on the
    validation part, or the last.
    """
    calibration: Literal["none", "temperature"] = "none"
    """`temperature`: after each epoch, fit a factor of `model.temperature` to the validation part, by the
    cross-entropy of its DOS labels. Predictions and `best.pt` then contain it; training is not affected.
    """

    @model_validator(mode="after")
    def _parts_exist(self):
        if self.validation_fraction >= self.train_fraction:
            raise ValueError(
                f"validation_fraction ({self.validation_fraction}) is taken from the training part and must be below "
                f"train_fraction ({self.train_fraction})"
            )
        drawn = self.method in ("random", "auto") and self.validation_fraction == 0
        for key, value in (("selection", self.selection), ("calibration", self.calibration)):
            if value in ("validation", "temperature") and drawn:
                raise ValueError(f"{key} `{value}` needs a validation part: set validation_fraction, such as 0.1")
        if self.method == "file" and self.validation_fraction > 0:
            raise ValueError("method `file` has its own validation part: set validation_fraction to 0")
        return self


class Config(Settings):
    """A whole experiment. The defaults are the release on KonIQ-10k, with an untrained backbone.

    A single `dataset` may be given as a mapping, whose scale is the config's; it is stored as a tuple of one.
    """

    run: RunSettings = RunSettings()
    seed: Annotated[int, Field(ge=0)] = 0
    """Seed of initialisation, augmentation and batch order. Splits have their own, `protocol.split_seed`."""
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
        rank, damage = self.loss.rank, self.transform.damage
        if (rank > 0) != (damage > 0):
            raise ValueError(f"loss.rank ({rank}) and transform.damage ({damage}) go together; give both or none")
        if isinstance(self.loss.sos_a, tuple) and len(self.loss.sos_a) != len(titles):
            given = len(self.loss.sos_a)
            raise ValueError(f"loss.sos_a: {given} values for {len(titles)} databases; give one, or one for each")
        return self
