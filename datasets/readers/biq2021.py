"""Reader of BIQ2021: 12,000 photographs in an official split, rated 0..1, neither SOS nor votes.

Source: Ahmed, Asif, BIQ2021: A large-scale blind image quality assessment database, J. Electronic Imaging 2022.
"""

from pathlib import Path

import pandas as pd

from datasets.readers.assembly import Reader, parser, sibling, with_source
from datasets.readers.folder import Folder, under
from datasets.scale import RatingScale
from utils.errors import MissingFileError

TRAIN, TEST = "Train (Images and MOS).csv", "Test (Images and MOS).csv"  # the official split
COLUMNS = {"name": ("Image Name",), "mos": ("MOS",)}


def _both_parts(path: Path, folder: Folder) -> pd.DataFrame:
    """Return the ratings in both files, each with its part of the official split."""
    test = sibling(path, TEST) or folder.find(TEST)
    if test is None:
        raise MissingFileError(f"{path}: {TEST!r}, with the other part of the database, is not in {folder.root}")
    parts = {"train": path, "test": test}
    return pd.concat([with_source(parser(COLUMNS, split=part)(file, folder), file) for part, file in parts.items()])


BIQ2021 = Reader(
    title="BIQ2021",
    scale=RatingScale(low=0, high=1, bin_centers=(0.1, 0.3, 0.5, 0.7, 0.9)),
    release_sos="hypothesis",  # the release did not use this database
    label_files={TRAIN: _both_parts},
    layouts=(under("Images"), under("")),
)
