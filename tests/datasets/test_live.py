"""LIVE: images by their place in MATLAB files, copies of references among them, and files that do not fit."""

import numpy as np
import pytest
from scipy.io import loadmat, savemat

from datasets.readers import load_labels, read_ratings, read_records
from datasets.splits import make_split
from tests.databases import each
from utils.errors import MissingFileError, UserError
from utils.settings import ProtocolSettings

SCORES, REFERENCES = "dmos_realigned.mat", "refnames_all.mat"


def change(root, **variables):
    content = {key: value for key, value in loadmat(root / SCORES).items() if not key.startswith("__")}
    savemat(root / SCORES, content | variables)


def stored(root, name):
    return loadmat(root / SCORES)[name].astype(float)


@each("live")
def test_images_by_their_place(made):
    change(made.root, orgs=np.zeros((1, 982)))
    ratings = read_ratings("live", made.root)
    assert len(ratings) == 982
    starts = {0: "jp2k", 227: "jpeg", 460: "wn", 634: "gblur", 808: "fastfading"}
    assert {place: ratings[place].name for place in starts} == {k: f"{name}/img1.bmp" for k, name in starts.items()}
    assert ratings[981].name == "fastfading/img174.bmp"


@each("live")
def test_references_are_left_out_and_split_apart(made):
    records = read_records("live", made.root)
    assert len(records) == 15
    reference = {record.name: record.reference for record in records}
    assert set(reference.values()) == {"bikes", "house", "lighthouse2", "ocean", "woman"}
    split = make_split(records, ProtocolSettings(), 1)
    assert not {reference[name] for name in split.train} & {reference[name] for name in split.test}


@each("live")
def test_realigned_scores_may_leave_the_scale(made):
    dmos = stored(made.root, "dmos_new")
    dmos[0, :2] = -2.5, 111.5
    change(made.root, dmos_new=dmos)
    _, records, recipe = load_labels("live", made.root)
    assert [record.mos for record in records[:2]] == [-2.5, 111.5]
    assert recipe.odd == 2


@each("live")
def test_files_that_do_not_fit(made):
    dmos, std = (stored(made.root, name) for name in ("dmos_new", "dmos_std"))
    change(made.root, dmos_new=np.where(np.arange(982) == 228, np.nan, dmos))
    with pytest.raises(UserError, match=r"dmos_realigned\.mat, entry 229: mos is '', which is not a number"):
        read_records("live", made.root)
    change(made.root, dmos_new=dmos, dmos_std=np.where(np.arange(982) == 228, -1, std))
    with pytest.raises(UserError, match=r"entry 229: SOS -1 of jpeg/img2\.bmp is impossible"):
        read_records("live", made.root)
    change(made.root, dmos_new=dmos[:, :779])
    with pytest.raises(UserError, match=r"'dmos_new': 779, .*; release 2 of LIVE has 982 of each"):
        read_records("live", made.root)
    (made.root / REFERENCES).unlink()
    with pytest.raises(MissingFileError, match=r"refnames_all\.mat, which has the reference of each image, is not in"):
        read_records("live", made.root)


@each("live")
def test_missing_images(made):
    (made.root / "wn" / "img2.bmp").unlink()
    with pytest.raises(MissingFileError, match=r"1 of 15 images are missing .*wn/img2\.bmp"):
        read_records("live", made.root)
    assert load_labels("live", made.root, unreadable="omit")[2].left_out == 1
