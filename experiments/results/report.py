"""The report of a run: one HTML file that needs nothing beside it, from the finished splits on disk."""

import shlex
import sys
import traceback
from collections.abc import Sequence
from dataclasses import fields
from datetime import datetime, timezone
from pathlib import Path

from filelock import FileLock, Timeout

from datasets.labels import LabelRecipe
from experiments.results.captions import part_drawings, training_curves
from experiments.results.results import FinishedSplit, finished_splits, split_folders
from experiments.results.tables import (
    all_metrics_table,
    origins_table,
    selections_table,
    tiles,
    units_of,
)
from experiments.results.thumbnails import gallery
from experiments.training.run_folder import METRICS, SPLIT_FOLDER
from utils.config import dump_config
from utils.errors import UserError, one_line, printable
from utils.files import write_text
from utils.html import page_environment
from utils.tables import number

FILE, TEMPLATE = "report.html", "report.html.j2"
WAIT = 60  # seconds, for another process that writes the same report


def write_report(run: Path) -> Path:
    """Writes `report.html` into the folder of a run, anew, from those of its splits that are finished.

    Several processes may finish splits of one run at once: the last one sees all of them.

    Raises:
        MissingFileError: No such folder.
        UserError: No split is finished, they have different settings, a file is damaged, or the place is not writable.
    """
    split_folders(run)  # what is no run gets no lock either
    try:
        with FileLock(run / f".{FILE}.lock", timeout=WAIT):
            splits = finished_splits(run)
            write_text(run / FILE, render(printable(run.resolve().name), splits))
    except Timeout as error:
        raise UserError(f"{run / FILE} is being written by another process; wait for it and try again") from error
    except UserError:  # a missing file is one, and an OSError
        raise
    except OSError as error:
        raise UserError(f"{run / FILE} cannot be written: {error.strerror or error}") from error
    return run / FILE


def print_report(path: Path) -> None:
    """Writes the report of a run; what keeps it from being written is no reason to lose the splits to come."""
    try:
        print(f"report: {write_report(path)}")
    except Exception as error:
        if not isinstance(error, UserError):
            traceback.print_exc()
        command = f"python tools/report.py {shlex.quote(str(path))}"
        print(f"warning: no report: {one_line(error)}; {command} tries again", file=sys.stderr)


def is_current(run: Path) -> bool:
    """Whether the report of a run is there and none of its splits was finished after it."""
    if not (run / FILE).is_file():
        return False
    finished = [
        path.stat().st_mtime_ns for path in run.glob(f"*/{METRICS}") if SPLIT_FOLDER.fullmatch(path.parent.name)
    ]
    return (run / FILE).stat().st_mtime_ns >= max(finished, default=0)


def render(name: str, splits: Sequence[FinishedSplit]) -> str:
    """The page."""
    environment = page_environment(Path(__file__).parent)
    environment.filters |= {
        "number": number,
        "drawings": part_drawings,
        "gallery": gallery,
        "metrics": all_metrics_table,
    }
    config = splits[0].config
    chosen = [*([None] if len(config.dataset) > 1 else []), *range(len(config.dataset))]  # databases; None: their mean
    tables = [selections_table(splits, number_of) for number_of in chosen]
    tiles_of = [tiles(splits, number_of) for number_of in chosen]
    titles = [table.title if len(chosen) > 1 else "" for table in tables]
    page = environment.get_template(TEMPLATE).render(
        name=name,
        config=config,
        header=_header(splits),
        groups=list(zip(titles, tiles_of, strict=True)),
        tables=tables,
        units=units_of(splits[0].tests),
        best=_best(splits),
        curves=training_curves(splits),
        splits=splits,
        origins=origins_table(splits),
        recipes=_recipes(splits),
        versions=_versions(splits),
        config_text=dump_config(config),
    )
    return page.strip() + "\n"


def _header(splits: Sequence[FinishedSplit]) -> list[tuple[str, str]]:
    config = splits[0].config
    databases = ", ".join(f"{part.title} (scale {part.scale.describe()})" for part in splits[0].tests)
    wanted = max(split.config.protocol.splits for split in splits)
    date = datetime.fromtimestamp(max(split.finished_at for split in splits), timezone.utc)
    which = "" if len(splits) == wanted else f" ({', '.join(str(split.number) for split in splits)})"
    return [
        ("Databases", databases),
        ("Backbone", f"{config.model.backbone}, weights at the start: {config.model.pretrained}"),
        ("Splits finished", f"{len(splits)} of {wanted}{which}"),
        ("Last one finished on", f"{date:%Y-%m-%d} (UTC)"),
    ]


def _best(splits: Sequence[FinishedSplit]) -> str:
    """Which epoch's weights inference takes."""
    epochs = [split.metrics["selected_epoch"] for split in splits]
    chosen = f"epoch {epochs[0]}" if len(set(epochs)) == 1 else f"epochs {', '.join(map(str, epochs))}, split by split"
    return f"best.pt holds the weights of {chosen}: protocol.selection is {splits[0].config.protocol.selection}."


def _recipes(splits: Sequence[FinishedSplit]) -> list[tuple[str, str]]:
    """How the labels of each database were made, as the terminal says it; once where every split says the same."""
    known = {field.name for field in fields(LabelRecipe)}
    found = {}
    for split in splits:
        for part in split.tests:
            recipe = LabelRecipe(**{key: value for key, value in part.origin["labels"].items() if key in known})
            found[part.title, recipe.describe()] = None
    return list(found)


def _versions(splits: Sequence[FinishedSplit]) -> list[str]:
    """Python and packages of each split; once where they are the same."""
    environments = [split.metrics["environment"] for split in splits]
    lines = (", ".join(f"{name} {value}" for name, value in one.items() if name != "machine") for one in environments)
    return [line for line in dict.fromkeys(lines) if line]
