"""Finished splits by hand, and a page as its reader has it."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd

from datasets.scale import RatingScale
from experiments.evaluation.predict import joined_metrics
from experiments.results.report import write_report
from tests.written import metrics_content, split_content
from utils.config import config_from_dict, dump_config
from utils.files import to_json
from utils.metrics import emd, pit_histogram, split_metrics

CENTERS = np.arange(1, 6)
SCALE = RatingScale(1, 5, tuple(CENTERS))
VOID = {"meta", "img", "br", "link", "input", "hr"}
ADDRESSES = {"src", "href", "xlink:href", "action", "data", "poster", "srcset"}


class Page(HTMLParser):
    """A page as its reader has it: text, ids, addresses, attributes; refuses tags that do not match."""

    def __init__(self, text: str):
        super().__init__()
        self.source, self.open, self.text, self.ids, self.addresses, self.tags, self.labels = (
            text,
            [],
            "",
            [],
            [],
            [],
            [],
        )
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.tags.append((tag, given))
        self.ids += [given["id"]] if "id" in given else []
        self.addresses += [value for name, value in attributes if name in ADDRESSES]
        self.labels += [""] if given.get("role") == "img" else []
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, tag

    def handle_data(self, data):
        if "svg" in self.open and self.open[-1] in ("title", "desc"):
            self.labels[-1] += f"{data}. " if self.open[-1] == "title" else data
        elif self.open and self.open[-1] not in ("style", "pre"):
            self.text += f"{data} "

    @property
    def words(self) -> str:
        return " ".join(self.text.split())

    def between(self, start: str, end: str) -> str:
        return self.words.partition(start)[2].partition(end)[0]


def page_of(run: Path) -> Page:
    page = Page(write_report(run).read_text(encoding="utf-8"))
    without_yaml = re.sub(r"<pre>.*?</pre>|data:image/jpeg;base64,[^\"]*", "", page.source, flags=re.DOTALL)
    assert not re.search(r"\b(nan|NaN|None|null|inf|undefined)\b", without_yaml)
    return page


def random_dos(images: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).dirichlet(2 * np.ones(5), images)


def quantities(dos: np.ndarray) -> dict:
    return {"mos": SCALE.mean(dos), "sos": SCALE.std(dos), "dos": dos}


def write_split(run: Path, number: int = 1, names: list[str] | None = None, pred_dos=None, **changes) -> dict:
    """A finished split by hand; `changes` replace what is in metrics.json. Returns that."""
    names = [f"{index}.jpg" for index in range(12)] if names is None else names
    target = quantities(random_dos(len(names), seed=number))
    pred = quantities(random_dos(len(names), seed=number + 50) if pred_dos is None else pred_dos)
    folder = run / f"split_{number:02d}"
    folder.mkdir(parents=True)
    config = config_from_dict(
        {"run": {"name": run.name}, "dataset": {"root": str(run / "images")}, "protocol": {"splits": 3}}, "the test"
    )
    (folder / "config.yaml").write_text(dump_config(config))
    table = {"image": names}
    for side, values in (("target", target), ("pred", pred)):
        table |= {f"{side}_{name}": values[name] for name in ("mos", "sos")}
        table |= {f"{side}_p{k}": values["dos"][:, k - 1] for k in range(1, 6)}
    pd.DataFrame(table).to_csv(folder / "predictions.csv", index=False)
    metrics = split_metrics(pred, target, CENTERS)
    log = [{"epoch": 1, "lr": 1e-5, "train": {"total": 9.0, "dos": 0.3, "mos": 0.9, "sos": 0.1}}]
    log[0]["test"] = joined_metrics({"koniq10k": metrics})
    (folder / "log.jsonl").write_text(to_json({**log[0], "seconds": 3.0}) + "\n")
    (folder / "split.json").write_text(
        to_json(split_content(["koniq10k"], hash=f"hash{number}", train=["x"], test=names))
    )
    whole = metrics_content(
        {"koniq10k": metrics},
        **{
            "intervals": {name: (value - 0.01, value + 0.01) for name, value in metrics.items()},
            "interval_units": {"unit": "image", "count": len(names)},
            "pit_histogram": pit_histogram(pred["dos"], target["mos"], CENTERS),
            "environment": {"python": "3.11", "machine": "a machine"},
            **changes,
        },
    )
    (folder / "metrics.json").write_text(to_json(whole))
    return json.loads(to_json(whole))


def distances_of(predictions: Path, name: str) -> np.ndarray:
    """EMD of each row of one database in predictions.csv."""
    table = pd.read_csv(predictions)
    rows = table[table["database"] == name]
    return emd(*(rows[[f"{side}_p{k}" for k in range(1, 6)]].to_numpy() for side in ("pred", "target")))
