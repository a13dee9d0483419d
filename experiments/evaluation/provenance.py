"""Which images a network has seen in training, its own and that of the networks it was fine-tuned from."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datasets.database import Database
from datasets.splits import SEEN_BEFORE, Split
from models.timm_backbone import PREFIX as TIMM_PREFIX
from models.weights import translate_weights
from utils.checkpoint import is_own, read_tensors
from utils.schema import CheckpointContent, SeenDatabase, checked
from utils.settings import Config, ModelSettings

CSV = "csv"  # the one name that many databases share


@dataclass(frozen=True)
class TrainingHistory:
    """All that a network has seen.

    Args:
        own: The databases of its own training.
        before: Those of its ancestors.
        known: False where it or an ancestor does not tell.
    """

    own: tuple[SeenDatabase, ...] = ()
    before: tuple[SeenDatabase, ...] = ()
    known: bool = True

    @classmethod
    def of(cls, config: Config, origin: dict[str, Any] | None) -> "TrainingHistory":
        """From the config of a checkpoint and the split that it carries, None where it carries none."""
        if origin is None:
            return cls(known=False)
        before = origin.get(SEEN_BEFORE, {})
        of_ancestors = tuple(SeenDatabase(**one) for one in before.get("databases", ()))
        return cls(_own_databases(config, origin), of_ancestors, before.get("known", True))

    def for_descendant(self) -> dict[str, Any]:
        """What split.json of a training that starts from this network says of it; `test` was not trained on."""
        databases = [{**one.model_dump(), "test": ()} for one in (*self.own, *self.before)]
        return {"known": self.known, "databases": databases}


def seen_before(settings: ModelSettings) -> dict[str, Any]:
    """What split.json says of the images that the weights at the start have seen; {} where these are of no RichIQA.

    Args:
        settings: Of a network whose weights were loaded already.
    """
    path = Path(settings.pretrained)
    if not path.is_file():
        return {}
    content = read_tensors(path)
    if not is_own(content):
        of_backbone = settings.backbone.startswith(TIMM_PREFIX) or translate_weights(content, path)[0] == "backbone"
        return {} if of_backbone else {SEEN_BEFORE: TrainingHistory(known=False).for_descendant()}
    config = checked(CheckpointContent, content, path).config
    return {SEEN_BEFORE: TrainingHistory.of(config, content.get("split")).for_descendant()}


def is_same(one: SeenDatabase, name: str, database: Database) -> tuple[bool, str]:
    """Whether a database of a training is this one, and in words what was assumed where that is not sure.

    A known database is the same by its name. Any two CSVs may have the same file names, so that of these the labels
    count, then the folder and the titles.

    Args:
        one: Of the training.
        name: Of the other in its config.
        database: The other.
    """
    if database.hash == one.labels or database.mos_hash == one.mos_hash:
        return True, ""
    if one.name != name or name != CSV:
        return one.name == name, ""
    shared = len(database.records.keys() & {*one.seen, *one.test})
    if not shared:
        return False, ""
    here = f"{shared} of its image names are those of the training's {one.title}, with other labels"
    if Path(one.root).resolve() == database.root.resolve():
        return True, f"{here}: taken for the same images, since the folder is the same"
    if one.title == database.title != CSV:
        return True, f"{here}: taken for the same images, since the title is the same"
    return False, f"{here}: taken for other images; if they are the same, give both the same folder or title"


def seen_tests(
    config: Config, databases: Sequence[Database], splits: Sequence[Split], origin: dict[str, Any]
) -> list[str]:
    """Warnings where the weights at the start have seen test images of a split.

    Args:
        config: Of the run.
        databases: Of the run.
        splits: Of each database.
        origin: What split.json says.
    """
    before = origin.get(SEEN_BEFORE, {})
    warnings = []
    if not before.get("known", True):
        warnings.append(
            f"which images {config.model.pretrained} was trained on is not known; test images among them would make "
            "the results too good"
        )
    ancestors = [SeenDatabase(**one) for one in before.get("databases", ())]
    for settings, database, split in zip(config.dataset, databases, splits, strict=True):
        found = [(one, *is_same(one, settings.name, database)) for one in ancestors]
        warnings += [f"{database.title}: {assumed}" for _, _, assumed in found if assumed]
        seen = {name for one, same, _ in found if same for name in one.seen} & set(split.test)
        if seen:
            warnings.append(
                f"{database.title}: {config.model.pretrained} was trained on {len(seen)} of the {len(split.test)} test "
                "images of this split, so that its results are too good; split as that training did: the same "
                "protocol.split_seed and --split, or protocol.method=file with its split.json"
            )
    return warnings


def _own_databases(config: Config, origin: dict[str, Any]) -> tuple[SeenDatabase, ...]:
    databases = []
    for settings in config.dataset:
        split = origin["databases"][settings.title]
        known = {key: getattr(settings, key) for key in ("name", "title", "root")}
        known |= {"labels": split["labels"]["hash"], "mos_hash": split["labels"]["mos_hash"]}
        databases.append(SeenDatabase(**known, seen=(*split["train"], *split["validation"]), test=split["test"]))
    return tuple(databases)
