"""`--evaluate` in the process of the tests, on made-up databases."""

import json

import pandas as pd
import pytest

from main import main
from tests.databases import write_database
from tests.running import ROOT

SMALL = ("train.device=cpu", "train.workers=0", "protocol.splits=1")


@pytest.fixture
def evaluate(tmp_path):
    """`--evaluate` on the official config of a database, made up under tmp_path."""

    def run(checkpoint, *names, options=()):
        configs, roots = [], tmp_path / "databases"
        for name in names:
            root = write_database(name, roots / name).root if not (roots / name).exists() else roots / name
            config = tmp_path / f"{name}.yaml"
            config.write_text(f"extends: {ROOT}/configs/{name}.yaml\ndataset:\n  root: {root}\n")
            configs.append(str(config))
        output = ["--output", str(tmp_path / "out")]
        return main(["--evaluate", str(checkpoint), "--config", *configs, *SMALL, *output, *options])

    return run


def results(tmp_path, database, run="quick/split_01"):
    """metrics.json and predictions.csv of one pair."""
    folder = tmp_path / "out" / run / database
    return json.loads((folder / "metrics.json").read_text()), pd.read_csv(folder / "predictions.csv")
