"""What the tests of scoring share: settings of a small network, and the rows of an output."""

import argparse
import csv
import json
from pathlib import Path

import pyarrow.parquet as pq

from datasets.scale import RatingScale
from inference import main
from scoring.inputs import find_images
from scoring.options import parse_arguments

SUFFIXES = ("csv", "jsonl", "json", "parquet")
ACR = RatingScale(1, 5, (1, 2, 3, 4, 5))
DMOS = RatingScale(0, 100, (10, 30, 50, 70, 90), higher_is_better=False)  # that of SETTINGS
SETTINGS = {
    "model": {"backbone": "cvt_nano"},
    "transform": {"resize": 40, "crop": 32},
    "scale": {"low": 0, "high": 100, "bin_centers": [10, 30, 50, 70, 90], "higher_is_better": False},
}


def rows_of(path: Path) -> list[dict]:
    """The rows of an output in any format but text, numbers as numbers, nothing as None."""
    if path.suffix == ".csv":
        with open(path, encoding="utf-8", newline="") as file:
            return [{name: _value(text) for name, text in row.items()} for row in csv.DictReader(file)]
    if path.suffix == ".parquet" or path.is_dir():
        return pq.read_table(path).to_pylist()
    content = path.read_text(encoding="utf-8")
    return json.loads(content)["images"] if path.suffix == ".json" else [json.loads(x) for x in content.splitlines()]


def scored(output: Path, *arguments) -> tuple[int, list[dict]]:
    """Exit status and rows of `inference.py ARGUMENTS --output OUTPUT`."""
    status = main([*map(str, arguments), "--device", "cpu", "--output", str(output)])
    return status, rows_of(output)


def found(*places: str, **options) -> list[str]:
    """The images that these places and options mean."""
    args = parse_arguments([*places, "--list", "replaced"])
    return find_images(argparse.Namespace(**{**vars(args), "list": [], **options}))


def _value(text: str):
    if text == "":
        return None
    try:
        return int(text) if text.lstrip("-").isdigit() else float(text)
    except ValueError:
        return text
