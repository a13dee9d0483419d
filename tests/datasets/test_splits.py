"""Splits are seeded, disjoint and the same on any machine."""

import json

import pytest

from datasets.ratings import Record
from datasets.splits import make_split, read_split
from utils.errors import MissingFileError, UserError
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


def test_auto_is_by_image_unless_every_image_has_a_reference():
    mixed = [*records(40, references=4), *records(50)[40:]]
    assert len(make_split(mixed, ProtocolSettings(), 1).train) == 40


def test_official_parts():
    split = make_split(
        records(parts=["train", "train", "validation", "test"]), ProtocolSettings(method="official", splits=1), 1
    )
    assert [len(split.train), len(split.validation), len(split.test)] == [26, 12, 12]


def test_auto_is_official_where_every_image_has_a_part():
    auto = ProtocolSettings(method="auto")
    stated = records(parts=["train", "train", "validation", "test"])
    assert make_split(stated, auto, 1) == make_split(stated, ProtocolSettings(method="official"), 1)
    assert make_split(records(), auto, 1) == make_split(records(), ProtocolSettings(), 1)
    drawing = ProtocolSettings(method="auto", validation_fraction=0.1)  # its own validation part takes precedence
    assert make_split(stated, drawing, 1) == make_split(stated, auto, 1)


def test_a_validation_part_is_drawn_from_the_official_training_part():
    made = records(parts=["train", "train", "train", "test"], references=10)
    protocol = ProtocolSettings(method="official", splits=3, validation_fraction=0.2, unit="image")
    whole = make_split(made, ProtocolSettings(method="official"), 1)
    splits = [make_split(made, protocol, number) for number in (1, 2)]
    for split in splits:
        assert split.test == whole.test
        assert sorted((*split.train, *split.validation)) == sorted(whole.train)
        assert len(split.validation) == 10
    assert splits[0].validation != splits[1].validation
    assert splits[0] == make_split(made, protocol, 1)


def test_references_stay_together_in_a_drawn_validation_part():
    made = records(40, parts=["train"] * 3 + ["test"], references=10)
    protocol = ProtocolSettings(method="official", validation_fraction=0.2)
    split = make_split(made, protocol, 1)
    reference = {record.name: record.reference for record in made}
    assert split.validation
    assert not {reference[name] for name in split.validation} & {reference[name] for name in split.train}


@pytest.mark.parametrize(
    ("made", "settings", "message"),
    [
        (records(), {"method": "official", "splits": 1}, "do not say which part 000.jpg and 49 others"),
        (records(), {"unit": "reference"}, "does not state it for every image"),
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


def parts(count=10):
    names = [record.name for record in records(count)]
    return {"train": names[:6], "validation": names[6:7], "test": names[7:]}


def written(tmp_path, content, name="split.json"):
    (tmp_path / name).write_text(content if isinstance(content, str) else json.dumps(content))
    return tmp_path / name


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (parts(), "split.json"),
        ({"train": [*parts()["train"], *parts()["validation"]], "validation": None, "test": parts()["test"]}, "a.json"),
        ([{"train": [], "test": []}, parts()], "split.json"),
        ({name: part for part, names in parts().items() for name in names}, "split.json"),
        ({"databases": {"mine": parts(), "other": {}}}, "split.json"),
        ("image,split\n" + "".join(f"{n},{part}\n" for part, names in parts().items() for n in names), "split.csv"),
    ],
)
def test_split_files(content, name, tmp_path):
    number = 2 if isinstance(content, list) else 1
    split = read_split(records(10), written(tmp_path, content, name), number, "mine")
    assert list(split.train + split.validation + split.test) == [record.name for record in records(10)]
    assert list(split.test) == parts()["test"]


def test_images_left_out_are_taken_out_of_a_split_of_the_whole(tmp_path):
    whole = make_split(records(10), ProtocolSettings(), 1)
    path = written(tmp_path, whole.as_dict())
    with pytest.raises(UserError, match=r"000\.jpg is not in the database"):
        read_split(records(10)[1:], path)
    rest = read_split(records(10)[1:], path, left_out={"000.jpg"})
    assert set(rest.train + rest.test) == set(whole.train + whole.test) - {"000.jpg"}


def test_a_saved_split_is_read_again_wherever_the_images_lie(tmp_path):
    split = make_split(records(), ProtocolSettings(validation_fraction=0.1), 1)
    path = written(tmp_path, {**split.as_dict(), "labels": {"dos": "counts"}})
    moved = [Record(f"other/{r.image}", r.mos, r.sos, r.dos, name=r.name) for r in records()]
    settings = ProtocolSettings(method="file", splits=1)
    assert make_split(moved, settings, 1, path) == split
    as_they_lie = {
        part: [f"other/{name}" for name in names] for part, names in split.as_dict().items() if part != "hash"
    }
    assert read_split(moved, written(tmp_path, as_they_lie)) == split


@pytest.mark.parametrize(
    ("content", "name", "message"),
    [
        (None, "none.json", "does not exist"),
        ("{", "a.json", "is missing or damaged"),
        ([], "a.json", "contains 0 splits, but split 1 was requested"),
        ("3", "a.json", "a split is a mapping, got int"),
        (parts() | {"test": ["nobody.jpg"]}, "a.json", "nobody.jpg is not in the database"),
        (parts() | {"test": parts()["test"][1:]}, "a.json", r"007\.jpg is in the database, but not in the file"),
        (parts() | {"test": [*parts()["test"], "000.jpg"]}, "a.json", "000.jpg is listed twice"),
        ({"train": ["000.jpg", "x/000.jpg"], "test": ["001.jpg"]}, "a.json", "1 images are listed under two names"),
        ('{"000.jpg": "train", "000.jpg": "test"}', "a.json", "given twice: 000.jpg"),
        (parts() | {"test": [7]}, "a.json", "7 is listed twice or not a name"),
        (parts() | {"test": 7}, "a.json", "test must be a list of names, got 7"),
        (parts() | {"tset": []}, "a.json", r"unknown key 'tset' \(did you mean 'test'\?\)"),
        ({"test": ["000.jpg"] * 100}, "a.json", "the part of test is .*000.jpg.*[.][.][.]; allowed"),
        ("[" * 100000, "a.json", "is missing or damaged"),
        (parts() | {"hash": "0123456789abcdef"}, "a.json", "the hash 0123456789abcdef does not match the names"),
        ({"000.jpg": "learning"}, "a.json", "the part of 000.jpg is 'learning'; allowed: train, validation, test"),
        ({"databases": {"other": {}}}, "a.json", "contains splits of other, but not of mine"),
        ("image,split\n000.jpg,train\n000.jpg,test\n", "a.csv", "line 3: 000.jpg occurs twice"),
        ("image,part\n000.jpg,train\n", "a.csv", "no column 'split'"),
    ],
)
def test_bad_split_files(content, name, message, tmp_path):
    path = tmp_path / name if content is None else written(tmp_path, content, name)
    lying = [Record(f"x/{record.image}", 3.0, 0.5, (0.2,) * 5, name=record.name) for record in records(10)]
    with pytest.raises(UserError, match=message) as caught:
        read_split(lying, path, 1, "mine")
    assert str(path) in str(caught.value)
    assert isinstance(caught.value, MissingFileError) == (content is None)


@pytest.mark.parametrize("name", ["a.json", "a.csv"])
def test_one_split_where_two_are_wanted(name, tmp_path):
    text = "image,split\n000.jpg,train\n" if name == "a.csv" else parts()
    with pytest.raises(UserError, match=r"but split 2 was requested; set protocol.splits to 1"):
        read_split(records(10), written(tmp_path, text, name), 2)
