"""Reader of TID2013: 25 scenes in 120 distorted versions, rated 0..9.

Source: Ponomarenko, Jin, Ieremeiev, Lukin, Egiazarian, Astola, Vozel, Chehdi, Carli, Battisti, Kuo, Image database
TID2013: Peculiarities, results and perspectives, Signal Processing: Image Communication 2015.
"""

import warnings
from functools import partial
from pathlib import Path

import pandas as pd

from datasets.readers.assembly import Reader, parser, sibling
from datasets.readers.folder import Folder, under
from datasets.readers.tables import Columns, numbers, read_table, refuse
from datasets.scale import RatingScale
from utils.errors import UserError

MOS, SOS = "mos_with_names.txt", "mos_std.txt"
COLUMNS: Columns = {"mos": ("mos",), "name": ("name",)}
# copies differ in the case of names
SCORES = parser(COLUMNS, str.lower, partial(read_table, names=list(COLUMNS), separator=" "))


def _scores(path: Path, folder: Folder) -> pd.DataFrame:
    """Return the MOS, and the SOS if the file with it exists, which lists the images in the same order."""
    table = SCORES(path, folder)
    sos_path = sibling(path, SOS) or folder.find(SOS)
    if sos_path is None:
        warnings.warn(f"{SOS} is not in {folder.root}; the labels have no SOS without it", stacklevel=2)
        return table
    stated = read_table(sos_path, ["sos", "name"], separator=" ")  # some copies may repeat the names
    sos = numbers(stated, ["sos"], sos_path)["sos"]
    if len(sos) != len(table):
        raise UserError(
            f"{sos_path} has {len(sos)} values, but {path} has {len(table)} images; both must be of one copy"
        )
    named = stated["name"].str.lower()
    other = (named != "") & (named != table["name"].to_numpy())
    refuse(other, sos_path, lambda line: f"image {named[line]} is at another place in {path.name}")
    return table.assign(sos=sos.to_numpy())


TID2013 = Reader(
    title="TID2013",
    scale=RatingScale(low=0, high=9, bin_centers=(0.9, 2.7, 4.5, 6.3, 8.1)),
    label_files={MOS: _scores},
    layouts=(under("distorted_images"), under("tid2013/distorted_images"), under("images"), under("")),
    reference_from_name=lambda name: name.partition("_")[0],  # i01_02_3.bmp -> i01
)
