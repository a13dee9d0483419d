"""The report of a run: one self-contained HTML file, written from its finished splits."""

import shlex
import sys
import traceback
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path

from datasets.labels import LabelRecipe
from experiments.results.charts import part_drawings, training_curves
from experiments.results.results import FinishedSplit, read_finished
from experiments.results.tables import all_metrics_table, origins_table, resampled_units, selections_table, tiles
from experiments.results.thumbnails import gallery
from experiments.training.run_folder import CONFIG, METRICS, SPLIT_FOLDER, file_lock, split_folders
from utils.config import dump_config
from utils.errors import MissingFileError, UserError, one_line, printable
from utils.files import write_text
from utils.html import page_environment
from utils.tables import number

FILE, TEMPLATE = "report.html", "report.html.j2"
WAIT = 60  # seconds, for another process that writes the same report


def write_report(run: Path) -> Path:
    """Write `report.html` into the folder of a run, from its finished splits, and return its path.

    If several processes finish splits at the same time, the last one writes a report of all of them.

    Raises:
        MissingFileError: The folder does not exist.
        UserError: It is not the folder of a run, no split is finished, splits have different settings, a file is
            damaged, or the report cannot be written.
    """
    if not run.is_dir():
        raise MissingFileError(f"{run} is not a folder; name the folder of a run, such as checkpoint/demo")
    if SPLIT_FOLDER.fullmatch(run.resolve().name) and (run / CONFIG).exists():
        raise UserError(f"{run} is one split; name the folder of its run, {run.resolve().parent}")
    if not split_folders(run):
        raise UserError(f"{run} contains no split_NN; name the folder of a run, such as checkpoint/demo")
    with file_lock(run / FILE, "wait for it and try again", WAIT):
        splits = read_finished(run, split_folders(run))
        if not splits:
            raise UserError(f"{run}: no split is finished; main.py --resume continues them")
        write_text(run / FILE, render(printable(run.resolve().name), splits))
    return run / FILE


def print_report(path: Path) -> None:
    """Write the report of a run and print its path; an error is printed, so that the next splits still run."""
    try:
        print(f"report: {write_report(path)}")
    except Exception as error:
        if not isinstance(error, UserError):
            traceback.print_exc()
        command = f"python tools/report.py {shlex.quote(str(path))}"
        print(f"warning: no report: {one_line(error)}; to try again: {command}", file=sys.stderr)


def is_current(run: Path) -> bool:
    """Return whether the report of a run exists and is newer than its finished splits."""
    if not (run / FILE).is_file():
        return False
    finished = [(folder.path / METRICS).stat() for folder in split_folders(run).values() if folder.finished]
    return (run / FILE).stat().st_mtime_ns >= max((metrics.st_mtime_ns for metrics in finished), default=0)


def render(name: str, splits: Sequence[FinishedSplit]) -> str:
    """Return the HTML page."""
    environment = page_environment(Path(__file__).parent)
    environment.filters.update(number=number, drawings=part_drawings, gallery=gallery, metrics=all_metrics_table)
    config = splits[0].config
    indices = [*([None] if len(config.dataset) > 1 else []), *range(len(config.dataset))]  # None: mean over databases
    tables = [selections_table(splits, index) for index in indices]
    titles = [table.title if len(indices) > 1 else "" for table in tables]
    finished_at = max((split.folder / METRICS).stat().st_mtime for split in splits)
    page = environment.get_template(TEMPLATE).render(
        name=name,
        config=config,
        splits=splits,
        finished_at=datetime.fromtimestamp(finished_at, timezone.utc),
        groups=[(title, tiles(splits, index)) for title, index in zip(titles, indices, strict=True)],
        tables=tables,
        units=resampled_units(splits[0].tests),
        curves=training_curves(splits),
        origins=origins_table(splits),
        recipes=_recipes(splits),
        versions=_versions(splits),
        config_text=dump_config(config),
    )
    return page.strip() + "\n"


def _recipes(splits: Sequence[FinishedSplit]) -> list[tuple[str, str]]:
    """Return the label recipe of each database, as printed on the terminal, each once."""
    found = {}
    for split in splits:
        for part in split.tests:
            recipe = {key: value for key, value in part.origin["labels"].items() if not key.endswith("hash")}
            found[part.title, LabelRecipe(**recipe).describe()] = None
    return list(found)


def _versions(splits: Sequence[FinishedSplit]) -> list[str]:
    """Return the versions of Python and packages of the splits, each once."""
    environments = [split.metrics["environment"] for split in splits]
    lines = (", ".join(f"{name} {value}" for name, value in one.items() if name != "machine") for one in environments)
    return [line for line in dict.fromkeys(lines) if line]
