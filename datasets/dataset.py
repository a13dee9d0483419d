"""The PyTorch Dataset of a database, several joined, and the collate function for their items."""

from bisect import bisect_right
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import ConcatDataset, Dataset, default_collate

from datasets.cache import OpenImage
from datasets.ratings import Record, arrays
from datasets.transforms import Transform, seeded
from utils.errors import UserError

ADVICE = (  # the damage is within the file, or it was damaged after the training had started
    "remove its row from the label file, or delete the image and set dataset.unreadable=omit; python "
    "tools/check_dataset.py --decode finds every such image"
)

Key = tuple[int, int]  # index of a record, seed of its augmentation
Item = dict[str, Tensor | str] | UserError


class IQADataset(Dataset):
    """Dataset of one database.

    Items are `{image (3, H, W), mos (), sos (), dos (K,), database (), name}`. `image` is uint8;
    `datasets.transforms.to_images` turns it into the input of the network. Labels are float32, in units of the scale.
    `name` is the path of the image below the root.

    Args:
        open_image: Function from the path of an image to the RGB image.
        records: Labelled images.
        transform: Function from an RGB image to pixels (3, H, W), uint8.
        database: Index of the database.
        reversed_bins: Whether `dos` runs from the highest score to the lowest.
    """

    def __init__(
        self,
        open_image: OpenImage,
        records: Sequence[Record],
        transform: Transform,
        database: int = 0,
        reversed_bins: bool = False,
    ):
        self.open_image = open_image
        self.images = [record.image for record in records]
        labels = arrays(records, "mos", "sos", "dos").values()  # (N,), (N,), (N, K)
        self.mos, self.sos, dos = (torch.tensor(values, dtype=torch.float32) for values in labels)
        self.dos = dos.flip(1) if reversed_bins else dos
        self.database = torch.tensor(database)
        self.transform = transform

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, key: Key) -> Item:
        index, seed = key
        try:
            image = self.open_image(self.images[index])
        except UserError as error:  # returned, since a loader's worker would turn a raised error into a traceback
            return type(error)(f"{error}; {ADVICE}")
        return {
            "image": seeded(self.transform, image, seed),  # (3, H, W)
            "mos": self.mos[index],
            "sos": self.sos[index],
            "dos": self.dos[index],  # (K,)
            "database": self.database,
            "name": self.images[index],
        }


class JoinedDataset(ConcatDataset):
    """Concatenation of several datasets."""

    def __getitem__(self, key: Key) -> Item:
        index, seed = key
        part = bisect_right(self.cumulative_sizes, index)
        before = self.cumulative_sizes[part - 1] if part else 0
        return self.datasets[part][index - before, seed]


def collate(items: Sequence[Item]) -> dict[str, Any] | UserError:
    """Return the items as one batch, or the first error among them."""
    errors = [item for item in items if isinstance(item, UserError)]
    return errors[0] if errors else default_collate(items)
