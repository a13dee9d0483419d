"""Tables of docs/DATABASES.md, which compare labels from official annotations with the release's label files."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from datasets.label_checks import MISSING, find_problems
from datasets.labels import LabelRecipe, dos_gaussian, gaussian_at_centers, sos_hypothesis
from datasets.max_entropy import dos_max_entropy
from datasets.noise_ceiling import CEILING, collect_votes, noise_ceiling
from datasets.ratings import PARTS, Rating, Record, arrays
from datasets.readers import READERS, label
from datasets.readers.assembly import BINS, RELEASE_COLUMNS, Reader
from datasets.readers.folder import Folder
from datasets.readers.tables import numbers, read_table
from utils.metrics import metric_title
from utils.tables import number, to_markdown

Array = np.ndarray
Row = list[str]

DATABASES = {name: reader for name, reader in READERS.items() if name not in ("demo", "csv")}
HIGHEST_R2 = 0.9999  # a higher R2 means that the SOS was computed from the hypothesis, not measured


@dataclass(frozen=True)
class LabelFile:
    """One label file of a database."""

    name: str  # of the database
    path: Path
    ratings: list[Rating]

    @property
    def reader(self) -> Reader:
        return DATABASES[self.name]

    @cached_property
    def labels(self) -> tuple[list[Record], LabelRecipe]:
        """Records made from the file by the release's recipe, and the recipe."""
        return label(self.name, self.ratings, self.reader.scale)


def label_files_in(name: str, root: Path) -> list[LabelFile]:
    """Return every label file of a database in a folder."""
    if not root.is_dir():
        return []
    reader = DATABASES[name]
    folder = Folder(root, reader.title)
    paths = dict.fromkeys(folder.find(file) for file in reader.label_files)
    return [LabelFile(name, path, reader.read(root, str(path.relative_to(root)))) for path in paths if path is not None]


def file_rows(official: list[LabelFile], _release: list[LabelFile]) -> Iterator[Row]:
    for file in official:
        ratings = file.ratings
        mos = np.array([rating.mos for rating in ratings])
        problems = [problem for problem in find_problems(ratings, file.reader.scale) if problem.kind != MISSING]
        parts = [sum(rating.split == part for rating in ratings) for part in PARTS]
        yield [
            file.reader.title,
            f"`{file.path.name}`",
            f"{len(ratings)}",
            f"{mos.min():.4g} .. {mos.max():.4g}",
            "votes" if ratings[0].voters else "SOS" if ratings[0].sos is not None else "MOS alone",
            " / ".join(map(str, parts)) if any(parts) else "",
            str(len(problems)),
        ]


def agreement_rows(official: list[LabelFile], release: list[LabelFile]) -> Iterator[Row]:
    for theirs in release:
        for ours in official:
            yield [ours.reader.title, f"`{ours.path.name}`", *agreement(ours, theirs)]


def agreement(ours: LabelFile, theirs: LabelFile) -> Row:
    """Return the number of common images and the largest differences in MOS, SOS and DOS, as cells.

    SOS and DOS are left empty if our file has none.
    """
    scale = ours.reader.scale
    known = {rating.name: row for row, rating in enumerate(theirs.ratings)}
    records = [record for record in ours.labels[0] if record.name in known]
    if not records:
        return ["0", "", "", ""]
    rows = [known[record.name] for record in records]
    common = [theirs.ratings[row] for row in rows]
    mos, sos, dos = arrays(records, "mos", "sos", "dos").values()
    their_mos, their_sos = arrays(common, "mos", "sos").values()
    cells = [f"{len(records)}", f"{largest(mos - their_mos):.1e}"]
    if ours.ratings[0].sos is None and ours.reader.release_sos != "hypothesis":
        return [*cells, "no SOS in the file", ""]
    if common[0].counts is not None:
        off = dos - np.array([np.array(rating.counts) / sum(rating.counts) for rating in common])
    else:
        off = gaussian_at_centers(mos, sos, scale) - release_dos(theirs.path)[rows]
    return [*cells, f"{largest(sos - their_sos):.1e}", f"{largest(off):.1e}"]


def largest(differences: Array) -> float:
    """Return the largest absolute value, or 0 for an empty array."""
    return float(np.abs(differences).max(initial=0))


def release_dos(path: Path) -> Array:
    """Return the DOS (N, K) stated in a label file of the release."""
    table = read_table(path, RELEASE_COLUMNS, separator="\t", quote="'")
    return numbers(table, BINS, path).to_numpy()


def recipe_rows(official: list[LabelFile], release: list[LabelFile]) -> Iterator[Row]:
    for file in best_file(official, release):
        scale, records = file.reader.scale, file.labels[0]
        mos, sos = arrays(records, "mos", "sos").values()
        gaussian = dos_gaussian(mos, sos, scale)
        off = np.abs(scale.mean(gaussian) - mos)
        flattest, replaced = dos_max_entropy(mos, sos, scale)
        left = np.abs(scale.mean(flattest) - mos)
        yield [
            file.reader.title,
            f"{len(records)}",
            f"{off.mean():.3g}, {off.max():.3g}",
            f"{np.abs(scale.std(gaussian) - sos).mean():.3g}",
            f"{replaced.sum()}",
            f"{largest(left[~replaced]):.0e}",
            f"{largest((scale.std(flattest) - sos)[~replaced]):.0e}",
            f"{left.mean():.3g}, {left.max():.3g}",
        ]


def hypothesis_rows(official: list[LabelFile], release: list[LabelFile]) -> Iterator[Row]:
    measured = [file for file in (*official, *release) if all(rating.sos is not None for rating in file.ratings)]
    for file in measured[:1]:
        a, r2 = sos_hypothesis(**arrays(file.ratings, "mos", "sos"), scale=file.reader.scale)
        if r2 <= HIGHEST_R2:
            yield [file.reader.title, f"{len(file.ratings)}", f"{a:.4f}", f"{number(r2, 2)}"]


def ceiling_rows(official: list[LabelFile], release: list[LabelFile]) -> Iterator[Row]:
    for file in best_file(official, release):
        votes = collect_votes(file.ratings, file.reader.scale)
        if votes is not None:
            ceiling = noise_ceiling(votes, file.reader.scale, file.labels[1])
            values = [f"{ceiling[key]:.3f} ({ceiling[f'split_half_{key}']:.3f})" for key in CEILING]
            yield [file.reader.title, f"{len(file.ratings)}", *values]


def best_file(official: list[LabelFile], release: list[LabelFile]) -> list[LabelFile]:
    """Return the first file with SOS, else the first one, official files first; an empty list if there is none."""
    return sorted([*official, *release], key=lambda file: file.ratings[0].sos is None)[:1]


TABLES: dict[str, tuple[Row, Callable[[list[LabelFile], list[LabelFile]], Iterator[Row]]]] = {
    "files": (
        ["database", "label file", "rows", "MOS", "it has", "train / validation / test", "odd rows"],
        file_rows,
    ),
    "agreement": (
        ["database", "label file", "common images", "MOS", "SOS", "DOS before renormalisation"],
        agreement_rows,
    ),
    "recipes": (
        [
            *("database", "images", "gaussian: mean of the DOS off the MOS, average and largest"),
            *("gaussian: SOS of the DOS off the SOS", "max_entropy: infeasible rows", "MOS off in the others"),
            *("SOS off in the others", "max_entropy, all rows: mean off the MOS"),
        ],
        recipe_rows,
    ),
    "hypothesis": (["database", "images", "a", "R2"], hypothesis_rows),
    "ceiling": (["database", "images", *map(metric_title, CEILING)], ceiling_rows),
}


def comparison_tables(annotations: Path, release: Path) -> dict[str, str]:
    """Return every table as Markdown, by name."""
    found = [(label_files_in(name, annotations / name), label_files_in(name, release)) for name in DATABASES]
    return {
        name: to_markdown(pd.DataFrame([row for files in found for row in make(*files)], columns=header))
        for name, (header, make) in TABLES.items()
    }
