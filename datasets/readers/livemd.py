"""Reader of LIVE-MD: 15 scenes in 450 versions with two distortions; DMOS 0..100, lower is better.

Source: Jayaraman, Mittal, Moorthy, Bovik, Objective Quality Assessment of Multiply Distorted Images, Asilomar 2012.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from datasets.readers.assembly import Reader, file_name, list_parser, release_parser, sibling, with_source
from datasets.readers.folder import Folder, Layout, under
from datasets.readers.tables import cell_strings, numbers, read_mat
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
    names = cell_strings(*read_mat(lists, "distimgs"))
    dmos = np.ravel(dmos)
    if len(dmos) != len(names):
        raise UserError(f"{scores} has {len(dmos)} scores, but {lists} has {len(names)} images")
    by_image = _by_image(differences, len(names), scores)
    sos = np.nanstd(by_image, axis=1, ddof=1)
    table = pd.DataFrame({"mos": dmos, "sos": sos}, index=pd.RangeIndex(1, len(names) + 1, name="entry"))
    values = numbers(table, ["mos", "sos"], scores)
    absent = np.isnan(by_image).sum(axis=1)
    notes = [f"{count} of {by_image.shape[1]} subjects have no score" if count else "" for count in absent]
    named = [f"{folder}/{file_name(name)}" for name in names]
    return with_source(values.assign(name=named, note=notes), scores)


def _by_image(differences: np.ndarray, images: int, path: Path) -> np.ndarray:
    """Return difference scores (N, subjects); the file may hold them transposed."""
    if differences.ndim != 2 or images not in differences.shape or min(differences.shape) < 2:
        raise UserError(
            f"{path}: dist_diffscores is {differences.shape}, expected subjects x {images} images or the transpose"
        )
    return np.asarray(differences if differences.shape[0] == images else differences.T, dtype=np.float64)


def _name(path: str) -> str:
    """`part1/blurjpeg/x.bmp` or `LIVE_MD/To_Release/Part_1/blurjpeg/x.bmp` -> `Part 1/blurjpeg/x.bmp`."""
    name = file_name(path)
    place = next((f"{part}/{folder}" for part, folder in FOLDERS.items() if f"/{folder}/" in path), None)
    return f"{place}/{name}" if place and name != path else path


def _scene(name: str) -> str:
    """`Part 1/blurjpeg/cows_blur1_jpeg2.bmp` -> `cows`."""
    return name.rpartition("/")[2].partition("_")[0]


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
        "LIVE_MD.txt": list_parser(_name),
    },
    layouts=(
        under("To_Release"),
        under(""),
        _renamed_parts("Part_", "To_Release/"),
        _renamed_parts("Part_"),
        _renamed_parts("part"),
    ),
    reference_from_name=_scene,
)
