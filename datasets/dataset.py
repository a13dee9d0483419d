"""The PyTorch Dataset of a database, several joined, and the collate function for their items."""

from bisect import bisect_right
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import ConcatDataset, Dataset, default_collate

from datasets.cache import OpenImage
from datasets.ratings import Record, arrays
from datasets.transforms import Damage, Transform, seeded
from utils.errors import UserError

ADVICE = (  # the damage is within the file, or it was damaged after the training had started
    "remove its row from the label file, or delete the image and set dataset.unreadable=omit; python "
    "tools/check_dataset.py --decode finds every such image"
)

DAMAGED, STRENGTHS = "damaged", "strengths"


def damaged_rows(size: int, damaged: int) -> list[int]:
    """Return which of `size` images also come damaged: evenly spread, so that processes that share them agree."""
    return [number * size // damaged - 1 for number in range(1, damaged + 1)]


def interleaved(size: int, damaged: int) -> list[int]:
    """Return the order in which images pass through the network: each followed by its two damaged versions, if any.

    So that a batch of several processes, one after another, is that of one. The numbers are positions among `size`
    intact images, then two versions of each of the `damaged_rows`.
    """
    after = {row: [size + 2 * number, size + 2 * number + 1] for number, row in enumerate(damaged_rows(size, damaged))}
    return [position for row in range(size) for position in (row, *after.get(row, ()))]


class Key(NamedTuple):
    """Index of a record, seed of its augmentation, and whether it also comes damaged."""

    index: int
    seed: int
    damaged: bool = False


Item = dict[str, Tensor | str] | UserError


class IQADataset(Dataset):
    """Dataset of one database.

    Items are `{image (3, H, W), mos (), sos (), dos (K,), database (), name}`. `image` is uint8;
    `datasets.transforms.to_images` turns it into the input of the network. Labels are float32, in units of the scale.
    `name` is the path of the image below the root. Those of a key with `damaged` also have what
    `datasets.transforms.damage` returns, as `damaged` (2, 3, H, W) and `strengths` (2,).

    Args:
        open_image: Function from the path of an image to the RGB image.
        records: Labelled images.
        transform: Function from an RGB image to pixels (3, H, W), uint8.
        database: Index of the database.
        reversed_bins: Whether `dos` runs from the highest score to the lowest.
        damage: Function from an RGB image and a seed to damaged versions of the transformed image, see
            `datasets.transforms.damage`; for keys with `damaged`.
    """

    def __init__(
        self,
        open_image: OpenImage,
        records: Sequence[Record],
        transform: Transform,
        database: int = 0,
        reversed_bins: bool = False,
        damage: Damage | None = None,
    ):
        self.open_image = open_image
        self.images = [record.image for record in records]
        labels = arrays(records, "mos", "sos", "dos").values()  # (N,), (N,), (N, K)
        self.mos, self.sos, dos = (torch.tensor(values, dtype=torch.float32) for values in labels)
        self.dos = dos.flip(1) if reversed_bins else dos
        self.database = torch.tensor(database)
        self.transform = transform
        self.damage = damage

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, key: Key) -> Item:
        index, seed, damaged = Key(*key)
        try:
            image = self.open_image(self.images[index])
        except UserError as error:  # returned, since a loader's worker would turn a raised error into a traceback
            return type(error)(f"{error}; {ADVICE}")
        item = {
            "image": seeded(self.transform, image, seed),  # (3, H, W)
            "mos": self.mos[index],
            "sos": self.sos[index],
            "dos": self.dos[index],  # (K,)
            "database": self.database,
            "name": self.images[index],
        }
        return item | dict(zip((DAMAGED, STRENGTHS), self.damage(image, seed), strict=True)) if damaged else item


class JoinedDataset(ConcatDataset):
    """Concatenation of several datasets."""

    def __getitem__(self, key: Key) -> Item:
        index, *rest = key
        part = bisect_right(self.cumulative_sizes, index)
        before = self.cumulative_sizes[part - 1] if part else 0
        return self.datasets[part][(index - before, *rest)]


def collate(items: Sequence[Item]) -> dict[str, Any] | UserError:
    """Return the items as one batch, or the first error among them.

    `damaged` (D, 2, 3, H, W) and `strengths` (D, 2) are those of the D items that have them.
    """
    errors = [item for item in items if isinstance(item, UserError)]
    if errors:
        return errors[0]
    damaged = [{key: item.pop(key) for key in (DAMAGED, STRENGTHS)} for item in items if DAMAGED in item]
    return default_collate(items) | (default_collate(damaged) if damaged else {})
