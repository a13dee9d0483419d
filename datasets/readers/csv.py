"""Reader of any database as CSV: image, mos, and optionally sos, votes c1..cK or p1..pK, split, reference."""

import re
import warnings
from pathlib import Path

import pandas as pd

from datasets.ratings import PARTS, Rating
from datasets.readers.assembly import Reader, to_ratings
from datasets.readers.folder import Folder, under
from datasets.readers.tables import Columns, numbers, pick, read_table, refuse
from utils.errors import MissingFileError, UserError

REQUIRED: Columns = {"name": ("image",), "mos": ("mos",)}
OPTIONAL: Columns = {name: (name,) for name in ("sos", "split", "reference")}
FRACTION_TOLERANCE = 1e-3  # printed fractions are rounded


class CsvReader(Reader):
    """Reader of a CSV table with a header."""

    def read(self, root: Path, labels: str | None = None) -> list[Rating]:
        """Return the ratings in the file. `image` is a path relative to root.

        Args:
            root: Folder of the images.
            labels: Path of the file, absolute or relative to root; None for the only .csv file in root.

        Raises:
            MissingFileError: The file does not exist, or there are several.
            UserError: A column is missing, or a row cannot be parsed.
        """
        folder = Folder(root, self.title)
        path = _label_file(root, labels)
        table = read_table(path)
        table.columns = table.columns.str.lower()
        ratings = pick(table, path, REQUIRED, OPTIONAL)
        votes = sorted((c for c in table.columns if re.fullmatch(r"[cp]\d+", c)), key=lambda c: (c[0], int(c[1:])))
        if votes and votes != [f"{votes[0][0]}{k}" for k in range(1, len(votes) + 1)]:
            raise UserError(f"{path}: columns of votes must be c1..cK or p1..pK without a gap, got {', '.join(votes)}")
        unused = sorted(set(table.columns) - {"image", "mos", *OPTIONAL, *votes})
        if unused:
            warnings.warn(f"{path}: unused columns: {', '.join(unused)}", stacklevel=2)
        if "split" in ratings:
            part = ratings["split"]
            refuse(~part.isin(PARTS), path, lambda line: f"split is {part[line]!r}; allowed: {', '.join(PARTS)}")
        if "reference" in ratings:
            refuse(ratings["reference"] == "", path, lambda _: "reference is empty")
        scores = [column for column in ("mos", "sos") if column in ratings]
        ratings[scores] = numbers(ratings, scores, path)
        if votes:
            ratings["counts"] = _votes(numbers(table, votes, path), path)
        return to_ratings(ratings, path, folder, self.layouts, near=None)


CSV = CsvReader(title="the database", scale=None, label_files={}, layouts=(under(""),))


def _votes(votes: pd.DataFrame, path: Path) -> list[tuple[float, ...]]:
    """Return votes or fractions by row; they must not be negative or all zero, and fractions must add up to 1."""
    total = votes.sum(axis=1)
    fractions = votes.columns.str.startswith("p").any()
    bad = (votes < 0).any(axis=1) | ((total - 1).abs() > FRACTION_TOLERANCE if fractions else total <= 0)
    rule = "none may be negative, and they must add up to 1" if fractions else "none may be negative, and not all zero"
    names = ", ".join(votes.columns)
    refuse(bad, path, lambda line: f"{names} are {votes.loc[line].tolist()}; {rule}")
    return [tuple(row) for row in votes.to_numpy().tolist()]


def _label_file(root: Path, labels: str | None) -> Path:
    if labels is not None:
        if not (root / labels).is_file():
            raise MissingFileError(
                f"dataset.labels: {root / labels} does not exist; give a path relative to dataset.root"
            )
        return root / labels
    found = sorted(path for path in root.iterdir() if path.suffix.lower() == ".csv")
    if len(found) != 1:
        names = ", ".join(path.name for path in found) or "none"
        raise MissingFileError(f"dataset.labels: give the name of the label file in {root}; its .csv files: {names}")
    return found[0]
