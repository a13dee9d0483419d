"""KonIQ-10k: both official CSV forms and the release's text form.

Source: Hosu, Lin, Sziranyi, Saupe, KonIQ-10k, IEEE TIP 2020.
"""

from pathlib import Path, PurePath

import numpy as np
import pandas as pd

from datasets.labels import Rating
from datasets.readers.tables import find_file, numbers, read_table, require_columns
from utils.errors import UserError

SCORES = "koniq10k_scores_and_distributions.csv"  # c1..c5 are votes, MOS is 1..5
SETS = "koniq10k_distributions_sets.csv"  # c1..c5 are fractions, MOS is a z-score (3.9..88.4), and there is `set`
RELEASE = "koniq10k_scores_and_distributions.txt"  # of RichIQA: tabs, no header, votes
IMAGE_FOLDERS = (
    "1024x768",
    "koniq10k_1024x768/1024x768",
    "koniq10k_1024x768",
    "512x384",
    "koniq10k_512x384/512x384",
    "koniq10k_512x384",
    "images",
    "",
)
FOLDER_SAMPLE = 20  # images looked for in each folder
VOTES = ["c1", "c2", "c3", "c4", "c5"]
RELEASE_COLUMNS = ["image_name", *VOTES, "c_total", "MOS", "SD", "MOS_zscore"]
FRACTION_TOLERANCE = 1e-6  # the sum of the fractions of a row
TOTAL_TOLERANCE = 0.5  # votes against their stated total


def read(root: Path, image_folders: tuple[str, ...] = IMAGE_FOLDERS) -> list[Rating]:
    """What the label file says; MOS on 1..5 in every form.

    The votes file is preferred. The sets file beside it, or alone, gives the official training, validation, test parts.

    Raises:
        UserError: No label file, or a row that does not parse.
    """
    path = find_file(root, (SCORES, SETS, RELEASE), "KonIQ-10k")
    table = read_table(path, RELEASE_COLUMNS, "\t") if path.name == RELEASE else read_table(path)
    require_columns(table, ["image_name", *VOTES, "c_total", "SD"], path)
    values = numbers(table, [*VOTES, "c_total", "SD"], path)
    _check_votes(values, path)
    counts = values[VOTES].to_numpy()
    mos = counts @ np.arange(1, 6) / counts.sum(1)
    folder = _image_folder(root, image_folders, table["image_name"].head(FOLDER_SAMPLE).tolist())
    parts = _official_parts(root, table)
    return [
        Rating(
            image=(folder / name).as_posix(),
            mos=float(mean),
            sos=float(sd),
            counts=tuple(votes.tolist()),
            split=parts.get(name),
            source=f"{path}, line {line}",
        )
        for line, name, mean, sd, votes in zip(table.index, table["image_name"], mos, values["SD"], counts, strict=True)
    ]


def _image_folder(root: Path, folders: tuple[str, ...], names: list[str]) -> PurePath:
    """The folder, relative to root, that holds most of a sample of the images; the first where none holds any."""
    return PurePath(max(folders, key=lambda folder: sum((root / folder / name).is_file() for name in names)))


def _check_votes(values: pd.DataFrame, path: Path) -> None:
    """Votes must add up to the stated total, fractions to 1."""
    total = values[VOTES].sum(axis=1)
    votes = (total - values["c_total"]).abs() < TOTAL_TOLERANCE
    fractions = (total - 1).abs() < FRACTION_TOLERANCE
    bad = ~(votes | fractions) | (values[VOTES] < 0).any(axis=1)
    for line, row in values[bad].iterrows():
        raise UserError(
            f"{path}, line {line}: c1..c5 are {row[VOTES].tolist()}; they must be votes that add up to c_total "
            f"({row['c_total']:g}) or fractions that add up to 1, none of them negative"
        )


def _official_parts(root: Path, table: pd.DataFrame) -> dict[str, str]:
    if "set" not in table.columns:
        path = root / SETS
        if not path.is_file():
            return {}
        table = read_table(path)
        require_columns(table, ["image_name", "set"], path)
    return {
        name: part.replace("training", "train") for name, part in zip(table["image_name"], table["set"], strict=True)
    }
