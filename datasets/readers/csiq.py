"""Reader of CSIQ: 30 scenes in 866 distorted versions; DMOS 0..1, lower is better.

Source: Larson, Chandler, Most apparent distortion, Journal of Electronic Imaging 2010.
"""

from functools import partial
from pathlib import Path

import pandas as pd

from datasets.readers.assembly import Reader, parser, release_parser
from datasets.readers.folder import Folder, under
from datasets.readers.tables import Columns, numbers, pick, read_sheet, read_table, refuse, texts, whole_numbers
from datasets.scale import RatingScale

SHEET = "all_by_image"
SHEET_COLUMNS = ["image", "dst_idx", "dst_type", "dst_lev", "dmos_std", "dmos"]
COLUMNS: Columns = {name: (name,) for name in SHEET_COLUMNS}
DISTORTIONS = {  # from `dst_type` to the distortion in a file name
    "noise": "AWGN",
    "blur": "BLUR",
    "contrast": "contrast",
    "fnoise": "fnoise",
    "jpeg": "JPEG",
    "jpeg 2000": "jpeg2000",
    "jpeg2000": "jpeg2000",
}


def _sheet(path: Path, _folder: Folder) -> pd.DataFrame:
    return _scores(pick(read_sheet(path, COLUMNS, SHEET), path, COLUMNS), path)


def _text(path: Path, _folder: Folder) -> pd.DataFrame:
    """Parse the text version with three decimals, which the release used."""
    return _scores(read_table(path, SHEET_COLUMNS, separator="\t"), path)


def _scores(table: pd.DataFrame, path: Path) -> pd.DataFrame:
    values = numbers(table, ["dmos", "dmos_std"], path)
    level = whole_numbers(table, "dst_lev", path)
    kinds = texts(table["dst_type"]).str.lower().map(DISTORTIONS)
    allowed = ", ".join(DISTORTIONS)
    refuse(kinds.isna(), path, lambda row: f"dst_type is {table.loc[row, 'dst_type']!r}; allowed: {allowed}")
    names = [f"{image}.{kind}.{n}.png" for image, kind, n in zip(texts(table["image"]), kinds, level, strict=True)]
    return pd.DataFrame({"name": names, "mos": values["dmos"], "sos": values["dmos_std"]})


def _in_distortion_folder(name: str) -> str:
    """`1600.AWGN.1.png` -> `awgn/1600.AWGN.1.png`."""
    return f"{name.split('.')[1].lower() if '.' in name else ''}/{name}"


LIST = {"name": ("name",), "mos": ("mos",)}  # file names and DMOS, from third parties


CSIQ = Reader(
    title="CSIQ",
    scale=RatingScale(low=0, high=1, bin_centers=(0.1, 0.3, 0.5, 0.7, 0.9), higher_is_better=False),
    sos_a=0.0657,
    label_files={
        "csiq.beta.txt": _text,
        "csiq.DMOS.xlsx": _sheet,
        "csiq.beta.xlsx": _sheet,
        "CSIQhist_5.txt": release_parser(),
        "csiq_label.txt": parser(LIST, read=partial(read_table, names=list(LIST), separator=" ")),
    },
    layouts=(
        lambda name: f"dst_imgs/{_in_distortion_folder(name)}",
        under("dst_imgs_all"),
        _in_distortion_folder,
        under("dst_imgs"),
        under(""),
    ),
    reference_from_name=lambda name: name.partition(".")[0],  # 1600.AWGN.1.png -> 1600
)
