"""Which epoch is chosen where the criterion is not defined, and what is said of it."""

import json
import math

import pytest

from datasets.ratings import Record
from datasets.splits import make_split
from experiments.evaluation.predict import joined_metrics
from experiments.results.lines import results_lines
from experiments.training.selection import is_better, selections
from tests.running import folder_of, train
from utils.errors import UserError
from utils.settings import ProtocolSettings

NAN = math.nan


def history_of(validation, test=(0.1, 0.2, 0.3)):
    return [
        {"epoch": epoch, "validation": {"srcc": one, "databases": {}}, "test": {"srcc": other, "databases": {}}}
        for epoch, (one, other) in enumerate(zip(validation, test, strict=True), start=1)
    ]


@pytest.mark.parametrize(
    ("validation", "epoch"),
    [((0.5, 0.7, 0.6), 2), ((NAN, 0.1, NAN), 2), ((0.1, NAN, 0.1), 1), ((NAN, NAN, NAN), None)],
)
def test_an_epoch_without_a_criterion_is_not_preferred(validation, epoch):
    chosen = selections(history_of(validation)).get("validation")
    assert (chosen and chosen["epoch"]) == epoch


def test_as_long_as_none_is_defined_the_later_epoch_counts():
    one, other, third = history_of((NAN, NAN, 0.3))
    assert is_better(other, one, "validation")
    assert is_better(third, other, "validation")
    assert not is_better(one, third, "validation")


def test_the_mean_over_databases_is_not_defined_where_one_of_them_is_not():
    """Else an epoch would be better for leaving out a hard database."""
    means = [joined_metrics({"easy": {"srcc": 0.9}, "hard": {"srcc": hard}})["srcc"] for hard in (NAN, 0.5)]
    assert math.isnan(means[0])
    assert means[1] == pytest.approx(0.7)


def test_one_validation_image_selects_nothing_and_is_said_so(quick, tmp_path, capsys):
    options = ("protocol.validation_fraction=0.05", "train.epochs=2")
    train(quick, *options)
    metrics = json.loads((folder_of(tmp_path) / "metrics.json").read_text())
    assert set(metrics["selections"]) == {"last", "release"}
    assert metrics["undefined"] == ["validation"]
    assert "the SRCC of the validation part is not defined in any epoch" in capsys.readouterr().out
    assert "validation part is not defined" in results_lines(metrics)
    with pytest.raises(
        UserError, match=r"part of split 1 of koniq10k has one image.*raise protocol\.validation_fraction"
    ):
        train(quick, *options, "run.name=other", "protocol.selection=validation")
    assert not (tmp_path / "runs" / "other").exists()


def test_an_undefined_test_part_saves_the_last_epoch(quick, tmp_path):
    train(quick, "protocol.train_fraction=0.95", "train.epochs=2")
    metrics = json.loads((folder_of(tmp_path) / "metrics.json").read_text())
    assert (metrics["selected_epoch"], metrics["undefined"]) == (2, ["test"])


def test_the_validation_part_of_a_file_needs_two_images(tmp_path):
    records = [Record(f"{number}.png", 3.0, 1.0, (0, 0, 1, 0, 0)) for number in range(5)]
    (tmp_path / "split.json").write_text(
        '{"train": ["0.png", "1.png"], "validation": ["2.png"], "test": ["3.png", "4.png"]}'
    )
    protocol = ProtocolSettings(method="file", selection="validation", splits=1)
    with pytest.raises(UserError, match="has one image, so SRCC is not defined; give it more images"):
        make_split(records, protocol, 1, tmp_path / "split.json")
