"""Every database in its official layout and in other known layouts."""

import shutil
from unicodedata import normalize

import numpy as np
import pandas as pd
import pytest

from datasets.readers import READERS, load_labels, read_records, with_defaults
from datasets.scale import RatingScale
from datasets.splits import make_split
from tests.databases import HYPOTHESIS, OFFICIAL, Made, each, picture, write_database
from utils.config import load_config
from utils.errors import MissingFileError, UserError
from utils.settings import ProtocolSettings


def name_of(made: Made) -> str:
    return next(part for part in reversed(made.root.parts) if part in OFFICIAL)


@each()
def test_official_layout(made):
    name = name_of(made)
    ratings, records, recipe = load_labels(name, made.root)
    assert [record.image for record in records] == [record.name for record in records] == list(made.mos)
    np.testing.assert_allclose([record.mos for record in records], list(made.mos.values()), atol=1e-9)
    assert [record.split for record in records] == [made.split.get(image) for image in made.mos]
    assert len({record.reference for record in records} - {None}) == made.references
    np.testing.assert_allclose([sum(record.dos) for record in records], 1, atol=1e-12)
    if name in HYPOTHESIS:
        assert (recipe.sos, recipe.sos_a) == ("hypothesis", HYPOTHESIS[name])
    else:
        np.testing.assert_allclose([record.sos for record in records], list(made.sos.values()), atol=1e-9)
    assert all(str(made.root) in rating.source and not rating.missing for rating in ratings)


@each()
def test_annotations_alone_without_images(made):
    with_images = read_records(name_of(made), made.root)
    for image in made.mos:
        (made.root / image).unlink()
    alone = read_records(name_of(made), made.root, check_images=False)
    assert alone == with_images
    with pytest.raises(MissingFileError, match=f"none of the {len(made.mos)} images exist under"):
        read_records(name_of(made), made.root)


@each()
def test_archive_in_a_folder_of_its_own_and_names_in_other_case(made):
    name = name_of(made)
    expected = read_records(name, made.root)
    first = made.root / expected[0].image
    first.rename(first.with_name(first.name.swapcase()))
    nested = made.root.parent / "elsewhere"
    nested.mkdir()
    shutil.move(made.root, nested / "archive")
    records = read_records(name, nested)
    assert [record.name for record in records] == [record.name for record in expected]
    assert all((nested / record.image).is_file() for record in records)
    assert records[0].image.endswith(first.name.swapcase())


@each("clive")
def test_folders_and_dead_links_are_no_images(made):
    gone, folder = list(made.mos)[:2]
    (made.root / gone).unlink()
    (made.root / gone).symlink_to("nowhere")
    (made.root / folder).unlink()
    (made.root / folder).mkdir()
    with pytest.raises(MissingFileError, match=f"2 of 12 images are missing .*{gone}, {folder}"):
        read_records("clive", made.root)


def test_both_unicode_forms_of_an_accent(tmp_path):
    picture(tmp_path / normalize("NFD", "café.png"), 0.5, 0)
    (tmp_path / "labels.csv").write_text(f"image,mos\n{normalize('NFC', 'café.png')},3\n", encoding="utf-8")
    (record,) = read_records("csv", tmp_path, scale=RatingScale(1, 5, (1, 2, 3, 4, 5)))
    assert (tmp_path / record.image).is_file()


def test_long_lists_of_missing_images_are_cut(tmp_path):
    lines = "".join(f"{index}.png,3\n" for index in range(100))
    (tmp_path / "labels.CSV").write_text(f"image,mos\n{lines}")
    (tmp_path / "99.png").write_text("")
    with pytest.raises(
        MissingFileError, match=r"99 of 100 .* 19\.png and 79 more; python tools/check_dataset\.py --all"
    ):
        read_records("csv", tmp_path, scale=RatingScale(1, 5, (1, 2, 3, 4, 5)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sos_a": 0}, "sos_a: Input should be greater than 0"),
        ({"sos_a": float("nan")}, "sos_a"),
        ({"sos_a": 5}, "less than or equal to 1"),
        ({"sos_a": "fitt"}, "'fit', got 'fitt'"),
        ({"dos": "count"}, "dos: Input should be 'auto', 'counts'"),
        ({"dso": "counts"}, r"unknown option 'dso' \(did you mean 'dos'\?\)"),
        ({"split_file": "x"}, "unknown option 'split_file'"),
    ],
)
def test_options_are_checked_as_in_a_config(options, message, tmp_path):
    made = write_database("kadid10k", tmp_path / "kadid10k")
    with pytest.raises(UserError, match=message):
        read_records("kadid10k", made.root, **options)


def test_koniq_votes_that_contradict_the_stated_figures(tmp_path):
    made = write_database("koniq10k", tmp_path / "koniq10k")
    path = made.root / "koniq10k_scores_and_distributions.csv"
    table = pd.read_csv(path)
    table.loc[2, "MOS"] = 5
    table.loc[4, "SD"] = 0.01
    table.to_csv(path, index=False)
    assert load_labels("koniq10k", made.root)[2].odd == 2
    with pytest.raises(
        UserError, match=r"line 4: .*stated MOS 5 contradicts the votes, which give .*; 1 more problems"
    ):
        read_records("koniq10k", made.root, strict=True)
    path.unlink()
    assert load_labels("koniq10k", made.root)[2].odd == 0  # there MOS is a z-score


@each()
def test_nothing_found_says_what_was_looked_for_and_where(made, tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(MissingFileError, match="in a folder of it; looked for") as caught:
        read_records(name_of(made), empty)
    assert str(empty) in str(caught.value)
    assert all(form in str(caught.value) for form in READERS[name_of(made)].label_files)


@each()
@pytest.mark.parametrize("seed", range(3))
def test_splits(made, seed, tmp_path):
    name = name_of(made)
    records = read_records(name, made.root)
    reference = {record.name: record.reference for record in records}
    protocol = ProtocolSettings(split_seed=seed, validation_fraction=0.2)
    splits = [make_split(records, protocol, number) for number in range(1, 6)]
    for split in splits:
        assert sorted(split.train + split.validation + split.test) == sorted(reference)
        if made.references:
            sides = [{reference[name] for name in part} for part in (split.train, split.validation, split.test)]
            assert sum(len(side) for side in sides) == made.references
    elsewhere = tmp_path / "other" / "disk" / "Data Base"
    shutil.copytree(made.root, elsewhere)
    again = read_records(name, elsewhere)[::-1]  # another folder, another order
    assert [make_split(again, protocol, number) for number in range(1, 6)] == splits
    assert len({split.hash for split in splits}) > 1


@each("koniq10k", "flive")
def test_official_split(made):
    split = make_split(read_records(name_of(made), made.root), ProtocolSettings(method="official", splits=1), 1)
    assert {name: part for part in ("train", "validation", "test") for name in getattr(split, part)} == made.split


@each("flive")
def test_official_split_needs_its_files(made):
    (made.root / "labels=640_padded.csv").unlink()
    records = read_records("flive", made.root)
    with pytest.raises(UserError, match="do not say which part"):
        make_split(records, ProtocolSettings(method="official", splits=1), 1)
    assert [record.split for record in records][-2:] == ["test", "test"]


@pytest.mark.parametrize("name", [name for name in READERS if name != "csv"])
def test_configs_state_what_the_readers_do(name):
    config = load_config(f"configs/{name}.yaml")
    assert RatingScale.from_settings(config.scale) == READERS[name].scale
    assert [dataset.sos_a for dataset in config.dataset] == [READERS[name].sos_a]


def test_resolved_configs_state_every_number():
    assert with_defaults(load_config(None, ["dataset.name=spaq"])).dataset[0].sos_a == 0.1304
    assert with_defaults(load_config(None, ["dataset.sos_a=fit"])).dataset[0].sos_a == "fit"
    members = with_defaults(load_config("configs/koniq10k_spaq.yaml")).dataset
    assert [(member.sos_a, member.scale.high) for member in members] == [(0.09, 5), (0.1304, 100)]
