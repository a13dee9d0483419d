"""Examination of one database: everything that check_dataset reports and draws."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from datasets.inspection.images import describe_files, equal_files, inspect_images
from datasets.label_checks import MISSING, find_problems
from datasets.labels import LabelRecipe, sos_hypothesis
from datasets.noise_ceiling import ceiling_line, collect_votes, noise_ceiling
from datasets.ratings import Rating, Record, arrays
from datasets.readers import label, read_ratings
from datasets.scale import RatingScale
from datasets.splits import Split, make_split, split_unit
from utils.errors import UserError
from utils.settings import Config, DatasetSettings
from utils.tables import number

UNREADABLE, EQUAL, LABELS, SPLITS = "unreadable image", "identical files", "labels", "splits"

Array = np.ndarray
Progress = Callable[[Iterable, int], Iterable]


@dataclass
class Examination:
    """Findings about one database, with the problems by kind."""

    title: str
    root: str
    scale: RatingScale
    unit: str
    allow_missing: bool
    strict: bool
    label_file: str = ""
    images: str = ""
    ratings: list[Rating] = field(default_factory=list)
    records: list[Record] = field(default_factory=list)
    recipe: LabelRecipe | None = None
    splits: list[Split] = field(default_factory=list)
    problems: dict[str, list[str]] = field(default_factory=dict)
    harmless: set[str] = field(default_factory=set)  # kinds of problems that only concern usable rows

    @property
    def trainable(self) -> bool:
        return bool(self.splits) and not any(self.stops(kind) for kind in self.problems)

    def stops(self, kind: str) -> bool:
        """Return whether a kind of problem prevents training."""
        if kind == EQUAL:
            return False
        if kind == MISSING:
            return self.strict or not self.allow_missing
        return self.strict or kind not in self.harmless

    def add(self, kind: str, text: str) -> None:
        self.problems.setdefault(kind, []).append(text)

    def labels(self) -> dict[str, Array]:
        """Return MOS (N,), SOS (N,) and DOS (N, K) of the usable images, and `measured_sos` (N,) if the file has it."""
        labels = dict(zip(("mos", "sos", "dos"), arrays(self.records, "mos", "sos", "dos"), strict=True))
        measured = [rating.sos for rating in self.ratings]
        return labels | ({} if None in measured else {"measured_sos": np.array(measured)})

    def describe(self) -> list[tuple[str, str]]:
        """Return the findings as rows of name and text."""
        rows = [("label file", self.label_file), ("images", self.images)] if self.label_file else []
        centers = " ".join(f"{center:g}" for center in self.scale.bin_centers)
        rows.append(("scale", f"{self.scale.describe()}; bins at {centers}"))
        if not self.records:
            return rows
        labels = self.labels()
        rows += [(name.upper(), _summary(labels[name])) for name in ("mos", "sos")]
        rows.append(("labels", self.recipe.describe()))
        if "measured_sos" in labels:
            a, r2 = sos_hypothesis(labels["mos"], labels["measured_sos"], self.scale)
            rows.append(("SOS hypothesis", f"a = {a:.4f} fitted to the measured SOS, R2 = {number(r2, 2)}"))
        off = np.abs(self.scale.mean(labels["dos"]) - labels["mos"])
        worst = self.records[int(off.argmax())].image
        rows.append(("DOS mean - MOS", f"{off.mean():.4g} on average, largest {off.max():.4g} ({worst})"))
        voters = [rating.voters for rating in self.ratings]
        if None not in voters:
            rows.append(("voters", f"{min(voters)} to {max(voters)} per image"))
        votes = collect_votes(self.ratings, self.scale)
        if votes is not None:
            rows.append(("noise ceiling", ceiling_line(noise_ceiling(votes, self.scale, self.recipe))))
            rows.append(
                (
                    "",
                    "what a perfect predictor reaches: bootstrap over voters, which is optimistic (split half)",
                )
            )
        return rows + self._split_rows()

    def _split_rows(self) -> list[tuple[str, str]]:
        references = {record.reference for record in self.records} - {None}
        rows = [("references", str(len(references)))] if references else []
        for count, split in enumerate(self.splits, start=1):
            sizes = f"{len(split.train)} train, {len(split.validation)} validation, {len(split.test)} test"
            shared = self._shared_scenes(split)
            leak = f"; {shared} scenes are in both train and test" if shared else ""
            rows.append((f"split {count}", f"{sizes}, by {self.unit}, hash {split.hash}{leak}"))
        return rows

    def _shared_scenes(self, split: Split) -> int:
        reference = {record.name: record.reference for record in self.records}
        train, test = ({reference[name] for name in part} - {None} for part in (split.train, split.test))
        return len(train & test)


def examine(config: Config, member: DatasetSettings, decode: bool, progress: Progress) -> Examination:
    """Examines one database of a config; whatever is wrong with it is a problem, not an error."""
    scale = RatingScale.from_settings(member.scale)
    unit = config.protocol.method
    found = Examination(member.title, member.root, scale, unit, member.allow_missing, member.strict)
    try:
        ratings = read_ratings(member.name, member.root, member.labels)
    except UserError as error:
        found.add(LABELS, str(error))
        return found
    found.label_file = ratings[0].file
    bad = _add_label_problems(found, ratings, scale)
    _add_image_problems(found, ratings, Path(member.root), decode, progress)
    found.ratings = [rating for rating in ratings if rating.source not in bad]
    if not found.ratings:
        found.add(LABELS, f"none of the {len(ratings)} images is usable")
        return found
    left_out = {rating.name for rating in ratings} - {rating.name for rating in found.ratings}
    recipe = member.model_dump(include={"dos", "sos_source", "sos_a"})
    try:
        found.records, found.recipe = label(member.name, found.ratings, scale, **recipe)
        if config.protocol.method == "random":
            found.unit = split_unit(found.records, config.protocol)
        found.splits = [
            make_split(found.records, config.protocol, number, member.split_file, found.title, left_out)
            for number in range(1, config.protocol.splits + 1)
        ]
    except UserError as error:
        found.add(SPLITS if found.records else LABELS, str(error))
    return found


def batch_size_advice(config: Config, examinations: Sequence[Examination]) -> str:
    """Return a warning if the batch size exceeds the training part, else an empty string."""
    sizes = [
        sum(len(split.train) for split in splits) for splits in zip(*(e.splits for e in examinations), strict=True)
    ]
    if config.train.batch_size <= min(sizes):
        return ""
    return f"warning: train.batch_size {config.train.batch_size} is more than the {min(sizes)} training images\n"


def splits_for_file(examinations: Sequence[Examination]) -> list[dict]:
    """All splits, by title of the database, in the form that `dataset.split_file` takes."""
    by_split = zip(*(examination.splits for examination in examinations), strict=True)
    return [
        {"databases": {e.title: split.as_dict() for e, split in zip(examinations, splits, strict=True)}}
        for splits in by_split
    ]


def report(examination: Examination, shown: int | None) -> str:
    """Return the examination as text: two columns of findings, then the problems."""
    rows = examination.describe()
    width = max(len(name) for name, _ in rows)
    lines = [f"{examination.title}: {examination.root}", *(f"  {name:{width}}  {value}" for name, value in rows)]
    for kind, problems in examination.problems.items():
        lines.append(
            f"  {len(problems)} x {kind}" + ("" if examination.stops(kind) else " (does not prevent training)")
        )
        lines += [f"    {problem}" for problem in problems[:shown]]
        if shown is not None and len(problems) > shown:
            lines.append(f"    and {len(problems) - shown} more; --all lists them")
    lines.append("ready for training" if examination.trainable else "not ready for training")
    return "\n".join(lines)


def _add_label_problems(found: Examination, ratings: Sequence[Rating], scale: RatingScale) -> set[str]:
    """Add the problems of the rows; return the sources of the unusable rows."""
    problems = find_problems(ratings, scale)
    for problem in problems:
        kind = problem.kind if problem.usable or problem.kind == MISSING else f"{problem.kind}, unusable"
        found.add(kind, str(problem))
        if problem.usable:
            found.harmless.add(kind)
    return {problem.rating.source for problem in problems if not problem.usable}


def _add_image_problems(
    found: Examination, ratings: Sequence[Rating], root: Path, decode: bool, progress: Progress
) -> None:
    images = list(dict.fromkeys(rating.image for rating in ratings if not rating.missing))
    files = inspect_images(root, images, decode, lambda items: progress(items, len(images)))
    for file in files:
        if file.error:
            found.add(UNREADABLE, file.error)
    for group in equal_files(files):
        found.add(EQUAL, ", ".join(group))
    found.images = f"{len(ratings)} labelled, {len(images)} found; {describe_files(files)}"


def _summary(values: Array) -> str:
    return f"{values.min():.4g} to {values.max():.4g}, mean {values.mean():.4g}, standard deviation {values.std():.4g}"
