"""Reader of LIVE, release 2: 29 scenes in 779 distorted versions; DMOS about 0..100, lower is better.

Source: Sheikh, Sabir, Bovik, A Statistical Evaluation of Recent Full Reference Image Quality Assessment Algorithms,
IEEE TIP 2006.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from datasets.readers.assembly import Reader, sibling
from datasets.readers.folder import Folder, under
from datasets.readers.matlab import read_mat
from datasets.readers.tables import numbers
from datasets.scale import RatingScale
from utils.errors import MissingFileError, UserError

SCORES, REFERENCES = "dmos_realigned.mat", "refnames_all.mat"
FOLDERS = {"jp2k": 227, "jpeg": 233, "wn": 174, "gblur": 174, "fastfading": 174}  # in the order of the files' entries
NAMES = [f"{folder}/img{number}.bmp" for folder, count in FOLDERS.items() for number in range(1, count + 1)]


def _scores(path: Path, folder: Folder) -> pd.DataFrame:
    """Return the realigned DMOS and SOS of the distorted images, without the copies of their references."""
    references = sibling(path, REFERENCES) or folder.find(REFERENCES)
    if references is None:
        raise MissingFileError(f"{path}: {REFERENCES}, which has the reference of each image, is not in {folder.root}")
    dmos, std, is_reference = map(np.ravel, read_mat(path, "dmos_new", "dmos_std", "orgs"))
    names = np.ravel(*read_mat(references, "refnames_all", texts=True)).tolist()
    lengths = {"dmos_new": len(dmos), "dmos_std": len(std), "orgs": len(is_reference), "refnames_all": len(names)}
    if set(lengths.values()) != {len(NAMES)}:
        raise UserError(f"{path}: numbers of entries: {lengths}; release 2 of LIVE has {len(NAMES)} of each")
    columns = {"name": NAMES, "mos": dmos, "sos": std, "reference": [name.rpartition(".")[0] or name for name in names]}
    table = pd.DataFrame(columns, index=pd.RangeIndex(1, len(NAMES) + 1, name="entry"))[is_reference == 0]
    # realigned scores may lie beyond the ends of the scale
    return table.assign(open_ended=True, **numbers(table, ["mos", "sos"], path))


LIVE = Reader(
    title="LIVE",
    scale=RatingScale(low=0, high=100, bin_centers=(10, 30, 50, 70, 90), higher_is_better=False),
    label_files={SCORES: _scores},
    layouts=(under(""), under("databaserelease2")),
)
