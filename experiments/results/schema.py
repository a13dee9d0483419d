"""Read the JSON files of finished splits and evaluations, checked against their schema."""

from pathlib import Path
from typing import Any

from experiments.training.run_folder import METRICS, SPLIT, RunFolder
from utils.errors import UserError
from utils.files import read_object
from utils.schema import EvaluationMetrics, checked
from utils.settings import Config


def read_metrics(folder: RunFolder, config: Config) -> dict[str, Any]:
    """Return metrics.json of a finished split.

    Raises:
        UserError: It does not fit its schema, or the databases of the config.
    """
    return _with_databases(folder.metrics(), config, folder.path / METRICS)


def read_origin(folder: RunFolder, config: Config) -> dict[str, dict[str, Any]]:
    """Return the entry of each database in split.json, by title; raises as `read_metrics`."""
    return _with_databases(folder.origin(), config, folder.path / SPLIT)["databases"]


def read_evaluation(path: Path) -> dict[str, Any]:
    """Return metrics.json of an evaluation.

    Raises:
        UserError: It does not fit its schema.
    """
    content = read_object(path)
    checked(EvaluationMetrics, content, path)
    return content


def _with_databases(content: dict[str, Any], config: Config, path: Path) -> dict[str, Any]:
    titles = [settings.title for settings in config.dataset]
    if set(titles) != content["databases"].keys():
        raise UserError(
            f"{path}: databases: {', '.join(content['databases']) or 'none'}; expected, from config.yaml beside it: "
            f"{', '.join(titles)}; restore the file, or train the split again"
        )
    return content
