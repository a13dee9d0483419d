"""CLIVE, the LIVE In the Wild Image Quality Challenge database: photographs rated 0..100.

Source: Ghadiyaram, Bovik, Massive Online Crowdsourced Study of Subjective and Objective Picture Quality, IEEE TIP 2016.
"""

import re
import warnings
from pathlib import Path

import numpy as np
import pandas as pd

from datasets.readers.assembly import Reader, beside, release_form
from datasets.readers.folder import Folder, under
from datasets.readers.tables import numbers, read_mat, strings_of
from datasets.scale import RatingScale
from utils.errors import MissingFileError, UserError

NAMES, MOS, SOS = "AllImages_release", "AllMOS_release", "AllStdDev_release"
TRAINING_IMAGE = re.compile(r"t[1-7]\.bmp")  # shown to voters before the test; not part of the database


def _scores(path: Path, folder: Folder) -> pd.DataFrame:
    """MOS and SOS of the three MATLAB files, without the seven training images."""
    names_path, sos_path = (_companion(path, name, folder) for name in (NAMES, SOS))
    if names_path is None:
        raise MissingFileError(f"{path}: the names of its images are in {NAMES}.mat, which is not in {folder.root}")
    columns = {"name": strings_of(*read_mat(names_path, NAMES)), "mos": np.ravel(*read_mat(path, MOS)).tolist()}
    if sos_path is None:
        warnings.warn(f"{SOS}.mat is not in {folder.root}; there is no SOS without it", stacklevel=2)
    else:
        columns["sos"] = np.ravel(*read_mat(sos_path, SOS)).tolist()
    lengths = {name: len(values) for name, values in columns.items()}
    if len(set(lengths.values())) != 1:
        raise UserError(f"{path}: the files are of different databases; entries: {lengths}")
    table = pd.DataFrame(columns, index=pd.RangeIndex(1, lengths["name"] + 1, name="entry"))
    table[list(columns)[1:]] = numbers(table, list(columns)[1:], path)
    return table[~table["name"].str.fullmatch(TRAINING_IMAGE)].copy()


def _companion(path: Path, name: str, folder: Folder) -> Path | None:
    return beside(path, f"{name}.mat") or folder.find(f"Data/{name}.mat", f"{name}.mat")


CLIVE = Reader(
    title="CLIVE (LIVE In the Wild)",
    scale=RatingScale(low=0, high=100, bin_centers=(10, 30, 50, 70, 90)),
    sos_a=0.1841,
    forms={f"Data/{MOS}.mat": _scores, f"{MOS}.mat": _scores, "CLIVEhist_5.txt": release_form()},
    layouts=(under("Images"), under("ChallengeDB_release/Images"), under("")),
)
