"""Reader of CLIVE, the LIVE In the Wild Image Quality Challenge database: photographs rated 0..100.

Source: Ghadiyaram, Bovik, Massive Online Crowdsourced Study of Subjective and Objective Picture Quality, IEEE TIP 2016.
"""

import re
import warnings
from pathlib import Path

import numpy as np
import pandas as pd

from datasets.readers.assembly import Reader, release_parser, sibling
from datasets.readers.folder import Folder, under
from datasets.readers.matlab import read_mat
from datasets.readers.tables import numbers
from datasets.scale import RatingScale
from utils.errors import MissingFileError, UserError

NAMES, MOS, SOS = "AllImages_release", "AllMOS_release", "AllStdDev_release"
TRAINING_IMAGE = re.compile(r"t[1-7]\.bmp")  # shown to voters before the test; not part of the database


def _scores(path: Path, folder: Folder) -> pd.DataFrame:
    """Return MOS and SOS from the three MATLAB files, without the seven training images."""
    names_path, sos_path = (_companion(path, name, folder) for name in (NAMES, SOS))
    if names_path is None:
        raise MissingFileError(f"{path}: {NAMES}.mat, which has the names of the images, is not in {folder.root}")
    columns = {
        "name": np.ravel(*read_mat(names_path, NAMES, texts=True)).tolist(),
        "mos": np.ravel(*read_mat(path, MOS)).tolist(),
    }
    if sos_path is None:
        warnings.warn(f"{SOS}.mat is not in {folder.root}; the labels have no SOS without it", stacklevel=2)
    else:
        columns["sos"] = np.ravel(*read_mat(sos_path, SOS)).tolist()
    lengths = {name: len(values) for name, values in columns.items()}
    if len(set(lengths.values())) != 1:
        raise UserError(f"{path}: the files belong to different databases; numbers of entries: {lengths}")
    table = pd.DataFrame(columns, index=pd.RangeIndex(1, lengths["name"] + 1, name="entry"))
    table[list(columns)[1:]] = numbers(table, list(columns)[1:], path)
    return table[~table["name"].str.fullmatch(TRAINING_IMAGE)].copy()


def _companion(path: Path, name: str, folder: Folder) -> Path | None:
    return sibling(path, f"{name}.mat") or folder.find(f"Data/{name}.mat", f"{name}.mat")


CLIVE = Reader(
    title="CLIVE (LIVE In the Wild)",
    scale=RatingScale(low=0, high=100, bin_centers=(10, 30, 50, 70, 90)),
    sos_a=0.1841,
    label_files={f"Data/{MOS}.mat": _scores, f"{MOS}.mat": _scores, "CLIVEhist_5.txt": release_parser()},
    layouts=(under("Images"), under("ChallengeDB_release/Images"), under("")),
)
