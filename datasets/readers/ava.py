"""Reader of AVA: 255,530 photographs of contests, votes 1..10 on their aesthetics.

Source: Murray, Marchesotti, Perronnin, AVA: A Large-Scale Database for Aesthetic Visual Analysis, CVPR 2012.
"""

from pathlib import Path

import pandas as pd

from datasets.readers.assembly import Reader
from datasets.readers.folder import Folder, under
from datasets.readers.tables import numbers, read_table, refuse
from datasets.scale import RatingScale

VOTES = [f"c{k}" for k in range(1, 11)]
COLUMNS = ["index", "image", *VOTES, "tag1", "tag2", "challenge"]


def _votes(path: Path, _folder: Folder) -> pd.DataFrame:
    """Return the votes on every image."""
    table = read_table(path, COLUMNS, separator=" ")
    refuse(table["challenge"] == "", path, lambda _: f"the row has less than {len(COLUMNS)} numbers: it is cut off")
    image = table["image"]
    refuse(~image.str.fullmatch(r"\d+"), path, lambda line: f"image is {image[line]!r}; expected a whole number")
    votes = numbers(table, VOTES, path)
    bad = ((votes < 0) | (votes != votes.round())).any(axis=1) | (votes.sum(axis=1) == 0)
    rule = "they must be whole numbers, none of them negative, and not all zero; correct or delete the row"
    refuse(bad, path, lambda line: f"the votes on image {image[line]} are {votes.loc[line].tolist()}; {rule}")
    counts = list(map(tuple, votes.to_numpy().tolist()))
    return pd.DataFrame({"name": image + ".jpg", "mos": None, "counts": counts}, index=table.index)


AVA = Reader(
    title="AVA",
    scale=RatingScale(low=1, high=10, bin_centers=tuple(range(1, 11))),
    label_files={"AVA.txt": _votes},
    layouts=(under("images"), under("image"), under("images/images"), under("image/image"), under("")),
)
