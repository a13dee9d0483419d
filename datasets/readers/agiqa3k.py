"""Reader of AGIQA-3K: 2,982 generated images of 300 prompts, rated 0..5.

Source: Li, Zhang, Wu, Sun, Min, Liu, Zhai, Lin, AGIQA-3K: An Open Database for AI-Generated Image Quality Assessment,
IEEE TCSVT 2024.
"""

from pathlib import Path

import pandas as pd

from datasets.readers.assembly import Reader
from datasets.readers.folder import Folder, under
from datasets.readers.tables import numbers, pick, read_table
from datasets.scale import RatingScale

COLUMNS = {"name": ("name",), "reference": ("prompt",), "mos": ("mos_quality",), "sos": ("std_quality",)}


def _quality(path: Path, _folder: Folder) -> pd.DataFrame:
    """Return the ratings of quality (not of alignment with the prompt); images of one prompt share a reference."""
    table = pick(read_table(path), path, COLUMNS)
    return numbers(table, ["mos", "sos"], path).assign(name=table["name"], reference=table["reference"])


AGIQA3K = Reader(
    title="AGIQA-3K",
    scale=RatingScale(low=0, high=5, bin_centers=(0.5, 1.5, 2.5, 3.5, 4.5)),
    label_files={"data.csv": _quality},
    layouts=(under(""), under("images"), under("ACGIQA-3K")),
)
