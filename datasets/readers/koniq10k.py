"""Reader of KonIQ-10k: both official CSV files and the text file of the release.

Source: Hosu, Lin, Sziranyi, Saupe, KonIQ-10k, IEEE TIP 2020.
"""

from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from datasets.readers.assembly import Reader
from datasets.readers.folder import Folder, under
from datasets.readers.tables import Columns, numbers, pick, read_table, refuse
from datasets.scale import RatingScale

SCORES = "koniq10k_scores_and_distributions.csv"  # c1..c5 are votes, MOS is 1..5
SETS = "koniq10k_distributions_sets.csv"  # c1..c5 are fractions, MOS is a z-score (3.9..88.4), and there is `set`
RELEASE = "koniq10k_scores_and_distributions.txt"  # of RichIQA: tabs, no header, votes
VOTES = ["c1", "c2", "c3", "c4", "c5"]
COLUMNS: Columns = {name: (name,) for name in ("image_name", *VOTES, "c_total", "SD")}
RELEASE_COLUMNS = ["image_name", *VOTES, "c_total", "MOS", "SD", "MOS_zscore"]
PARTS = {"training": "train", "validation": "validation", "test": "test"}
FRACTION_TOLERANCE = 1e-6  # on the sum of the fractions of a row
TOTAL_TOLERANCE = 0.5  # between the sum of the votes and the stated total
STATED_TOLERANCE = 0.01  # between the stated MOS and SD, which may be rounded, and those of the votes


def _votes(path: Path, folder: Folder, names: list[str] | None = None, separator: str | None = None) -> pd.DataFrame:
    """Return the votes of every image and the MOS on 1..5 computed from them, for any of the files.

    A row whose stated SD, or stated MOS on 1..5, contradicts the votes gets a note.
    """
    whole = read_table(path, names, separator)
    table = pick(whole, path, COLUMNS)
    values = numbers(table, [*VOTES, "c_total", "SD"], path)
    counts, sd = _whole_votes(values, path), values["SD"]
    total = counts.sum(1)
    mos = counts @ np.arange(1, 6) / total
    deviation = np.sqrt((counts * (np.arange(1, 6) - mos[:, None]) ** 2).sum(1) / np.maximum(total - 1, 1))
    stated = {"SD": (sd.to_numpy(), deviation)}
    if "MOS" in whole.columns and "set" not in whole.columns:  # with `set` it is a z-score
        stated["MOS"] = (numbers(whole, ["MOS"], path, blank=True)["MOS"].to_numpy(), mos)
    notes = [""] * len(mos)
    for name, (said, voted) in stated.items():
        for row in np.flatnonzero(~(np.abs(said - voted) <= STATED_TOLERANCE)):
            notes[row] = f"stated {name} {said[row]:g} contradicts the votes, which give {voted[row]:.4g}"
    parts = _official_parts(whole, path, folder)
    ratings = pd.DataFrame({"name": table["image_name"], "mos": mos, "sos": sd, "note": notes})
    return ratings.assign(counts=list(map(tuple, counts.tolist())), split=ratings["name"].map(parts.get))


def _whole_votes(values: pd.DataFrame, path: Path) -> np.ndarray:
    """Return votes (N, 5), also from fractions; votes must add up to the stated total, fractions to 1."""
    total = values[VOTES].sum(axis=1)
    sums = [(total - values["c_total"]).abs() < TOTAL_TOLERANCE, (total - 1).abs() < FRACTION_TOLERANCE]
    fractions = bool(sums[1].all())
    bad = ~sums[fractions] | (values[VOTES] < 0).any(axis=1) | (values["c_total"] <= 0)
    refuse(
        bad,
        path,
        lambda row: (
            f"c1..c5 are {values.loc[row, VOTES].tolist()}; they must be votes that add up to c_total "
            f"({values.loc[row, 'c_total']:g}), or in all rows fractions that add up to 1, and must not be negative"
        ),
    )
    counts = values[VOTES].to_numpy()
    return np.rint(counts * values[["c_total"]].to_numpy()) if fractions else counts


def _official_parts(table: pd.DataFrame, path: Path, folder: Folder) -> dict[str, str]:
    if "set" not in table.columns:
        path = folder.find(SETS)
        if path is None:
            return {}
        table = read_table(path)
    sets = pick(table, path, {"image_name": ("image_name",), "set": ("set",)})
    names, part = sets["image_name"], sets["set"]
    refuse(~part.isin(PARTS), path, lambda line: f"set is {part[line]!r}; allowed: {', '.join(PARTS)}")
    refuse(names.duplicated(), path, lambda line: f"{names[line]} occurs twice")
    return dict(zip(sets["image_name"], sets["set"].map(PARTS), strict=True))


KONIQ10K = Reader(
    title="KonIQ-10k",
    scale=RatingScale(low=1, high=5, bin_centers=(1, 2, 3, 4, 5)),
    sos_a=0.09,
    label_files={SCORES: _votes, SETS: _votes, RELEASE: partial(_votes, names=RELEASE_COLUMNS, separator="\t")},
    layouts=(
        under("1024x768"),
        under("koniq10k_1024x768/1024x768"),
        under("koniq10k_1024x768"),
        under("512x384"),
        under("koniq10k_512x384/512x384"),
        under("koniq10k_512x384"),
        under("images"),
        under(""),
    ),
)
