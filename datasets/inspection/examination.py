"""Examination of one database: everything that check_dataset reports and draws."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from datasets.image_files import with_damage
from datasets.inspection.images import describe_files, equal_files, inspect_images
from datasets.label_checks import DAMAGED, MISSING, find_doubts, find_problems
from datasets.labels import LabelRecipe, complete, sos_hypothesis
from datasets.noise_ceiling import ceiling_line, collect_votes, noise_ceiling
from datasets.ratings import Rating, Record, arrays
from datasets.readers import label, read_ratings
from datasets.scale import RatingScale
from datasets.splits import Split, make_split, split_method, split_unit
from utils.errors import UserError
from utils.settings import Config, DatasetSettings
from utils.tables import number

CEILING_NOTE = "what a perfect predictor reaches: bootstrap over voters, which is optimistic (split half)"
WITHIN, EQUAL, LABELS, SPLITS = "image damaged within", "identical files", "labels", "splits"
DOUBTS = "labels in another unit, perhaps"

Array = np.ndarray
Progress = Callable[[Iterable, int], Iterable]


@dataclass
class Examination:
    """Findings about one database, with the problems by kind."""

    member: DatasetSettings
    scale: RatingScale
    files: list[tuple[str, str]] = field(default_factory=list)  # rows about the label file and the images
    ratings: list[Rating] = field(default_factory=list)
    records: list[Record] = field(default_factory=list)
    recipe: LabelRecipe | None = None
    unit: str = ""  # of the splits, or their method
    splits: list[Split] = field(default_factory=list)
    problems: dict[str, list[str]] = field(default_factory=dict)
    harmless: set[str] = field(default_factory=set)  # kinds of problems that only concern usable rows

    @property
    def title(self) -> str:
        return self.member.title

    @property
    def trainable(self) -> bool:
        return bool(self.splits) and not any(self.stops(kind) for kind in self.problems)

    def stops(self, kind: str) -> bool:
        """Return whether a kind of problem prevents training."""
        if kind in (EQUAL, DOUBTS):
            return False
        if kind in (MISSING, DAMAGED):
            return self.member.strict or self.member.unreadable != "omit"
        return self.member.strict or kind not in self.harmless

    def add(self, kind: str, text: str) -> None:
        self.problems.setdefault(kind, []).append(text)

    def labels(self) -> dict[str, Array]:
        """Return MOS (N,), SOS (N,) and DOS (N, K) of the usable images, and `measured_sos` (N,) if the file has it."""
        labels = arrays(self.records, "mos", "sos", "dos")
        measured = [rating.sos for rating in self.ratings]
        return labels if None in measured else labels | {"measured_sos": np.array(measured)}

    def describe(self) -> list[tuple[str, str]]:
        """Return the findings as rows of name and text."""
        centers = " ".join(f"{center:g}" for center in self.scale.bin_centers)
        rows = [*self.files, ("scale", f"{self.scale.describe()}; bins at {centers}")]
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
            rows.append(("", CEILING_NOTE))
        references = {record.name: record.reference for record in self.records if record.reference is not None}
        if references:
            rows.append(("references", str(len(set(references.values())))))
        for count, split in enumerate(self.splits, start=1):
            sizes = f"{len(split.train)} train, {len(split.validation)} validation, {len(split.test)} test"
            shared = {references.get(name) for name in split.train} & {references.get(name) for name in split.test}
            scenes = len(shared - {None})
            leak = f"; {scenes} scenes are in both train and test" if scenes else ""
            rows.append((f"split {count}", f"{sizes}, by {self.unit}, hash {split.hash}{leak}"))
        return rows


def examine(config: Config, member: DatasetSettings, decode: bool, progress: Progress) -> Examination:
    """Examines one database of a config; whatever is wrong with it is a problem, not an error."""
    scale = RatingScale.from_settings(member.scale)
    found = Examination(member, scale, unit=config.protocol.method)
    try:
        ratings = complete(read_ratings(member.name, member.root, member.labels), scale)
    except UserError as error:
        found.add(LABELS, str(error))
        return found
    ratings = with_damage(ratings, Path(member.root))
    problems = find_problems(ratings, scale)
    for problem in problems:
        of_file = problem.kind in (MISSING, DAMAGED)
        kind = problem.kind if problem.usable or of_file else f"{problem.kind}, unusable"
        found.add(kind, str(problem))
        if problem.usable:
            found.harmless.add(kind)
    for doubt in find_doubts(ratings, scale):
        found.add(DOUBTS, doubt)
    images = list(dict.fromkeys(rating.image for rating in ratings if not rating.missing))
    damaged = {rating.image for rating in ratings if rating.damage}
    whole = [image for image in images if image not in damaged]
    files = inspect_images(Path(member.root), whole, decode, lambda items: progress(items, len(whole)))
    for file in files:
        if file.error:
            found.add(WITHIN, file.error)
    for group in equal_files(files):
        found.add(EQUAL, ", ".join(group))
    images_found = f"{len(ratings)} labelled, {len(images)} found; {describe_files(files)}"
    found.files = [("label file", ratings[0].file), ("images", images_found)]
    bad = {problem.rating.source for problem in problems if not problem.usable}
    found.ratings = [rating for rating in ratings if rating.source not in bad]
    if not found.ratings:
        found.add(LABELS, f"none of the {len(ratings)} images is usable")
        return found
    _label_and_split(found, config, {rating.name for rating in ratings})
    return found


def _label_and_split(found: Examination, config: Config, names: set[str]) -> None:
    """Make labels and splits of the usable images, of all these."""
    member = found.member
    left_out = names - {rating.name for rating in found.ratings}
    recipe = member.model_dump(include={"dos", "sos_source", "sos_a"})
    try:
        found.records, found.recipe = label(member.name, found.ratings, found.scale, **recipe)
        method = split_method(found.records, config.protocol)
        found.unit = split_unit(found.records, config.protocol) if method == "random" else method
        found.splits = [
            make_split(found.records, config.protocol, number, member.split_file, found.title, left_out)
            for number in range(1, config.protocol.splits + 1)
        ]
    except UserError as error:
        found.add(SPLITS if found.records else LABELS, str(error))


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
    lines = [f"{examination.title}: {examination.member.root}", *(f"  {name:{width}}  {value}" for name, value in rows)]
    for kind, problems in examination.problems.items():
        harmless = "" if examination.stops(kind) else " (does not prevent training)"
        lines.append(f"  {len(problems)} x {kind}{harmless}")
        lines += [f"    {problem}" for problem in problems[:shown]]
        if shown is not None and len(problems) > shown:
            lines.append(f"    and {len(problems) - shown} more; --all lists them")
    lines.append("ready for training" if examination.trainable else "not ready for training")
    return "\n".join(lines)


def _summary(values: Array) -> str:
    return f"{values.min():.4g} to {values.max():.4g}, mean {values.mean():.4g}, standard deviation {values.std():.4g}"
