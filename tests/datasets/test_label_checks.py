"""Unusable and inconsistent rows, and how they are handled."""

import pytest

from datasets.label_checks import find_problems, largest_sos
from datasets.ratings import Rating
from datasets.readers import load_labels
from datasets.scale import RatingScale
from tests.databases import write_database
from utils.errors import MissingFileError, UserError

ACR = RatingScale(1, 5, (1, 2, 3, 4, 5))


def problems(**fields):
    rating = Rating(**{"image": "a.png", "mos": 3.0, "source": "labels.csv, line 2", **fields})
    return [(problem.kind, problem.usable) for problem in find_problems([rating], ACR)]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, []),
        ({"mos": 1.0, "sos": 0.0}, []),
        ({"missing": True}, [("missing image", False)]),
        ({"mos": 5.1}, [("MOS outside the scale", False)]),
        ({"mos": 5.1, "open_ended": True}, [("MOS outside the scale", True)]),
        ({"sos": -0.1}, [("impossible SOS", False)]),
        ({"sos": 2.9}, [("impossible SOS", False)]),
        ({"sos": 2.8}, []),  # two voters, 1 and 5
        ({"mos": 1.5, "sos": 2.0}, [("impossible SOS", True)]),  # at most 1.87 of two voters
        ({"mos": 1.5, "sos": 1.8}, []),
        (
            {"mos": 3.0, "sos": 2.1, "counts": (10, 0, 0, 0, 10)},
            [("impossible SOS", True)],
        ),  # at most 2.05 of twenty
        ({"mos": 3.0, "sos": 2.05, "counts": (10, 0, 0, 0, 10)}, []),
        ({"counts": (0, 0, 1, 1, 0)}, []),
        ({"counts": (0, 0, 0, 1, 0)}, [("contradiction", True)]),
        ({"note": "odd"}, [("contradiction", True)]),
    ],
)
def test_kinds(fields, expected):
    assert problems(**fields) == expected


def test_largest_sos_is_that_of_votes_at_both_ends():
    votes = [1] * 3 + [5] * 7
    mos = sum(votes) / 10
    sample = (sum((vote - mos) ** 2 for vote in votes) / 9) ** 0.5
    assert largest_sos(mos, 10, ACR) == pytest.approx(sample)
    assert largest_sos(1, 10, ACR) == 0


def test_voters():
    assert Rating("a", 3, counts=(1.0, 2.0)).voters == 3
    assert Rating("a", 3, counts=(0.4, 0.6)).voters is None
    assert Rating("a", 3, counts=(0.0, 1.0)).voters is None
    assert Rating("a", 3, grades=(0.4, 0.6)).voters == 2
    assert Rating("a", 3).voters is None
    assert Rating("a", 3, counts=(1e9, 1e9)).voters is None
    assert Rating("a", 3, counts=(1e308, 1e308)).voters is None


def test_odd_rows_are_counted_and_refused_by_strict(tmp_path):
    made = write_database("csiq", tmp_path / "csiq")
    lines = "1600\t1\tnoise\t1\t0.5\t0.02\nlady\t1\tblur\t1\t0.1\t0.5\n"
    (made.root / "csiq.beta.txt").write_text(lines)
    _, records, recipe = load_labels("csiq", made.root, check_images=False)
    assert (len(records), recipe.odd) == (2, 1)
    assert "inconsistent rows: 1" in recipe.describe()
    with pytest.raises(
        UserError, match=r"csiq\.beta\.txt, line 1: SOS 0.5 of .* is above 0.19.*, the largest possible for MOS 0.02"
    ):
        load_labels("csiq", made.root, check_images=False, strict=True)


def test_missing_images_can_be_left_out(tmp_path):
    made = write_database("kadid10k", tmp_path / "kadid10k")
    gone = list(made.mos)[3]
    (made.root / gone).unlink()
    with pytest.raises(MissingFileError, match=f"1 of 24 images are missing .*{gone}"):
        load_labels("kadid10k", made.root)
    _, records, recipe = load_labels("kadid10k", made.root, unreadable="omit")
    assert gone not in {record.image for record in records}
    assert (recipe.images, recipe.left_out) == (23, 1)
    assert "1 images missing and left out" in recipe.describe()
    with pytest.raises(MissingFileError):
        load_labels("kadid10k", made.root, unreadable="omit", strict=True)


def test_the_number_of_further_problems_is_said(tmp_path):
    (tmp_path / "labels.csv").write_text("image,mos\na.png,7\nb.png,8\nc.png,3\n")
    with pytest.raises(
        UserError, match=r"line 2: MOS 7 .*; 1 more problems, python tools/check_dataset\.py --all lists them all"
    ):
        load_labels("csv", tmp_path, check_images=False, scale=ACR)
