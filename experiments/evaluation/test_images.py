"""The images of a database that a network is evaluated on: by default never its training images."""

from dataclasses import asdict, dataclass
from typing import Any

from datasets.database import Database
from datasets.splits import Split
from experiments.evaluation.provenance import TrainingHistory, same_databases
from models.weights import TrainedNetwork
from utils.errors import UserError
from utils.settings import Config

PARTS = ("auto", "all", "test")
OPTIMISTIC = "epoch selected on these test images: optimistic"
UNKNOWN = "training images unknown"


@dataclass(frozen=True)
class Target:
    """A database to evaluate checkpoints on, with the split of its own config for `--part test`."""

    name: str
    database: Database
    config: Config
    test: Split | None

    def as_dict(self, part: str) -> dict[str, Any]:
        """Return what identifies results on this database; existing results are replaced only if it is equal.

        Args:
            part: One of PARTS.
        """
        return {
            "root": str(self.database.root.resolve()),
            "labels": self.database.hash,
            "part": part,
            "split": None if self.test is None else self.test.hash,
        }


@dataclass(frozen=True)
class TestImages:
    """The images to evaluate, and what is known about them; all but their names is written to metrics.json.

    Args:
        names: Names of the images, each once.
        part: Which images they are, in words.
        own: Whether the network or one of its ancestors was trained on this database.
        trained_on: Number of these images that they were trained on.
        training_images: Whether the training images of the network are `known` or `unknown`.
        optimistic: Whether the epoch of the checkpoint was selected by its results on these images.
        notes: Assumptions, in words.
    """

    names: tuple[str, ...]
    part: str
    own: bool
    trained_on: int
    training_images: str
    optimistic: bool
    notes: list[str]

    def as_dict(self) -> dict[str, Any]:
        """Return the entries for metrics.json."""
        entries = asdict(self)
        return {"images": len(entries.pop("names")), **entries}


def choose_images(network: TrainedNetwork, target: Target, part: str) -> TestImages:
    """Return the images of a database to evaluate a network on.

    `auto` is all images of a database that the network was not trained on. If it was trained on the database, `auto` is
    the test images of its own split; if only its ancestors were, all images that they were not trained on.

    Raises:
        UserError: None of those images is available.
    """
    past = TrainingHistory.from_checkpoint(network.path, network.config, network.origin)
    records = target.database.records
    own, notes = same_databases(past.own, target.name, target.database)
    own = [one for one in own if not records.keys().isdisjoint((*one.seen, *one.test))]
    before, more_notes = same_databases(past.before, target.name, target.database)
    seen = {name for one in (*own, *before) for name in one.seen} & records.keys()
    tests = tuple(dict.fromkeys(name for one in own for name in one.test if name in records and name not in seen))
    if part == "all" or not (own or seen or target.test):
        names, words = tuple(sorted(records)), f"all {len(records)} images"
        words += f", of which the network was trained on {len(seen)}" if seen else ""
    elif own:
        names, words = tests, f"the {len(tests)} test images of the network's own split"
    elif seen:
        names = tuple(sorted(records.keys() - seen))
        words = f"the {len(names)} images that its ancestors were not trained on"
    else:
        names, words = target.test.test, f"the {len(target.test.test)} test images of the config's split"
    if not names:
        raise UserError(
            f"{target.database.title}: no test image of {network.path} is available, or it was trained on all images; "
            "use --part all to evaluate every image, including its training images"
        )
    selected = network.chosen_epoch and network.config.protocol.selection == "release"
    optimistic = selected and not set(names).isdisjoint(tests)
    return TestImages(
        names=names,
        part=f"{words}{f', {OPTIMISTIC}' if optimistic else ''}{'' if past.known else f', {UNKNOWN}'}",
        own=bool(own or seen),
        trained_on=len(seen.intersection(names)),
        training_images="known" if past.known else "unknown",
        optimistic=optimistic,
        notes=[*notes, *more_notes],
    )
