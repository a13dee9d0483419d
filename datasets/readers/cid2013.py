"""Reader of CID2013: photographs of six sets by real cameras, rated 0..100.

Source: Virtanen, Nuutinen, Vaahteranoksa, Oittinen, Hakkinen, CID2013: A Database for Evaluating No-Reference Image
Quality Assessment Algorithms, IEEE TIP 2015.
"""

import re
from pathlib import Path

import pandas as pd

from datasets.readers.assembly import Reader, file_name, list_parser, release_parser, with_sos
from datasets.readers.folder import Folder, under
from datasets.readers.tables import Columns, numbers, pick, read_sheet, texts
from datasets.scale import RatingScale

SCORES = "CID2013 data - version 12112014.xlsx"
SHEET = "CID2013 MOS"
COLUMNS: Columns = {"name": ("Source_ID",), "mos": ("Image set specific  MOS",)}  # the MOS that the release uses
RELEASE = "CID2013hist_5.txt"
NAME = re.compile(r"IS_(I|II|III|IV|V|VI)_C(\d+)_D\d+")
SETS = {"I": 1, "II": 2, "III": 3, "IV": 4, "V": 5, "VI": 6}


def _scores(path: Path, folder: Folder) -> pd.DataFrame:
    """Return the MOS within its image set, and the SOS from the release's label file if it exists."""
    table = pick(read_sheet(path, COLUMNS, SHEET), path, COLUMNS)
    ratings = pd.DataFrame({"name": texts(table["name"]).map(_name), "mos": numbers(table, ["mos"], path)["mos"]})
    release = folder.find(RELEASE)
    return ratings if release is None else with_sos(ratings, release_parser(_name)(release, folder), release)


def _name(path: str) -> str:
    """`IS_I_C01_D01`, with or without folders and extension -> `IS_I_C01_D01.jpg`."""
    name = file_name(path)
    return name if name.lower().endswith(".jpg") else f"{name}.jpg"


def _in_scene_folder(name: str) -> str:
    """`IS_II_C03_D01.jpg` -> `IS2/co3/IS_II_C03_D01.jpg`."""
    match = NAME.match(name)
    return f"IS{SETS[match[1]]}/co{int(match[2])}/{name}" if match else name


CID2013 = Reader(
    title="CID2013",
    scale=RatingScale(low=0, high=100, bin_centers=(10, 30, 50, 70, 90)),
    sos_a=0.1649,
    label_files={
        SCORES: _scores,
        RELEASE: release_parser(_name),
        "CID2013.txt": list_parser(_name, open_ended=True),  # the MOS realigned over the sets: -9.5..87.9
    },
    layouts=(_in_scene_folder, lambda name: f"CID2013/{_in_scene_folder(name)}", under("")),
    image_set_from_name=lambda name: "_".join(name.split("_")[:2]),  # IS_II_C03_D01.jpg -> IS_II
)
