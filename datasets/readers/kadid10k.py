"""Reader of KADID-10k: 81 scenes in 125 distorted versions, rated 1..5; higher is better despite the name `dmos`.

Source: Lin, Hosu, Saupe, KADID-10k: A Large-scale Artificially Distorted IQA Database, QoMEX 2019.
"""

from pathlib import Path

import pandas as pd

from datasets.readers.assembly import Reader, release_parser
from datasets.readers.folder import Folder, under
from datasets.readers.tables import Columns, numbers, pick, read_table
from datasets.scale import RatingScale

COLUMNS: Columns = {"name": ("dist_img",), "mos": ("dmos",), "sos": ("var",)}  # `var` holds the standard deviation


def _scores(path: Path, _folder: Folder) -> pd.DataFrame:
    table = pick(read_table(path), path, COLUMNS)
    return numbers(table, ["mos", "sos"], path).assign(name=table["name"])


KADID10K = Reader(
    title="KADID-10k",
    scale=RatingScale(low=1, high=5, bin_centers=(1.4, 2.2, 3.0, 3.8, 4.6)),
    sos_a=0.2152,
    label_files={"dmos.csv": _scores, "kadid10khist_5.txt": release_parser()},
    layouts=(under("images"), under("kadid10k/images"), under("")),
    reference_from_name=lambda name: name.partition("_")[0],  # I01_02_03.png -> I01
)
