"""Reader of SPAQ: smartphone photographs rated 0..100.

Source: Fang, Zhu, Zeng, Ma, Wang, Perceptual Quality Assessment of Smartphone Photography, CVPR 2020.
"""

from functools import partial
from pathlib import Path

import pandas as pd

from datasets.readers.assembly import Reader, file_name, parser, release_parser, sibling, with_sos, with_source
from datasets.readers.folder import Folder, under
from datasets.readers.tables import Columns, read_sheet
from datasets.scale import RatingScale
from utils.errors import UserError
from utils.files import read_json

WORKBOOK = "MOS and Image attribute scores.xlsx"
TRAIN_LIST, TEST_LIST = "SPAQ_train_split_1.xlsx", "SPAQ_test_split_1.xlsx"  # a third-party split with the same columns
COLUMNS: Columns = {"name": ("Image name",), "mos": ("MOS",)}
STD_COLUMNS: Columns = {"name": ("image",), "mos": ("mos", "gt_score"), "sos": ("std",)}


def _lists(path: Path, folder: Folder) -> pd.DataFrame:
    """Return both lists of a split if they are in the same folder, else this one only."""
    parts = []
    for name, part in ((TRAIN_LIST, "train"), (TEST_LIST, "test")):
        file = sibling(path, name)
        if file is not None:
            parts.append(with_source(SCORES(file, folder), file).assign(split=part))
    return pd.concat(parts, ignore_index=True)


def _read_list(path: Path) -> pd.DataFrame:
    """Read a JSON list of MOS and standard deviation."""
    entries = read_json(path)
    if not isinstance(entries, list) or not entries or not all(isinstance(entry, dict) for entry in entries):
        raise UserError(f"{path}: must be a list of mappings with image, gt_score and std")
    return pd.DataFrame(entries, index=pd.RangeIndex(1, len(entries) + 1, name="entry"))


SCORES = parser(COLUMNS, read=partial(read_sheet, columns=COLUMNS))
STD_FILES = {  # standard deviations, published later
    "spaq_mos_std.csv": parser(STD_COLUMNS, file_name),
    "spaq_testing_set.json": parser(STD_COLUMNS, file_name, _read_list),
}

SPAQ = Reader(
    title="SPAQ",
    scale=RatingScale(low=0, high=100, bin_centers=(10, 30, 50, 70, 90)),
    sos_a=0.1304,
    release_sos="hypothesis",
    label_files={
        f"Annotations/{WORKBOOK}": with_sos(SCORES, STD_FILES),
        WORKBOOK: with_sos(SCORES, STD_FILES),
        "SPAQhist.txt": release_parser(),
        TRAIN_LIST: with_sos(_lists, STD_FILES),
        TEST_LIST: with_sos(_lists, STD_FILES),
        **STD_FILES,
    },
    layouts=(under("TestImage"), under("SPAQ/TestImage"), under("images"), under("")),
)
