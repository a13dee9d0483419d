"""Reader of SPAQ: smartphone photographs rated 0..100.

Source: Fang, Zhu, Zeng, Ma, Wang, Perceptual Quality Assessment of Smartphone Photography, CVPR 2020.
"""

from pathlib import Path

import pandas as pd

from datasets.readers.assembly import Reader, file_name, release_parser, sibling, with_sos, with_source
from datasets.readers.folder import Folder, under
from datasets.readers.tables import Columns, numbers, pick, read_sheet, read_table, texts
from datasets.scale import RatingScale
from utils.errors import UserError
from utils.files import read_json

SCORES = "MOS and Image attribute scores.xlsx"
TRAIN_LIST, TEST_LIST = "SPAQ_train_split_1.xlsx", "SPAQ_test_split_1.xlsx"  # a third-party split with the same columns
STD_TABLE, STD_LIST = "spaq_mos_std.csv", "spaq_testing_set.json"  # standard deviations, published later
COLUMNS: Columns = {"name": ("Image name",), "mos": ("MOS",)}
STD_COLUMNS: Columns = {"name": ("image",), "mos": ("mos", "gt_score"), "sos": ("std",)}


def _scores(path: Path, folder: Folder) -> pd.DataFrame:
    """Return the scores of the official workbook, with SOS from the later file if it exists."""
    return _with_std(_sheet(path), folder)


def _lists(path: Path, folder: Folder) -> pd.DataFrame:
    """Return both lists of a split if they are in the same folder, else this one only."""
    parts = []
    for name, part in ((TRAIN_LIST, "train"), (TEST_LIST, "test")):
        file = sibling(path, name)
        if file is not None:
            parts.append(with_source(_sheet(file), file).assign(split=part))
    return _with_std(pd.concat(parts, ignore_index=True), folder)


def _std_list(path: Path, _folder: Folder) -> pd.DataFrame:
    """Parse a JSON list of MOS and standard deviation."""
    entries = read_json(path)
    if not isinstance(entries, list) or not entries or not all(isinstance(entry, dict) for entry in entries):
        raise UserError(f"{path}: must be a list of mappings with image, gt_score and std")
    table = pd.DataFrame(entries, index=pd.RangeIndex(1, len(entries) + 1, name="entry"))
    return _std(table, path)


def _std_table(path: Path, _folder: Folder) -> pd.DataFrame:
    """Parse a CSV table of MOS and standard deviation."""
    return _std(read_table(path), path)


def _std(table: pd.DataFrame, path: Path) -> pd.DataFrame:
    table = pick(table, path, STD_COLUMNS)
    return numbers(table, ["mos", "sos"], path).assign(name=texts(table["name"]).map(file_name))


def _sheet(path: Path) -> pd.DataFrame:
    table = pick(read_sheet(path, COLUMNS), path, COLUMNS)
    return pd.DataFrame({"name": texts(table["name"]), "mos": numbers(table, ["mos"], path)["mos"]})


def _with_std(table: pd.DataFrame, folder: Folder) -> pd.DataFrame:
    for name, read in STD_FORMS.items():
        path = folder.find(name)
        if path is not None:
            return with_sos(table, read(path, folder), path)
    return table


STD_FORMS = {STD_TABLE: _std_table, STD_LIST: _std_list}

SPAQ = Reader(
    title="SPAQ",
    scale=RatingScale(low=0, high=100, bin_centers=(10, 30, 50, 70, 90)),
    sos_a=0.1304,
    release_sos="hypothesis",
    label_files={
        f"Annotations/{SCORES}": _scores,
        SCORES: _scores,
        "SPAQhist.txt": release_parser(),
        TRAIN_LIST: _lists,
        TEST_LIST: _lists,
        **STD_FORMS,
    },
    layouts=(under("TestImage"), under("SPAQ/TestImage"), under("images"), under("")),
)
