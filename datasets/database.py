"""A labelled database as training and evaluation use it: datasets of any part, labels and metrics by image name."""

import hashlib
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from pathlib import Path

import numpy as np
from torchvision.transforms import Compose

from datasets.iqa import IQADataset
from datasets.labels import LabelRecipe, Record
from datasets.readers import load_records
from datasets.scale import RatingScale
from utils.report import split_metrics
from utils.settings import Config

Array = np.ndarray


@dataclass(frozen=True)
class Database:
    """The labelled images of a run."""

    root: Path
    records: dict[str, Record]  # by image
    recipe: LabelRecipe
    scale: RatingScale

    @property
    def hash(self) -> str:
        """The same for the same images and labels, whatever their order."""
        lines = [str(astuple(record)) for _, record in sorted(self.records.items())]
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]

    def describe(self) -> str:
        """One line for the terminal."""
        recipe = self.recipe
        replaced = f", {recipe.fallbacks} of them the nearest feasible" if recipe.fallbacks else ""
        a = f" with a = {recipe.sos_a:.4g}" if recipe.sos_a is not None else ""
        return f"{recipe.images} images, DOS from {recipe.dos}{replaced}, SOS from {recipe.sos}{a}"

    def dataset(self, names: Sequence[str], transform: Compose) -> IQADataset:
        return IQADataset(self.root, [self.records[name] for name in names], transform)

    def targets(self, names: Sequence[str]) -> dict[str, Array]:
        """Labels `mos` (N,), `sos` (N,), `dos` (N, K) of these images, float64."""
        return {key: np.array([getattr(self.records[name], key) for name in names]) for key in ("mos", "sos", "dos")}

    def quantities(self, dos: Array) -> dict[str, Array]:
        """`mos` (N,), `sos` (N,), `dos` (N, K) of distributions (N, K)."""
        return {"mos": self.scale.mean(dos), "sos": self.scale.std(dos), "dos": dos}

    def metrics(self, names: Sequence[str], dos: Array) -> dict[str, float]:
        """Every metric of the predicted DOS (N, K) of these images."""
        return split_metrics(self.quantities(dos), self.targets(names))


def load_database(config: Config) -> Database:
    """The database that a config names, with every label checked and every image there."""
    options = config.dataset.model_dump(exclude={"name", "root"})
    scale = RatingScale(**config.scale.model_dump())
    records, recipe = load_records(config.dataset.name, config.dataset.root, scale=scale, **options)
    return Database(Path(config.dataset.root), {record.image: record for record in records}, recipe, scale)
