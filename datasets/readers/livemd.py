"""Reader of LIVE-MD: 15 scenes in 450 versions with two distortions; DMOS 0..100, lower is better.

Source: Jayaraman, Mittal, Moorthy, Bovik, Objective Quality Assessment of Multiply Distorted Images, Asilomar 2012.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from datasets.readers.assembly import LIST_COLUMNS, Reader, file_name, parser, release_parser, sibling, with_source
from datasets.readers.folder import Folder, Layout, under
from datasets.readers.matlab import read_mat
from datasets.readers.tables import numbers
from datasets.scale import RatingScale
from utils.errors import MissingFileError, UserError

FOLDERS = {"Part 1": "blurjpeg", "Part 2": "blurnoise"}
SCORES, LISTS = "Scores.mat", "Imagelists.mat"  # in each part


def _scores(path: Path, _folder: Folder) -> pd.DataFrame:
    """Return DMOS and SOS (ddof 1) of both parts."""
    parts = []
    for part, images in FOLDERS.items():
        place = sibling(path.parent, part)
        files = [place and sibling(place / name, name) for name in (SCORES, LISTS)]
        if None in files:
            raise MissingFileError(
                f"{path.parent.parent}: no {part}/{SCORES} or {part}/{LISTS}; both are needed for each part of LIVE-MD"
            )
        parts.append(_part(*files, f"{part}/{images}"))
    return pd.concat(parts, ignore_index=True)


def _part(scores: Path, lists: Path, folder: str) -> pd.DataFrame:
    dmos, differences = read_mat(scores, "DMOSscores", "dist_diffscores")
    names = np.ravel(*read_mat(lists, "distimgs", texts=True)).tolist()
    images = len(names)
    if dmos.size != images:
        raise UserError(f"{scores} has {dmos.size} scores, but {lists} has {images} images")
    if differences.ndim != 2 or images not in differences.shape or min(differences.shape) < 2:
        raise UserError(
            f"{scores}: dist_diffscores is {differences.shape}, expected subjects x {images} images or the transpose"
        )
    by_image = (differences if len(differences) == images else differences.T).astype(np.float64)  # (N, subjects)
    sos = np.nanstd(by_image, axis=1, ddof=1)
    index = pd.RangeIndex(1, images + 1, name="entry")
    values = numbers(pd.DataFrame({"mos": dmos.ravel(), "sos": sos}, index=index), ["mos", "sos"], scores)
    absent = np.isnan(by_image).sum(axis=1)
    notes = [f"{count} of {by_image.shape[1]} subjects have no score" if count else "" for count in absent]
    return with_source(values.assign(name=[f"{folder}/{file_name(name)}" for name in names], note=notes), scores)


def _name(path: str) -> str:
    """`part1/blurjpeg/x.bmp` or `LIVE_MD/To_Release/Part_1/blurjpeg/x.bmp` -> `Part 1/blurjpeg/x.bmp`."""
    name = file_name(path)
    place = next((f"{part}/{folder}" for part, folder in FOLDERS.items() if f"/{folder}/" in path), None)
    return f"{place}/{name}" if place and name != path else path


def _renamed_parts(part: str, below: str = "") -> Layout:
    """Return a layout with another spelling of the folders `Part 1` and `Part 2`."""
    return lambda name: below + name.replace("Part ", part, 1)


LIVEMD = Reader(
    title="LIVE-MD",
    scale=RatingScale(low=0, high=100, bin_centers=(10, 30, 50, 70, 90), higher_is_better=False),
    sos_a=0.1322,
    label_files={
        f"To_Release/Part 1/{SCORES}": _scores,
        f"Part 1/{SCORES}": _scores,
        "LIVEMDhist_5.txt": release_parser(_name),
        "LIVE_MD.txt": parser(LIST_COLUMNS, _name),
    },
    layouts=(
        under("To_Release"),
        under(""),
        _renamed_parts("Part_", "To_Release/"),
        _renamed_parts("Part_"),
        _renamed_parts("part"),
    ),
    reference_from_name=lambda name: name.rpartition("/")[2].partition("_")[0],  # .../cows_blur1_jpeg2.bmp -> cows
)
