"""The tables of docs/DATABASES.md: labels made of official annotation files beside the label files of the release."""

from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd

from datasets.label_checks import MISSING, find_problems
from datasets.labels import dos_gaussian, gaussian_at_centers, sos_hypothesis
from datasets.max_entropy import dos_max_entropy
from datasets.noise_ceiling import CEILING, noise_ceiling, votes_of
from datasets.ratings import PARTS, Rating, arrays
from datasets.readers import READERS, label
from datasets.readers.assembly import BINS, RELEASE_COLUMNS
from datasets.readers.folder import Folder
from datasets.readers.tables import numbers, read_table
from utils.tables import number, to_markdown

Array = np.ndarray
Row = list[str]

DATABASES = {name: reader for name, reader in READERS.items() if name not in ("demo", "csv")}
ITSELF = 0.9999  # R2 of an SOS that was not measured but made by the hypothesis


@cache
def files_of(name: str, root: Path) -> list[tuple[str, list[Rating]]]:
    """Every label file of a database in a folder, with what it says; read once for all tables."""
    if not root.is_dir():
        return []
    folder = Folder(root, DATABASES[name].title)
    paths = dict.fromkeys(folder.find(form) for form in DATABASES[name].forms)
    return [(path.name, DATABASES[name].read(root, str(path.relative_to(root)))) for path in paths if path is not None]


def rows_of_files(annotations: Path, _release: Path) -> Iterator[Row]:
    for name, reader in DATABASES.items():
        for file, ratings in files_of(name, annotations / name):
            mos = np.array([rating.mos for rating in ratings])
            problems = [problem for problem in find_problems(ratings, reader.scale) if problem.kind != MISSING]
            parts = {part: sum(rating.split == part for rating in ratings) for part in PARTS}
            yield [
                reader.title,
                f"`{file}`",
                f"{len(ratings)}",
                f"{mos.min():.4g} .. {mos.max():.4g}",
                "votes" if ratings[0].voters else "SOS" if ratings[0].sos is not None else "MOS alone",
                " / ".join(str(count) for count in parts.values()) if any(parts.values()) else "",
                str(len(problems)),
            ]


def rows_of_agreement(annotations: Path, release: Path) -> Iterator[Row]:
    for name, reader in DATABASES.items():
        for _, theirs in files_of(name, release):
            for file, ours in files_of(name, annotations / name):
                yield [reader.title, f"`{file}`", *agreement(name, ours, theirs)]


def agreement(name: str, ours: list[Rating], theirs: list[Rating]) -> Row:
    """Common images, and the largest differences of MOS, SOS and DOS; no SOS and DOS where our file has none."""
    scale = DATABASES[name].scale
    known = {rating.name: row for row, rating in enumerate(theirs)}
    records = [record for record in label(name, ours, scale)[0] if record.name in known]
    if not records:
        return ["0", "", "", ""]
    rows = [known[record.name] for record in records]
    mos, sos, dos = arrays(records, "mos", "sos", "dos")
    their_mos, their_sos = arrays([theirs[row] for row in rows], "mos", "sos")
    counts = [f"{len(records)}", f"{largest(mos - their_mos):.1e}"]
    if ours[0].sos is None and DATABASES[name].release_sos != "hypothesis":
        return [*counts, "no SOS in the file", ""]
    if theirs[0].counts is not None:
        fractions = np.array([np.array(theirs[row].counts) / sum(theirs[row].counts) for row in rows])
        off = dos - fractions
    else:
        off = gaussian_at_centers(mos, sos, scale) - release_dos(theirs)[rows]
    return [*counts, f"{largest(sos - their_sos):.1e}", f"{largest(off):.1e}"]


def largest(differences: Array) -> float:
    """The largest absolute value; 0 of none."""
    return float(np.abs(differences).max(initial=0))


def release_dos(theirs: list[Rating]) -> Array:
    """The DOS (N, K) as it stands in a label file of the release."""
    path = Path(theirs[0].file)
    table = read_table(path, RELEASE_COLUMNS, separator="\t", quote="'")
    return numbers(table, BINS, path).to_numpy()


def rows_of_recipes(annotations: Path, release: Path) -> Iterator[Row]:
    for name, ratings in best_files(annotations, release):
        scale = DATABASES[name].scale
        records = label(name, ratings, scale)[0]
        mos, sos = arrays(records, "mos", "sos")
        gaussian = dos_gaussian(mos, sos, scale)
        off = np.abs(scale.mean(gaussian) - mos)
        flattest, replaced = dos_max_entropy(mos, sos, scale)
        kept = ~replaced
        closed = [
            largest((moment(flattest) - wanted)[kept]) for moment, wanted in ((scale.mean, mos), (scale.std, sos))
        ]
        left = np.abs(scale.mean(flattest) - mos)
        yield [
            DATABASES[name].title,
            f"{len(records)}",
            f"{off.mean():.3g}, {off.max():.3g}",
            f"{np.abs(scale.std(gaussian) - sos).mean():.3g}",
            f"{replaced.sum()}",
            *(f"{error:.0e}" for error in closed),
            f"{left.mean():.3g}, {left.max():.3g}",
        ]


def rows_of_hypothesis(annotations: Path, release: Path) -> Iterator[Row]:
    for name, found in every_file(annotations, release):
        measured = next((ratings for ratings in found if all(rating.sos is not None for rating in ratings)), None)
        if measured is None:
            continue
        mos, sos = arrays(measured, "mos", "sos")
        a, r2 = sos_hypothesis(mos, sos, DATABASES[name].scale)
        if r2 <= ITSELF:
            yield [DATABASES[name].title, f"{len(measured)}", f"{a:.4f}", f"{number(r2, 2)}"]


def rows_of_ceilings(annotations: Path, release: Path) -> Iterator[Row]:
    for name, ratings in best_files(annotations, release):
        scale = DATABASES[name].scale
        votes = votes_of(ratings, scale)
        if votes is not None:
            ceiling = noise_ceiling(votes, scale, label(name, ratings, scale)[1])
            values = [f"{ceiling[key]:.3f} ({ceiling[f'split_half_{key}']:.3f})" for key in CEILING]
            yield [DATABASES[name].title, f"{len(ratings)}", *values]


def best_files(annotations: Path, release: Path) -> Iterator[tuple[str, list[Rating]]]:
    """For each database the file that says most: one with SOS where there is one, else the first."""
    for name, found in every_file(annotations, release):
        yield name, next((ratings for ratings in found if ratings[0].sos is not None), found[0])


def every_file(annotations: Path, release: Path) -> Iterator[tuple[str, list[list[Rating]]]]:
    """What each label file of a database says, the official ones first; databases without a file are left out."""
    for name in DATABASES:
        found = [ratings for root in (annotations / name, release) for _, ratings in files_of(name, root)]
        if found:
            yield name, found


TABLES: dict[str, tuple[Row, Callable[[Path, Path], Iterator[Row]]]] = {
    "files": (
        ["database", "label file", "rows", "MOS", "it has", "train / validation / test", "odd rows"],
        rows_of_files,
    ),
    "agreement": (
        ["database", "label file", "common images", "MOS", "SOS", "DOS before renormalisation"],
        rows_of_agreement,
    ),
    "recipes": (
        [
            *("database", "images", "gaussian: mean of the DOS off the MOS, average and largest"),
            *("gaussian: SOS of the DOS off the SOS", "max_entropy: infeasible rows", "MOS off in the others"),
            *("SOS off in the others", "max_entropy, all rows: mean off the MOS"),
        ],
        rows_of_recipes,
    ),
    "hypothesis": (["database", "images", "a", "R2"], rows_of_hypothesis),
    "ceiling": (["database", "images", *(key.replace("_", " ").upper() for key in CEILING)], rows_of_ceilings),
}


def comparison_tables(annotations: Path, release: Path) -> dict[str, str]:
    """Every table as Markdown, by its name."""
    return {
        name: to_markdown(pd.DataFrame(list(make(annotations, release)), columns=header))
        for name, (header, make) in TABLES.items()
    }
