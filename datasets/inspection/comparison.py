"""Tables of docs/DATABASES.md, which compare labels from official annotations with the release's label files."""

from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd

from datasets.label_checks import MISSING, find_problems
from datasets.labels import dos_gaussian, gaussian_at_centers, sos_hypothesis
from datasets.max_entropy import dos_max_entropy
from datasets.noise_ceiling import CEILING, collect_votes, noise_ceiling
from datasets.ratings import PARTS, Rating, arrays
from datasets.readers import READERS, label
from datasets.readers.assembly import BINS, RELEASE_COLUMNS
from datasets.readers.folder import Folder
from datasets.readers.tables import numbers, read_table
from utils.tables import number, to_markdown

Array = np.ndarray
Row = list[str]

DATABASES = {name: reader for name, reader in READERS.items() if name not in ("demo", "csv")}
HIGHEST_R2 = 0.9999  # a higher R2 means that the SOS was computed from the hypothesis, not measured


@cache
def label_files_in(name: str, root: Path) -> list[tuple[str, list[Rating]]]:
    """Return name and ratings of every label file of a database in a folder."""
    if not root.is_dir():
        return []
    folder = Folder(root, DATABASES[name].title)
    paths = dict.fromkeys(folder.find(file) for file in DATABASES[name].label_files)
    return [(path.name, DATABASES[name].read(root, str(path.relative_to(root)))) for path in paths if path is not None]


def file_rows(annotations: Path, _release: Path) -> Iterator[Row]:
    for name, reader in DATABASES.items():
        for file, ratings in label_files_in(name, annotations / name):
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


def agreement_rows(annotations: Path, release: Path) -> Iterator[Row]:
    for name, reader in DATABASES.items():
        for _, theirs in label_files_in(name, release):
            for file, ours in label_files_in(name, annotations / name):
                yield [reader.title, f"`{file}`", *agreement(name, ours, theirs)]


def agreement(name: str, ours: list[Rating], theirs: list[Rating]) -> Row:
    """Return the number of common images and the largest differences in MOS, SOS and DOS, as cells.

    SOS and DOS are left empty if our file has none.
    """
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
    """Return the largest absolute value, or 0 for an empty array."""
    return float(np.abs(differences).max(initial=0))


def release_dos(theirs: list[Rating]) -> Array:
    """Return the DOS (N, K) stated in a label file of the release."""
    path = Path(theirs[0].file)
    table = read_table(path, RELEASE_COLUMNS, separator="\t", quote="'")
    return numbers(table, BINS, path).to_numpy()


def recipe_rows(annotations: Path, release: Path) -> Iterator[Row]:
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


def hypothesis_rows(annotations: Path, release: Path) -> Iterator[Row]:
    for name, found in all_files(annotations, release):
        measured = next((ratings for ratings in found if all(rating.sos is not None for rating in ratings)), None)
        if measured is None:
            continue
        mos, sos = arrays(measured, "mos", "sos")
        a, r2 = sos_hypothesis(mos, sos, DATABASES[name].scale)
        if r2 <= HIGHEST_R2:
            yield [DATABASES[name].title, f"{len(measured)}", f"{a:.4f}", f"{number(r2, 2)}"]


def ceiling_rows(annotations: Path, release: Path) -> Iterator[Row]:
    for name, ratings in best_files(annotations, release):
        scale = DATABASES[name].scale
        votes = collect_votes(ratings, scale)
        if votes is not None:
            ceiling = noise_ceiling(votes, scale, label(name, ratings, scale)[1])
            values = [f"{ceiling[key]:.3f} ({ceiling[f'split_half_{key}']:.3f})" for key in CEILING]
            yield [DATABASES[name].title, f"{len(ratings)}", *values]


def best_files(annotations: Path, release: Path) -> Iterator[tuple[str, list[Rating]]]:
    """Yield the most informative file of each database: the first one with SOS, else the first one."""
    for name, found in all_files(annotations, release):
        yield name, next((ratings for ratings in found if ratings[0].sos is not None), found[0])


def all_files(annotations: Path, release: Path) -> Iterator[tuple[str, list[list[Rating]]]]:
    """Yield the ratings of all label files of each database that has any, official files first."""
    for name in DATABASES:
        found = [ratings for root in (annotations / name, release) for _, ratings in label_files_in(name, root)]
        if found:
            yield name, found


TABLES: dict[str, tuple[Row, Callable[[Path, Path], Iterator[Row]]]] = {
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
    "ceiling": (["database", "images", *(key.replace("_", " ").upper() for key in CEILING)], ceiling_rows),
}


def comparison_tables(annotations: Path, release: Path) -> dict[str, str]:
    """Return every table as Markdown, by name."""
    return {
        name: to_markdown(pd.DataFrame(list(make(annotations, release)), columns=header))
        for name, (header, make) in TABLES.items()
    }
