"""Splits: seeded, disjoint, the same on any machine."""

import pytest

from datasets.labels import Record
from datasets.splits import make_split
from utils.errors import UserError
from utils.settings import ProtocolSettings


def records(count=50, references=None, parts=None):
    return [
        Record(
            f"{index:03}.jpg",
            3.0,
            0.5,
            (0.2,) * 5,
            reference=f"ref{index % references}" if references else None,
            split=parts[index % len(parts)] if parts else None,
        )
        for index in range(count)
    ]


def test_parts_cover_everything_once():
    split = make_split(records(), ProtocolSettings(validation_fraction=0.1), 1)
    assert [len(split.train), len(split.validation), len(split.test)] == [35, 5, 10]
    assert sorted(split.train + split.validation + split.test) == [record.image for record in records()]


@pytest.mark.parametrize(("count", "train"), [(10_073, 8058), (586, 469), (1162, 930)])
def test_sizes_are_the_published_ones(count, train):
    assert len(make_split(records(count), ProtocolSettings(), 1).train) == train


def test_validation_is_taken_from_training():
    with_validation = make_split(records(), ProtocolSettings(validation_fraction=0.2), 3)
    without = make_split(records(), ProtocolSettings(), 3)
    assert with_validation.test == without.test
    assert set(with_validation.train + with_validation.validation) == set(without.train)


def test_order_of_the_records_does_not_matter_but_number_and_seed_do():
    split = make_split(records(), ProtocolSettings(), 1)
    assert make_split(records()[::-1], ProtocolSettings(), 1).hash == split.hash
    assert make_split(records(), ProtocolSettings(), 2).hash != split.hash
    assert make_split(records(), ProtocolSettings(split_seed=1), 1).hash != split.hash


def test_this_split_is_the_same_on_every_machine():
    split = make_split(records(), ProtocolSettings(), 1)
    assert split.hash == "837ee1eeb87b0d83"
    assert split.test[:4] == ("006.jpg", "007.jpg", "012.jpg", "018.jpg")


def test_no_reference_is_on_both_sides():
    split = make_split(records(60, references=12), ProtocolSettings(), 1)
    reference = {record.image: record.reference for record in records(60, references=12)}
    sides = [{reference[name] for name in part} for part in (split.train, split.test)]
    assert not sides[0] & sides[1]
    assert len(sides[0]) == 10


def test_unit_image_ignores_references():
    split = make_split(records(60, references=12), ProtocolSettings(unit="image"), 1)
    assert len(split.train) == 48


def test_official_parts():
    split = make_split(
        records(parts=["train", "train", "validation", "test"]), ProtocolSettings(method="official", splits=1), 1
    )
    assert [len(split.train), len(split.validation), len(split.test)] == [26, 12, 12]


@pytest.mark.parametrize(
    ("made", "settings", "message"),
    [
        (records(), {"method": "official", "splits": 1}, "do not say which part 000.jpg and 49 others"),
        (records(), {"unit": "reference"}, "does not state references"),
        (records(2), {"train_fraction": 0.9}, "leave the test part of split 1 empty"),
        (records(3), {"selection": "validation", "validation_fraction": 0.1}, "leave the validation part"),
        (
            records(parts=["train", "test"]),
            {"method": "official", "splits": 1, "selection": "validation"},
            "leave the validation part",
        ),
    ],
)
def test_impossible_splits(made, settings, message):
    with pytest.raises(UserError, match=message):
        make_split(made, ProtocolSettings(**settings), 1)
