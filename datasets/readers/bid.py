"""Reader of BID: photographs with realistic blur, rated by continuous grades 0..5.

Source: Ciancio, da Costa, da Silva, Said, Samadani, Obrador, No-Reference Blur Assessment of Digital Pictures Based on
Multifeature Classifiers, IEEE TIP 2011.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from datasets.readers.assembly import Reader
from datasets.readers.folder import Folder, under
from datasets.readers.tables import Columns, numbers, pick, read_sheet, refuse, whole_numbers
from datasets.scale import RatingScale

GRADES = "DatabaseGrades.xls"
SHEET = "Plan1"  # the other sheets are empty
LARGEST_PANEL = 20
COLUMNS: Columns = {
    "number": ("Image Number",),
    "average": ("Average Subjective Grade",),
    "count": ("Number of Grades",),
}
GRADES_OF_VOTERS: Columns = {f"grade{k}": (f"Grade #{k}",) for k in range(1, LARGEST_PANEL + 1)}
AVERAGE_TOLERANCE = 1e-3  # between the stated average and that of the grades, on 0..5; allows for rounding


def _grades(path: Path, _folder: Folder) -> pd.DataFrame:
    """Return the stated MOS, SOS (ddof 1) and single grades, with a note on rows that contradict themselves."""
    table = pick(read_sheet(path, COLUMNS, SHEET), path, COLUMNS, GRADES_OF_VOTERS)
    grade_columns = [name for name in GRADES_OF_VOTERS if name in table.columns]
    number = whole_numbers(table, "number", path)
    stated = numbers(table, ["average", "count"], path)
    grades = numbers(table, grade_columns, path, blank=True)
    panel = grades.notna().sum(axis=1)
    refuse(panel < 2, path, lambda row: f"image {number[row]} has {panel[row]} grades; SOS needs at least two")
    mean = grades.mean(axis=1)
    odd = ((mean - stated["average"]).abs() > AVERAGE_TOLERANCE) | (panel != stated["count"])
    notes = [
        f"stated average {average:.4g} of {count:g} grades, but {panel[row]} grades average {mean[row]:.4g}"
        if odd[row]
        else ""
        for row, average, count in stated.itertuples()
    ]
    return pd.DataFrame(
        {
            "name": number.map(lambda n: f"DatabaseImage{n:04d}.JPG"),
            "mos": stated["average"],
            "sos": grades.std(axis=1, ddof=1),
            "grades": [tuple(row[~np.isnan(row)].tolist()) for row in grades.to_numpy()],
            "note": notes,
        }
    )


BID = Reader(
    title="BID",
    scale=RatingScale(low=0, high=5, bin_centers=(0.5, 1.5, 2.5, 3.5, 4.5)),
    sos_a=0.1683,
    label_files={GRADES: _grades},
    layouts=(under("ImageDatabase"), under("ImageDatabase/ImageDatabase"), under("images"), under("")),
)
