"""Which images of a database a network is scored on: never those of its training, unless they are asked for."""

from dataclasses import dataclass, field
from typing import Any

from datasets.database import Database
from datasets.splits import Split
from experiments.evaluation.provenance import SeenDatabase, TrainingHistory, is_same
from models.weights import TrainedNetwork
from utils.errors import UserError
from utils.settings import Config

PARTS = ("auto", "all", "test")
OPTIMISTIC = "epoch chosen on these test images: optimistic"
UNKNOWN = "training images unknown"


@dataclass(frozen=True)
class Target:
    """A database that checkpoints are evaluated on: which images are its test part, by its own config."""

    name: str
    database: Database
    config: Config
    test: Split | None

    def as_dict(self, part: str) -> dict[str, Any]:
        """What tells results on it from those on others: the same for the same images and labels in the same place.

        Args:
            part: One of PARTS; of `test`, the split counts, too.
        """
        return {
            "root": str(self.database.root.resolve()),
            "labels": self.database.hash,
            "part": part,
            "split": None if self.test is None else self.test.hash,
        }


@dataclass(frozen=True)
class Choice:
    """The images to score, and what is to be said of them.

    Args:
        names: Each once.
        words: Which they are.
        own: Whether the network, or one that it was fine-tuned from, was trained on this database.
        trained_on: How many of these images it was trained on.
        optimistic: Whether the epoch of the checkpoint was chosen by its results on these images.
        known: Whether it is known which images the network was trained on.
        notes: What was assumed.
    """

    names: tuple[str, ...]
    words: str
    own: bool
    trained_on: int = 0
    optimistic: bool = False
    known: bool = True
    notes: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """For metrics.json."""
        return {
            "images": len(self.names),
            "part": self.words,
            "own": self.own,
            "trained_on": self.trained_on,
            "training_images": "known" if self.known else "unknown",
            "optimistic": self.optimistic,
            "notes": self.notes,
        }


def choose_images(network: TrainedNetwork, target: Target, part: str) -> Choice:
    """The images of a database to score a network on.

    `auto` takes all images of a foreign database. Of one that the network was trained on it takes only the test images
    of that training; of one that only its ancestors were trained on, all that they were not trained on.

    Raises:
        UserError: None of those images is here.
    """
    past = TrainingHistory.of(network.config, network.origin)
    records = target.database.records
    own, notes = _same(past.own, target)
    own = [one for one in own if not records.keys().isdisjoint((*one.seen, *one.test))]
    before, more_notes = _same(past.before, target)
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
            f"{target.database.title}: none of the images that {network.path} was tested on is here, or it was trained "
            "on all of them; --part all scores every image, those of its training as well"
        )
    chosen = network.chosen_epoch and network.config.protocol.selection == "release"
    optimistic = chosen and not set(names).isdisjoint(tests)
    words += "".join(f", {note}" for note, holds in ((OPTIMISTIC, optimistic), (UNKNOWN, not past.known)) if holds)
    trained_on = len(seen.intersection(names))
    return Choice(names, words, bool(own or seen), trained_on, optimistic, past.known, [*notes, *more_notes])


def _same(databases: tuple[SeenDatabase, ...], target: Target) -> tuple[list[SeenDatabase], list[str]]:
    """Those that are the database of a target, and what was assumed of them and others."""
    found = [(one, *is_same(one, target.name, target.database)) for one in databases]
    notes = [assumed for _, _, assumed in found if assumed]
    return [one for one, same, _ in found if same], list(dict.fromkeys(notes))
