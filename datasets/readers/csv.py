"""Reader of any database as a text table: image, mos, and optionally sos, votes c1..cK or p1..pK, split, reference."""

import re
import warnings
from pathlib import Path

import pandas as pd

from datasets.ratings import PARTS, Rating, part_named
from datasets.readers.assembly import Reader, to_ratings
from datasets.readers.folder import Folder, under
from datasets.readers.tables import IMAGE_TITLES, Columns, numbers, pick, read_table, refuse
from datasets.scale import ROUNDING
from utils.delimited import plain_title
from utils.errors import MissingFileError, UserError

REQUIRED: Columns = {"name": IMAGE_TITLES}
MOS: Columns = {"mos": ("mos", "mean opinion score", "mean score", "score")}
DEVIATIONS = ("sos", "sd", "std", "stdev", "std dev", "stddev", "standard deviation")
ORDERS = ("{}", "mos {}", "{} mos", "score {}", "{} score", "dmos {}", "{} of mos")
SOS: Columns = {"sos": tuple(order.format(title) for order in ORDERS for title in DEVIATIONS)}
OPTIONAL: Columns = {"split": ("split",), "reference": ("reference",)}
VOTES = re.compile(r"([cp]) ?(\d+)")
FRACTION_TOLERANCE = 1e-3  # printed fractions are rounded


class CsvReader(Reader):
    """Reader of a text table with a header."""

    def read(self, root: Path, labels: str | None = None) -> list[Rating]:
        """Return the ratings in the file. `image` is a path relative to root.

        Args:
            root: Folder of the images.
            labels: Path of the file, absolute or relative to root; None for the only .csv file in root, or
                else the only .tsv file.

        Raises:
            MissingFileError: The file does not exist, or there are several.
            UserError: A column is missing, or a row cannot be parsed.
        """
        folder = Folder(root, self.title)
        path = _label_file(root, labels)
        table = read_table(path)
        votes = _vote_columns(table, path)
        required = REQUIRED | ({} if votes else MOS)
        ratings = pick(table, path, required, SOS | OPTIONAL | (MOS if votes else {}))
        unused = [title for title in table.columns if title not in (*ratings.attrs["titles"], *votes.values())]
        if unused:
            warnings.warn(f"{path}: unused columns: {', '.join(sorted(unused))}", stacklevel=2)
        if "split" in ratings:
            part, ratings["split"] = ratings["split"], ratings["split"].map(part_named)
            unknown = ratings["split"].isna() & (part != "")
            refuse(unknown, path, lambda line: f"split is {part[line]!r}; allowed: {', '.join(PARTS)}")
        if "reference" in ratings:
            refuse(ratings["reference"] == "", path, lambda _: "reference is empty")
        ratings["mos"] = ratings.get("mos", "")
        for column, blank in (("mos", bool(votes)), ("sos", True)):
            if column in ratings:
                ratings[column] = numbers(ratings, [column], path, blank)[column]
        if votes:
            counts = table.rename(columns={title: name for name, title in votes.items()})
            ratings["counts"] = _votes(numbers(counts, list(votes), path), path)
        return to_ratings(ratings, path, folder, self.layouts, near=None)


CSV = CsvReader(title="the database", scale=None, label_files={}, layouts=(under(""),))


def _vote_columns(table: pd.DataFrame, path: Path) -> dict[str, str]:
    """Return the titles of the columns of votes by `c1`..`cK` or `p1`..`pK`, in this order."""
    matches = {title: match for title in table.columns if (match := VOTES.fullmatch(plain_title(title)))}
    titles = {f"{match[1]}{int(match[2])}": title for title, match in matches.items()}
    votes = sorted(titles, key=lambda name: (name[0], int(name[1:])))
    if votes and votes != [f"{votes[0][0]}{k}" for k in range(1, len(votes) + 1)]:
        raise UserError(f"{path}: columns of votes must be c1..cK or p1..pK without a gap, got {', '.join(votes)}")
    return {name: titles[name] for name in votes}


def _votes(votes: pd.DataFrame, path: Path) -> list[tuple[float, ...]]:
    """Return votes or fractions by row; they must not be negative or all zero, and fractions must add up to 1."""
    total = votes.sum(axis=1)
    fractions = votes.columns.str.startswith("p").any()
    votes = votes.mask((votes < 0) & (votes >= -ROUNDING), 0.0)
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
    tables = [path for path in sorted(root.iterdir()) if not path.name.startswith(".")]
    by_suffix = ([path for path in tables if path.suffix.lower() == suffix] for suffix in (".csv", ".tsv"))
    found = next(filter(None, by_suffix), [])
    if len(found) != 1:
        names = ", ".join(path.name for path in found) or "none"
        raise MissingFileError(f"dataset.labels: give the name of the label file in {root}; its .csv files: {names}")
    return found[0]
