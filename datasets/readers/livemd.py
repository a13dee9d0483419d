"""LIVE-MD: 15 scenes in 450 versions with two distortions; DMOS 0..100, lower is better.

Source: Jayaraman, Mittal, Moorthy, Bovik, Objective Quality Assessment of Multiply Distorted Images, Asilomar 2012.
"""

from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd

from datasets.readers.assembly import Format, file_name, list_form, release_form, with_source
from datasets.readers.folder import Folder, Layout, under
from datasets.readers.tables import numbers, read_mat, strings_of
from utils.errors import MissingFileError, UserError

FOLDERS = {"Part 1": "blurjpeg", "Part 2": "blurnoise"}
SCORES, LISTS = "Scores.mat", "Imagelists.mat"  # in each part


def _scores(_path: Path, folder: Folder) -> pd.DataFrame:
    """DMOS and SOS (ddof 1) of both parts."""
    parts = []
    for place, images in FOLDERS.items():
        files = {name: folder.find(f"{place}/{name}", f"To_Release/{place}/{name}") for name in (SCORES, LISTS)}
        for name, path in files.items():
            if path is None:
                raise MissingFileError(f"no {place}/{name} in {folder.root}; LIVE-MD has {SCORES} and {LISTS} twice")
        parts.append(_part(files[SCORES], files[LISTS], f"{place}/{images}"))
    return pd.concat(parts, ignore_index=True)


def _part(scores: Path, lists: Path, folder: str) -> pd.DataFrame:
    dmos, differences = read_mat(scores, "DMOSscores", "dist_diffscores")
    names = strings_of(*read_mat(lists, "distimgs"))
    dmos = np.ravel(dmos)
    if len(dmos) != len(names):
        raise UserError(f"{scores}: {len(dmos)} scores, but {len(names)} images in {lists}")
    table = pd.DataFrame({"mos": dmos, "sos": _spread(differences, len(names), scores)})
    table.index = pd.RangeIndex(1, len(names) + 1, name="entry")
    values = numbers(table, ["mos", "sos"], scores)
    return with_source(values.assign(name=[f"{folder}/{PurePosixPath(name).name}" for name in names]), scores)


def _spread(differences: np.ndarray, images: int, path: Path) -> np.ndarray:
    """Standard deviation (N,) over subjects of their difference scores, subjects in either direction."""
    if differences.ndim != 2 or images not in differences.shape or min(differences.shape) < 2:
        raise UserError(f"{path}: dist_diffscores is {differences.shape}, not scores of subjects for {images} images")
    by_image = differences if differences.shape[0] == images else differences.T
    return np.nanstd(np.asarray(by_image, dtype=np.float64), axis=1, ddof=1)


def _name(path: str) -> str:
    """`part1/blurjpeg/x.bmp` or `LIVE_MD/To_Release/Part_1/blurjpeg/x.bmp` -> `Part 1/blurjpeg/x.bmp`."""
    name = file_name(path)
    place = next((f"{part}/{folder}" for part, folder in FOLDERS.items() if f"/{folder}/" in path), None)
    return f"{place}/{name}" if place and name != path else path


def _spelt(part: str, below: str = "") -> Layout:
    """A layout whose folders of the parts are spelt in another way."""
    return lambda name: below + name.replace("Part ", part, 1)


def _reference(name: str) -> str:
    """`Part 1/blurjpeg/cows_blur1_jpeg2.bmp` -> `cows`."""
    return name.rpartition("/")[2].partition("_")[0]


LIVEMD = Format(
    title="LIVE-MD",
    forms={
        f"To_Release/Part 1/{SCORES}": _scores,
        f"Part 1/{SCORES}": _scores,
        "LIVEMDhist_5.txt": release_form(_name),
        "LIVE_MD.txt": list_form(_name),
    },
    layouts=(under("To_Release"), under(""), _spelt("Part_", "To_Release/"), _spelt("Part_"), _spelt("part")),
    reference_of=_reference,
)
