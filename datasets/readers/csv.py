"""Any database as a CSV with a header: image, mos, optional sos, votes c1..cK or p1..pK, split, reference."""

import re
import warnings
from pathlib import Path

import pandas as pd

from datasets.labels import Rating
from datasets.readers.tables import find_file, numbers, read_table, require_columns
from utils.errors import MissingFileError, UserError

REQUIRED = ["image", "mos"]
OPTIONAL = ["sos", "split", "reference"]
PARTS = ("train", "validation", "test")
FRACTION_TOLERANCE = 1e-3  # printed fractions are rounded


def read(root: Path, labels: str | None = None) -> list[Rating]:
    """What the file says. `image` is a path relative to root.

    Args:
        root: Folder of the images.
        labels: The file, relative to root; None for the only .csv in root.

    Raises:
        UserError: No such file, unknown columns, or a row that does not parse.
    """
    path = _label_file(root, labels)
    table = read_table(path)
    table.columns = table.columns.str.lower()
    require_columns(table, REQUIRED, path)
    votes = sorted((c for c in table.columns if re.fullmatch(r"[cp]\d+", c)), key=lambda c: (c[0], int(c[1:])))
    if votes and votes != [f"{votes[0][0]}{k}" for k in range(1, len(votes) + 1)]:
        raise UserError(f"{path}: votes must be the columns c1..cK or p1..pK without a gap, got {', '.join(votes)}")
    unused = sorted(set(table.columns) - {*REQUIRED, *OPTIONAL, *votes})
    if unused:
        warnings.warn(f"{path}: columns that are not used: {', '.join(unused)}", stacklevel=2)
    has = {column: column in table.columns for column in OPTIONAL}
    values = numbers(table, ["mos", *(["sos"] if has["sos"] else []), *votes], path)
    counts = values[votes].to_numpy()
    if has["split"] and not table["split"].isin(PARTS).all():
        line = table.index[~table["split"].isin(PARTS)][0]
        raise UserError(f"{path}, line {line}: split is {table.loc[line, 'split']!r}; allowed: {', '.join(PARTS)}")
    _check_votes(values[votes], path)
    for column in ("image", *(["reference"] if has["reference"] else [])):
        for line in table.index[table[column] == ""]:
            raise UserError(f"{path}, line {line}: {column} is empty")
    return [
        Rating(
            image=table.loc[line, "image"],
            mos=float(values.loc[line, "mos"]),
            sos=float(values.loc[line, "sos"]) if has["sos"] else None,
            counts=tuple(counts[row].tolist()) if votes else None,
            reference=table.loc[line, "reference"] if has["reference"] else None,
            split=table.loc[line, "split"] if has["split"] else None,
            source=f"{path}, line {line}",
        )
        for row, line in enumerate(table.index)
    ]


def _check_votes(votes: pd.DataFrame, path: Path) -> None:
    """Votes must not be negative and not all be zero; fractions must add up to 1."""
    total = votes.sum(axis=1)
    fractions = votes.columns.str.startswith("p").any()
    bad = (votes < 0).any(axis=1) | ((total - 1).abs() > FRACTION_TOLERANCE if fractions else total <= 0)
    for line, row in votes[bad & (len(votes.columns) > 0)].iterrows():
        rule = "none negative, adding up to 1" if fractions else "none negative, not all zero"
        raise UserError(f"{path}, line {line}: {', '.join(votes.columns)} are {row.tolist()}; they must be {rule}")


def _label_file(root: Path, labels: str | None) -> Path:
    if labels is not None:
        return find_file(root, (labels,), "CSV database")
    found = sorted(root.glob("*.csv"))
    if len(found) != 1:
        names = ", ".join(path.name for path in found) or "none"
        raise MissingFileError(f"dataset.labels: name the label file in {root}; .csv files there: {names}")
    return found[0]
