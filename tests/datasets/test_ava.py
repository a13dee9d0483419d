"""AVA: votes in ten bins, images that every copy lacks, and rows that cannot be."""

import shutil

import numpy as np
import pytest

from datasets.readers import load_labels, read_records
from tests.databases import Made, each
from utils.errors import MissingFileError, UserError


def rows_of(made: Made) -> list[list[str]]:
    return [line.split() for line in (made.root / "AVA.txt").read_text().splitlines()]


@each("ava")
def test_labels_are_the_votes(made):
    ratings, records, recipe = load_labels("ava", made.root)
    votes = np.array([row[2:12] for row in rows_of(made)], dtype=int)
    np.testing.assert_allclose([record.dos for record in records], votes / votes.sum(1, keepdims=True))
    assert (recipe.dos, recipe.sos, recipe.odd) == ("counts", "votes", 0)
    assert [rating.voters for rating in ratings] == votes.sum(1).tolist()
    gaussian = read_records("ava", made.root, dos="gaussian")
    assert [record.mos for record in gaussian] == [record.mos for record in records]
    assert {len(record.dos) for record in gaussian} == {10}


@pytest.mark.parametrize("folder", ["image", "images/images", "image/image", "AVA/images", ""])
@each("ava")
def test_images_elsewhere(made, folder):
    before = read_records("ava", made.root)
    shutil.move(made.root / "images", made.root.parent / "moved")
    (made.root / folder).mkdir(parents=True, exist_ok=True)
    for path in (made.root.parent / "moved").iterdir():
        path.rename(made.root / folder / path.name.upper())
    records = read_records("ava", made.root)
    assert [record.name for record in records] == [record.name for record in before] == list(made.mos)
    assert records[0].image == f"{folder}/953619.JPG".removeprefix("/")


@each("ava")
@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("3 953605 0 0 0 0 0 0 0 0 0 0 2 0 1394", r"line 3: the votes on image 953605 are \[0.*\]; .* not all zero"),
        (
            "3 953605 0 1 -5 17 38 36 15 6 5 1 2 0 1394",
            r"line 3: the votes on image 953605 are \[0.*none of them negative",
        ),
        ("3 953605 0 1 2.5 17 38 36 15 6 5 1 2 0 1394", r"line 3: .*they must be whole numbers"),
        ("3 953605 0 1 x 17 38 36 15 6 5 1 2 0 1394", r"line 3: c3 is 'x', which is not a number"),
        ("3 953605 0 1 5 17 38 36 15 6 5 1 2 0", r"line 3: the row has less than 15 numbers"),
        ("3 953605 0 1 5 17 38 36 15 6 5 1 2 0 1394 7", r"line 3: rows have more cells"),
        ("3 a/b 0 1 5 17 38 36 15 6 5 1 2 0 1394", r"line 3: image is 'a/b'; expected a whole number"),
        ("3 953619 0 1 5 17 38 36 15 6 5 1 2 0 1394", r"line 3: images/953619\.jpg is labelled twice"),
    ],
)
def test_rows_that_cannot_be(made, row, message):
    lines = (made.root / "AVA.txt").read_text().splitlines()
    (made.root / "AVA.txt").write_text("\r\n".join([*lines[:2], row, *lines[3:]]))
    with pytest.raises(UserError, match=rf"AVA\.txt, {message}"):
        read_records("ava", made.root)


@each("ava")
def test_images_that_are_missing_or_damaged(made):
    missing, damaged = list(made.mos)[3:5]
    (made.root / missing).unlink()
    (made.root / damaged).write_bytes(b"")
    with pytest.raises(MissingFileError, match=rf"1 of 12 images are missing .*{missing}; damaged: 1"):
        read_records("ava", made.root)
    _, records, recipe = load_labels("ava", made.root, unreadable="omit")
    assert (recipe.images, recipe.left_out, recipe.damaged) == (10, 1, 1)
    assert {missing, damaged}.isdisjoint(record.name for record in records)
