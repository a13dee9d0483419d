"""Reader of FLIVE (LIVE-FB, PaQ-2-PiQ), whole images: photographs rated 0..100, neither SOS nor votes.

Source: Ying, Niu, Gupta, Mahajan, Ghadiyaram, Bovik, From Patches to Pictures (PaQ-2-PiQ), CVPR 2020.
"""

from pathlib import Path

import pandas as pd

from datasets.readers.assembly import Reader, parser
from datasets.readers.folder import Folder, under
from datasets.readers.tables import pick, read_table, refuse
from datasets.scale import RatingScale

IMAGES = "labels_image.csv"
TEST = "labels640.csv"  # the official test part: images with a side above 640 pixels
TRAIN = "labels=640_padded.csv"  # the others, `is_valid` for the validation part
TRUE, FALSE = ("true", "1", "1.0"), ("false", "0", "0.0")
SCORES = parser({"name": ("name",), "mos": ("mos",)})
TEST_SCORES = parser({"name": ("name_image",), "mos": ("mos_image",)}, split="test")


def _images(path: Path, folder: Folder) -> pd.DataFrame:
    """Return the MOS of every image, and its official part if the files that state it exist."""
    table, parts = SCORES(path, folder), _official_parts(folder)
    return table.assign(split=[parts.get(name) for name in table["name"]])


def _official_parts(folder: Folder) -> dict[str, str]:
    parts = {}
    test, rest = folder.find(TEST), folder.find(TRAIN)
    if rest is not None:
        table = pick(read_table(rest), rest, {"name": ("name_image",), "is_valid": ("is_valid",)})
        valid = table["is_valid"].str.lower()
        refuse(
            ~valid.isin((*TRUE, *FALSE)),
            rest,
            lambda line: f"is_valid is {table.loc[line, 'is_valid']!r}; allowed: True, False",
        )
        parts |= dict(zip(table["name"], valid.isin(TRUE).map({True: "validation", False: "train"}), strict=True))
    if test is not None:
        names = pick(read_table(test), test, {"name": ("name_image",)})["name"]
        refuse(names.isin(parts.keys()), test, lambda line: f"{names[line]} is also in {TRAIN}")
        parts |= dict.fromkeys(names, "test")
    return parts


FLIVE = Reader(
    title="FLIVE",
    scale=RatingScale(low=0, high=100, bin_centers=(10, 30, 50, 70, 90)),
    release_sos="hypothesis",  # the database has no measured SOS; what the release did is unknown
    label_files={IMAGES: _images, TEST: TEST_SCORES},
    layouts=(under("database"), under(""), under("FLIVE_Database/database"), under("images")),
)
