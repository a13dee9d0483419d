"""SPAQ: smartphone photographs rated 0..100.

Source: Fang, Zhu, Zeng, Ma, Wang, Perceptual Quality Assessment of Smartphone Photography, CVPR 2020.
"""

from pathlib import Path

import pandas as pd

from datasets.readers.assembly import Format, file_name, release_form, with_source
from datasets.readers.folder import Folder, under
from datasets.readers.tables import Columns, numbers, pick, read_sheet, read_table, texts
from utils.errors import UserError
from utils.files import read_json

SCORES = "MOS and Image attribute scores.xlsx"
TRAIN_LIST, TEST_LIST = "SPAQ_train_split_1.xlsx", "SPAQ_test_split_1.xlsx"  # one split in circulation, same columns
STD_TABLE, STD_LIST = "spaq_mos_std.csv", "spaq_testing_set.json"  # the standard deviations that came later
COLUMNS: Columns = {"name": ("Image name",), "mos": ("MOS",)}
STD_COLUMNS: Columns = {"name": ("image",), "mos": ("mos", "gt_score"), "sos": ("std",)}


def _scores(path: Path, folder: Folder) -> pd.DataFrame:
    """The official workbook; SOS from the later file where that is there."""
    return _with_std(_sheet(path), folder)


def _lists(path: Path, folder: Folder) -> pd.DataFrame:
    """The two lists of one split, or one of them alone."""
    parts = []
    for name, part in ((TRAIN_LIST, "train"), (TEST_LIST, "test")):
        file = path.with_name(name)
        if file.is_file():
            parts.append(with_source(_sheet(file), file).assign(split=part))
    return _with_std(pd.concat(parts, ignore_index=True), folder)


def _std_file(path: Path, _folder: Folder) -> pd.DataFrame:
    """MOS and standard deviation, as CSV or as JSON list."""
    if path.suffix == ".json":
        entries = read_json(path)
        if not isinstance(entries, list) or not entries or not all(isinstance(entry, dict) for entry in entries):
            raise UserError(f"{path}: is not a list of labels, each a mapping with image, gt_score and std")
        table = pd.DataFrame(entries)
        table.index = pd.RangeIndex(1, len(table) + 1, name="entry")
    else:
        table = read_table(path)
    table = pick(table, path, STD_COLUMNS)
    values = numbers(table, ["mos", "sos"], path)
    return values.assign(name=texts(table["name"]).map(file_name))


def _sheet(path: Path) -> pd.DataFrame:
    table = pick(read_sheet(path, COLUMNS), path, COLUMNS)
    return pd.DataFrame({"name": texts(table["name"]), "mos": numbers(table, ["mos"], path)["mos"]})


def _with_std(table: pd.DataFrame, folder: Folder) -> pd.DataFrame:
    path = folder.find(STD_TABLE, STD_LIST)
    if path is None:
        return table
    std = _std_file(path, folder).drop_duplicates("name").set_index("name")["sos"]
    missing = table["name"][~table["name"].isin(std.index)]
    if len(missing):
        raise UserError(f"{path}: no standard deviation of {missing.iloc[0]} and {len(missing) - 1} others")
    return table.assign(sos=table["name"].map(std))


SPAQ = Format(
    title="SPAQ",
    forms={
        f"Annotations/{SCORES}": _scores,
        SCORES: _scores,
        "SPAQhist.txt": release_form(),
        TRAIN_LIST: _lists,
        TEST_LIST: _lists,
        STD_TABLE: _std_file,
        STD_LIST: _std_file,
    },
    layouts=(under("TestImage"), under("SPAQ/TestImage"), under("images"), under("")),
)
