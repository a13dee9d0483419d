"""KonIQ-10k: both official CSV forms and the release's text form.

Source: Hosu, Lin, Sziranyi, Saupe, KonIQ-10k, IEEE TIP 2020.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from datasets.readers.assembly import Format
from datasets.readers.folder import Folder, under
from datasets.readers.tables import Columns, numbers, pick, read_table
from utils.errors import UserError

SCORES = "koniq10k_scores_and_distributions.csv"  # c1..c5 are votes, MOS is 1..5
SETS = "koniq10k_distributions_sets.csv"  # c1..c5 are fractions, MOS is a z-score (3.9..88.4), and there is `set`
RELEASE = "koniq10k_scores_and_distributions.txt"  # of RichIQA: tabs, no header, votes
VOTES = ["c1", "c2", "c3", "c4", "c5"]
COLUMNS: Columns = {name: (name,) for name in ("image_name", *VOTES, "c_total", "SD")}
RELEASE_COLUMNS = ["image_name", *VOTES, "c_total", "MOS", "SD", "MOS_zscore"]
PARTS = {"training": "train", "validation": "validation", "test": "test"}
FRACTION_TOLERANCE = 1e-6  # the sum of the fractions of a row
TOTAL_TOLERANCE = 0.5  # votes against their stated total


def _votes(path: Path, folder: Folder) -> pd.DataFrame:
    """Votes of every image, and MOS on 1..5 from them, in each of the forms."""
    whole = read_table(path, RELEASE_COLUMNS, "\t") if path.name == RELEASE else read_table(path)
    table = pick(whole, path, COLUMNS)
    values = numbers(table, [*VOTES, "c_total", "SD"], path)
    _check_votes(values, path)
    counts = values[VOTES].to_numpy()
    if (counts.sum(1) < 1 + FRACTION_TOLERANCE).all():
        counts = np.rint(counts * values[["c_total"]].to_numpy())
    ratings = pd.DataFrame({"name": table["image_name"], "mos": counts @ np.arange(1, 6) / counts.sum(1)})
    ratings["sos"] = values["SD"]
    ratings["counts"] = [tuple(row) for row in counts.tolist()]
    parts = _official_parts(whole, path, folder)
    return ratings.assign(split=[parts.get(name) for name in table["image_name"]])


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


def _official_parts(table: pd.DataFrame, path: Path, folder: Folder) -> dict[str, str]:
    if "set" not in table.columns:
        path = folder.find(SETS)
        if path is None:
            return {}
        table = read_table(path)
    sets = pick(table, path, {"image_name": ("image_name",), "set": ("set",)})
    for line, part in sets["set"][~sets["set"].isin(PARTS)].items():
        raise UserError(f"{path}, line {line}: set is {part!r}; allowed: {', '.join(PARTS)}")
    return dict(zip(sets["image_name"], sets["set"].map(PARTS), strict=True))


KONIQ10K = Format(
    title="KonIQ-10k",
    forms={SCORES: _votes, SETS: _votes, RELEASE: _votes},
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
