"""Labelled databases as training and evaluation use them: datasets of any part, labels and metrics by name."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from datasets.cache import ImageSource
from datasets.dataset import IQADataset
from datasets.labels import LabelRecipe
from datasets.noise_ceiling import collect_votes, noise_ceiling
from datasets.ratings import Rating, Record, arrays
from datasets.readers import LABEL_OPTIONS, load_labels, with_defaults
from datasets.scale import RatingScale, mean_on, std_on
from datasets.splits import Split, make_split, split_keys, split_method, split_unit
from datasets.transforms import build_test_crop, build_train_crop, damage
from utils.errors import UserError
from utils.metrics import split_metrics
from utils.settings import Config, DatasetSettings, TransformSettings

# the fields of a Record that its labels are, in the order in which `Database.hash` takes them; runs are resumed by it
HASHED_FIELDS = ("mos", "sos", "dos", "reference", "split", "name", "image_set")
CACHE = "cache"  # folder below run.root, unless dataset.cache_folder names another

Array = np.ndarray


@dataclass(frozen=True)
class Database:
    """One database of a run.

    Args:
        title: In reports and files.
        number: Position among the databases of the run, from 0.
        source: How its pictures are read.
        ratings: What the label file says, by name; of missing images, too.
        records: The labels, by name.
        recipe: How these were made.
        scale: The rating scale.
        weight: Factor of its images in the loss.
        reversed_bins: Whether the network's bins go from the highest score to the lowest: where the network's scale
            points the other way.
        split_file: For protocol.method `file`.
        unit: What a random split keeps together and a bootstrap draws whole: `image`, `reference` or `image_set`.
        network_scale: The scale that a network from elsewhere was trained on; None where it is this one.
    """

    title: str
    number: int
    source: ImageSource
    ratings: dict[str, Rating]
    records: dict[str, Record]
    recipe: LabelRecipe
    scale: RatingScale
    weight: float = 1.0
    reversed_bins: bool = False
    split_file: str | None = None
    unit: str = "image"
    network_scale: RatingScale | None = None

    @property
    def root(self) -> Path:
        """Folder of the images."""
        return self.source.root

    @property
    def hash(self) -> str:
        """The same for the same images and labels, whatever their order and wherever the images lie.

        It is of HASHED_FIELDS in their order, so that it does not depend on how Record is declared.
        """
        rows = [tuple(getattr(record, key) for key in HASHED_FIELDS) for _, record in sorted(self.records.items())]
        return _hash([str(row) for row in rows])

    @property
    def mos_hash(self) -> str:
        """The same for the same images and MOS labels on the same scale, whatever SOS and DOS are made of them."""
        scale = str((self.scale.low, self.scale.high, self.scale.higher_is_better))
        return _hash([scale, *(str((name, record.mos)) for name, record in sorted(self.records.items()))])

    def split(self, config: Config, number: int) -> Split:
        """Split `number`, from 1."""
        left_out = self.ratings.keys() - self.records.keys()
        return make_split(list(self.records.values()), config.protocol, number, self.split_file, self.title, left_out)

    def split_method(self, config: Config) -> str:
        """Method of its splits, if `protocol.method` is `auto`."""
        return split_method(list(self.records.values()), config.protocol)

    def dataset(self, names: Sequence[str], settings: TransformSettings, train: bool = False) -> IQADataset:
        """These images, with labels in the order of the network's bins, transformed as in training or as in tests."""
        records = [self.records[name] for name in names]
        open_image = self.source.opener([record.image for record in records], settings.resize)
        transform = build_train_crop(settings) if train else build_test_crop(settings)
        damaging = partial(damage, transform=transform, resize=settings.resize) if train else None
        return IQADataset(open_image, records, transform, self.number, self.reversed_bins, damaging)

    def targets(self, names: Sequence[str]) -> dict[str, Array]:
        """Labels `mos` (N,), `sos` (N,), `dos` (N, K) of these images, float64, lowest score first."""
        return arrays([self.records[name] for name in names], "mos", "sos", "dos")

    def units(self, names: Sequence[str]) -> list[str]:
        """The unit that each of these images is of."""
        keys = split_keys([self.records[name] for name in names], self.unit)
        return [keys[name] for name in names]

    def quantities(self, dos: Array) -> dict[str, Array]:
        """`mos` (N,), `sos` (N,), `dos` (N, K), lowest score first, of the network's distributions (N, K).

        Bins of another scale are matched by order, from the worst to the best. Where their number is another, there is
        no `dos`: MOS and SOS are carried over as if both scales were measured with one ruler.
        """
        dos = self.turned(dos)
        if dos.shape[1] == self.scale.num_bins:
            return {"mos": self.scale.mean(dos), "sos": self.scale.std(dos), "dos": dos}
        other = self.network_scale
        ruler = (self.scale.high - self.scale.low) / (other.high - other.low)
        centers = np.array(other.bin_centers)
        if self.reversed_bins:
            centers = other.low + other.high - centers[::-1]
        return {
            "mos": self.scale.low + ruler * (mean_on(dos, centers) - other.low),
            "sos": ruler * std_on(dos, centers),
        }

    def turned(self, dos: Array) -> Array:
        """Distributions (N, K) with bins from the network's order to that of the labels, or back."""
        return dos[:, ::-1] if self.reversed_bins else dos

    def metrics(self, names: Sequence[str], dos: Array) -> dict[str, float]:
        """Every metric of the network's distributions (N, K) of these images."""
        return split_metrics(self.quantities(dos), self.targets(names), self.scale.bin_centers)

    def for_network(self, scale: RatingScale) -> "Database":
        """The same, for a network that was trained on another scale: its bins matched by order."""
        turned = self.scale.higher_is_better != scale.higher_is_better
        return replace(self, network_scale=scale, reversed_bins=turned)

    def ceiling(self, names: Sequence[str]) -> dict[str, float] | None:
        """The noise ceiling of these images' labels; None where no votes are on file."""
        votes = collect_votes([self.ratings[name] for name in names], self.scale)
        return None if votes is None else noise_ceiling(votes, self.scale, self.recipe)


def _hash(lines: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(lines).encode(errors="surrogateescape")).hexdigest()[:16]


def load_databases(config: Config) -> tuple[Database, ...]:
    """The databases that a config names, with every label checked and every image there.

    Raises:
        UserError: Names the database; also where their scales have different numbers of bins.
    """
    config = with_defaults(config)
    require_same_bins(config)
    databases = []
    for number, settings in enumerate(config.dataset):
        try:
            databases.append(_load(settings, number, config))
        except UserError as error:
            raise type(error)(f"{settings.title}: {error}") from error
    return tuple(databases)


def require_same_bins(config: Config) -> None:
    """Refuses databases whose bins cannot be matched by order."""
    bins = {settings.title: len(settings.scale.bin_centers) for settings in config.dataset}
    bins["scale"] = len(config.scale.bin_centers)
    if len(set(bins.values())) > 1:
        raise UserError(f"the databases must have the same number of bins, to be matched by order; they have {bins}")


def _load(settings: DatasetSettings, number: int, config: Config) -> Database:
    options = settings.model_dump(include=set(LABEL_OPTIONS))
    scale = RatingScale.from_settings(settings.scale)
    cache_folder = Path(settings.cache_folder or Path(config.run.root) / CACHE)
    ratings, records, recipe = load_labels(settings.name, settings.root, scale=scale, **options)
    unit = split_unit(records, config.protocol)
    split_keys(records, unit)  # refuses a unit that is not stated, before anything is trained
    return Database(
        title=settings.title,
        number=number,
        source=ImageSource(settings.name, Path(settings.root), settings.decode, settings.cache, cache_folder),
        ratings={rating.name: rating for rating in ratings},
        records={record.name: record for record in records},
        recipe=recipe,
        scale=scale,
        weight=settings.weight,
        reversed_bins=scale.higher_is_better != config.scale.higher_is_better,
        split_file=settings.split_file,
        unit=unit,
    )
