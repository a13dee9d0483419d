"""Folders of runs as main.py leaves them, made by hand, and what summarize says of runs."""

import io
import re

import pandas as pd

from datasets.readers import with_defaults
from tests.written import metrics_content, split_content
from tools.summarize import main
from utils.config import config_from_dict, dump_config
from utils.files import to_json, write_text

OURS = [0.91, 0.93, 0.925, 0.94, 0.9, 0.915]
THEIRS = [0.90, 0.935, 0.91, 0.92, 0.88, 0.91]
RMSE = [0.21, 0.19, 0.2, 0.22, 0.18, 0.2]


def write_run(
    root, name, of_splits, dataset="koniq10k", wanted=None, labels="l", hashes=None, changes=None, mos="m", sos="file"
):
    """A run as main.py leaves it, 4 training images for each of test; a split of None is begun and not finished."""
    dataset = [{"name": dataset}] if isinstance(dataset, str) else dataset
    titles = [member.get("title", member["name"]) for member in dataset]
    for number, metrics in enumerate(of_splits, start=1):
        protocol = {"splits": wanted or len(of_splits)}
        values = {"run": {"name": name}, "dataset": dataset, "protocol": protocol, **(changes or {}).get(number, {})}
        folder = root / name / f"split_{number:02d}"
        write_text(folder / "config.yaml", dump_config(with_defaults(config_from_dict(values, "test"))))
        made = {"sos": sos, "hash": labels, "mos_hash": mos}
        origin = split_content(titles, made, hash=(hashes or {}).get(number, f"h{number}"))
        write_text(folder / "split.json", to_json(origin))
        if metrics is not None:
            write_text(folder / "metrics.json", to_json(as_written(metrics, titles)))
    return root / name


def as_written(metrics, titles):
    """Metrics of the last epoch, of all databases or by title, as metrics.json; under `release` a tenth higher."""
    databases = metrics if titles[0] in metrics else dict.fromkeys(titles, metrics)
    content = metrics_content(databases)
    better = {title: {name: value and value * 1.1 for name, value in one.items()} for title, one in databases.items()}
    content["selections"]["release"] = {"epochs": {"srcc": 1}, **metrics_content(better)["selected"]}
    return content


def tables(page):
    """The Markdown tables of a page, each row a dict."""
    found = []
    for block in re.findall(r"(?:^\|.*\n?)+", page, re.MULTILINE):
        head, _, *rows = [[cell.strip() for cell in line.strip("| ").split("|")] for line in block.splitlines()]
        found.append([dict(zip(head, row, strict=True)) for row in rows])
    return found


def shown(capsys, *arguments):
    assert main([str(argument) for argument in arguments]) == 0
    return capsys.readouterr().out


def csv_of(capsys, *arguments):
    table = pd.read_csv(io.StringIO(shown(capsys, *arguments, "--format", "csv")))
    return table.set_index(["run", "database", "metric"])
