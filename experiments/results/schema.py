"""The files of finished splits and evaluations as they are read: by the schema that they were written through."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments.training.run_folder import METRICS, SPLIT, RunFolder
from utils.errors import UserError
from utils.files import read_object
from utils.schema import EvaluationMetrics, checked
from utils.settings import Config


def read_metrics(folder: RunFolder, config: Config) -> dict[str, Any]:
    """metrics.json of a finished split.

    Raises:
        UserError: It does not fit its schema, or the config's databases.
    """
    return _with_databases(folder.metrics(), config, folder.path / METRICS)


def read_origin(folder: RunFolder, config: Config) -> dict[str, dict[str, Any]]:
    """What split.json says of each database, by title; raises as `read_metrics`."""
    return _with_databases(folder.origin(), config, folder.path / SPLIT)["databases"]


def read_evaluation(path: Path) -> dict[str, Any]:
    """metrics.json of an evaluation.

    Raises:
        UserError: It does not fit its schema.
    """
    content = read_object(path)
    checked(EvaluationMetrics, content, path)
    return content


def _with_databases(content: dict[str, Any], config: Config, path: Path) -> dict[str, Any]:
    titles: Sequence[str] = [settings.title for settings in config.dataset]
    if set(titles) != content["databases"].keys():
        raise UserError(
            f"{path}: databases: of {', '.join(content['databases']) or 'none'}; config.yaml beside it names "
            f"{', '.join(titles)}; restore the file, or train the split again"
        )
    return content
