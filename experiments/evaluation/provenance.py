"""The images that a network was trained on, including those of the networks it was fine-tuned from."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datasets.database import Database
from datasets.splits import SEEN_BEFORE, Split
from experiments.schema import SeenBefore, SeenDatabase, SplitContent
from models.timm_backbone import PREFIX as TIMM_PREFIX
from models.weights import translate_weights
from utils.checkpoint import is_own, read_tensors
from utils.errors import UserError
from utils.hub import local_file
from utils.schema import CheckpointContent, checked
from utils.settings import Config, ModelSettings

CSV = "csv"  # name shared by many databases
NO_ANCESTORS = SeenBefore(known=True, databases=())


@dataclass(frozen=True)
class TrainingHistory:
    """The databases that a network and its ancestors were trained on.

    Args:
        own: Databases of its own training.
        before: Databases of its ancestors' training.
        known: Whether all of them are known.
    """

    own: tuple[SeenDatabase, ...] = ()
    before: tuple[SeenDatabase, ...] = ()
    known: bool = True

    @classmethod
    def from_checkpoint(cls, path: Path, config: Config, origin: dict[str, Any] | None) -> "TrainingHistory":
        """Return the history from a checkpoint's config and split, which is None or empty if it has none.

        Raises:
            UserError: The split does not fit its schema.
        """
        if not origin:
            return cls(known=False)
        split, own = checked(SplitContent, origin, path), []
        for settings in config.dataset:
            if settings.title not in split.databases:
                raise UserError(
                    f"{path}: its split is of {', '.join(split.databases) or 'no database'}, but its config of "
                    f"{settings.title}; it was put together from two runs"
                )
            entry = split.databases[settings.title]
            known = {key: getattr(settings, key) for key in ("name", "title", "root")}
            known |= {"labels": entry.labels.hash, "mos_hash": entry.labels.mos_hash}
            own.append(SeenDatabase(**known, seen=(*entry.train, *entry.validation), test=entry.test))
        before = split.seen_before or NO_ANCESTORS
        return cls(tuple(own), before.databases, before.known)

    def for_descendant(self) -> dict[str, Any]:
        """Return `seen_before` of split.json for a training that starts from this network, without test images."""
        databases = [{**one.model_dump(), "test": ()} for one in (*self.own, *self.before)]
        return {"known": self.known, "databases": databases}


def describe_ancestors(settings: ModelSettings) -> dict[str, Any]:
    """Return `seen_before` of split.json for the initial weights, or {} if they are not those of a RichIQA network.

    Args:
        settings: Settings of a network whose weights were loaded before.
    """
    path = local_file(settings.pretrained, prefer_cache=True)  # the file that was loaded, even if there is a newer one
    if not path.is_file():
        return {}
    content = read_tensors(path)
    if not is_own(content):
        backbone_only = settings.backbone.startswith(TIMM_PREFIX) or translate_weights(content, path)[0] == "backbone"
        return {} if backbone_only else {SEEN_BEFORE: TrainingHistory(known=False).for_descendant()}
    config = checked(CheckpointContent, content, path).config
    return {SEEN_BEFORE: TrainingHistory.from_checkpoint(path, config, content.get("split")).for_descendant()}


def is_same_database(one: SeenDatabase, name: str, database: Database) -> tuple[bool, str]:
    """Return whether two databases are the same, and what was assumed, in words, if that is not certain.

    A known database is identified by its name. CSV files of different databases may contain the same file names, so
    they are identified by their labels, then by folder and title.

    Args:
        one: Database of a training.
        name: Name of the other database in its config.
        database: The other database.
    """
    if database.hash == one.labels or database.mos_hash == one.mos_hash:
        return True, ""
    if one.name != name or name != CSV:
        return one.name == name, ""
    shared = len(database.records.keys() & {*one.seen, *one.test})
    if not shared:
        return False, ""
    here = f"{shared} of its image names are those of the training's {one.title}, with different labels"
    if Path(one.root).resolve() == database.root.resolve():
        return True, f"{here}: assumed to be the same images, since the folder is the same"
    if one.title == database.title != CSV:
        return True, f"{here}: assumed to be the same images, since the title is the same"
    return False, f"{here}: assumed to be different images; if they are the same, give both the same folder or title"


def same_databases(
    databases: Sequence[SeenDatabase], name: str, database: Database
) -> tuple[list[SeenDatabase], list[str]]:
    """Return those databases that are the same as another one, and what was assumed about all of them."""
    found = [(one, *is_same_database(one, name, database)) for one in databases]
    notes = [assumed for _, _, assumed in found if assumed]
    return [one for one, same, _ in found if same], list(dict.fromkeys(notes))


def seen_test_warnings(
    config: Config, databases: Sequence[Database], splits: Sequence[Split], origin: dict[str, Any]
) -> list[str]:
    """Return warnings if the initial weights were trained on test images of a split.

    Args:
        config: Config of the run.
        databases: Databases of the run.
        splits: Split of each database.
        origin: Content of split.json.
    """
    before, warnings = SplitContent(**origin).seen_before or NO_ANCESTORS, []
    if not before.known:
        warnings.append(
            f"the training images of {config.model.pretrained} are unknown; if test images are among them, the results "
            "are too good"
        )
    for settings, database, split in zip(config.dataset, databases, splits, strict=True):
        same, notes = same_databases(before.databases, settings.name, database)
        warnings += [f"{database.title}: {assumed}" for assumed in notes]
        seen = {name for one in same for name in one.seen} & set(split.test)
        if seen:
            warnings.append(
                f"{database.title}: {config.model.pretrained} was trained on {len(seen)} of the {len(split.test)} test "
                "images of this split, so the results are too good; use the split of that training: the same "
                "protocol.split_seed and --split, or protocol.method=file with its split.json"
            )
    return warnings
