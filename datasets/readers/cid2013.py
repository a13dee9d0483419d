"""Reader of CID2013: photographs of six sets by real cameras, rated 0..100.

Source: Virtanen, Nuutinen, Vaahteranoksa, Oittinen, Hakkinen, CID2013: A Database for Evaluating No-Reference Image
Quality Assessment Algorithms, IEEE TIP 2015.
"""

import re
from functools import partial

from datasets.readers.assembly import LIST_COLUMNS, Reader, file_name, parser, release_parser, with_sos
from datasets.readers.folder import under
from datasets.readers.tables import Columns, read_sheet
from datasets.scale import RatingScale

COLUMNS: Columns = {"name": ("Source_ID",), "mos": ("Image set specific  MOS",)}  # the MOS that the release uses
NAME = re.compile(r"IS_(I|II|III|IV|V|VI)_C(\d+)_D\d+")
SETS = {"I": 1, "II": 2, "III": 3, "IV": 4, "V": 5, "VI": 6}


def _name(path: str) -> str:
    """`IS_I_C01_D01`, with or without folders and extension -> `IS_I_C01_D01.jpg`."""
    name = file_name(path)
    return name if name.lower().endswith(".jpg") else f"{name}.jpg"


def _in_scene_folder(name: str) -> str:
    """`IS_II_C03_D01.jpg` -> `IS2/co3/IS_II_C03_D01.jpg`."""
    match = NAME.match(name)
    return f"IS{SETS[match[1]]}/co{int(match[2])}/{name}" if match else name


SCORES = parser(COLUMNS, _name, partial(read_sheet, columns=COLUMNS, sheet="CID2013 MOS"))
RELEASE = {"CID2013hist_5.txt": release_parser(_name)}

CID2013 = Reader(
    title="CID2013",
    scale=RatingScale(low=0, high=100, bin_centers=(10, 30, 50, 70, 90)),
    sos_a=0.1649,
    label_files={
        "CID2013 data - version 12112014.xlsx": with_sos(SCORES, RELEASE),
        **RELEASE,
        "CID2013.txt": parser(LIST_COLUMNS, _name, open_ended=True),  # the MOS realigned over the sets: -9.5..87.9
    },
    layouts=(_in_scene_folder, lambda name: f"CID2013/{_in_scene_folder(name)}", under("")),
    image_set_from_name=lambda name: "_".join(name.split("_")[:2]),  # IS_II_C03_D01.jpg -> IS_II
)
