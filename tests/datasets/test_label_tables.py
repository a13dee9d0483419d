"""Label tables as people keep them: numbers, titles, names, votes, units."""

import re

import numpy as np
import pytest

from datasets.label_checks import find_doubts
from datasets.ratings import Rating
from datasets.readers import load_labels, read_records
from datasets.scale import RatingScale
from datasets.splits import read_split
from tests.databases import picture
from utils.errors import UserError

ACR = RatingScale(1, 5, (1, 2, 3, 4, 5))
PERCENT = RatingScale(0, 100, (10, 30, 50, 70, 90))


def load(root, text, **options):
    (root / "labels.csv").write_text(text, encoding="utf-8")
    return load_labels("csv", root, **{"check_images": False, "scale": ACR, **options})


def labels(root, text, **options):
    return [(record.image, record.mos, record.sos) for record in load(root, text, **options)[1]]


@pytest.mark.parametrize(
    "text",
    [
        "image;mos;sos\na.png;3,125;0,5\nb.png;2;0,75\n",
        "image;mos;sos\na.png;3,125;0,500\nb.png;2,000;0,750\n",  # not thousands, since commas do not separate
        "image\tmos\tsos\na.png\t3,125\t,5\nb.png\t2\t7,5e-1\n",
        'image,mos,sos\na.png,"3,125","0,5"\nb.png,"2,0","0,75"\n',
    ],
)
def test_decimal_commas(text, tmp_path):
    assert labels(tmp_path, text) == [("a.png", 3.125, 0.5), ("b.png", 2.0, 0.75)]


@pytest.mark.parametrize("cell", ['"1,234"', '"1,234.5"', '"3,5,1"', '"3,"'])
def test_commas_that_may_mean_something_else(cell, tmp_path):
    with pytest.raises(UserError, match=r"line 2: mos is .* which is not a number"):
        labels(tmp_path, f"image,mos\na.png,{cell}\n")


@pytest.mark.parametrize("title", ["SOS", "sd", "Std", "std.", "StdDev", "Standard_Deviation", "MOS_std", "std.MOS"])
def test_titles_of_the_standard_deviation(title, tmp_path):
    _, records, recipe = load(tmp_path, f"File Name,MOS,{title}\na.png,3,0.5\n")
    assert (records[0].image, records[0].sos, recipe.sos) == ("a.png", 0.5, "file")


@pytest.mark.parametrize("cell", ["", "NaN", "nan", "NA", "N/A", "null", "None", "-"])
def test_cells_without_a_value(cell, tmp_path):
    assert load(tmp_path, f"image,mos,sos\na.png,3,{cell}\nb.png,2,{cell}\n")[2].sos == "hypothesis"
    with pytest.raises(UserError, match=r"line 2: no SOS for a\.png, although other images have one"):
        load(tmp_path, f"image,mos,sos\na.png,3,{cell}\nb.png,2,0.5\n")
    with pytest.raises(UserError, match=r"line 2: mos is .* which is not a number"):
        load(tmp_path, f"image,mos\na.png,{cell}\nb.png,2\n")


def test_names_are_found_as_other_programs_spell_them(tmp_path):
    for name in ("a.png", "sub/B.JPG", "sub/c.d.png", "sub/e.png", "sub/e.jpg"):
        picture(tmp_path / name, 0.5, 0)
    (tmp_path / "sub" / "c.d.txt").write_text("about c.d")
    names = ["./a.png", "sub\\b.jpg", f"{tmp_path}/sub/c.d", "sub/E.PNG"]
    text = "image,mos\n" + "".join(f"{name},3\n" for name in names)
    found = labels(tmp_path, text, check_images=True)
    assert [image for image, *_ in found] == ["a.png", "sub/B.JPG", "sub/c.d.png", "sub/e.png"]
    with pytest.raises(UserError, match=r"1 of 2 images are missing in .*: sub/e;"):
        labels(tmp_path, "image,mos\na.png,3\nsub/e,3\n", check_images=True)  # two could be meant


def test_split_files_are_read_by_the_same_rules(tmp_path):
    _, records, _ = load(tmp_path, "image,mos\nx/a.png,3\nx/b.png,2\nx/c.png,1\n")
    text = "\ufeffImage;Split\r\n.\\x\\a;Training\r\nx/B.PNG;VAL\r\nx/c.png;test\r\n"
    (tmp_path / "split.csv").write_bytes(text.encode())
    split = read_split(records, tmp_path / "split.csv")
    assert (split.train, split.validation, split.test) == (("x/a.png",), ("x/b.png",), ("x/c.png",))
    (tmp_path / "split.json").write_text('{"Train": ["x/a"], "val": ["x\\\\b.png"], "test": ["./x/c.png"]}')
    assert read_split(records, tmp_path / "split.json") == split
    both = "image,split\nx/a.png,train\nx/a,test\nx/b.png,test\nx/c.png,test\n"
    (tmp_path / "split.csv").write_text(both)
    with pytest.raises(UserError, match="1 images are listed under two names"):
        read_split(records, tmp_path / "split.csv")


def test_the_only_table_is_found_beside_what_file_managers_leave(tmp_path):
    (tmp_path / "._labels.tsv").write_bytes(b"\0\5\x16\7")
    (tmp_path / "labels.TSV").write_text("image\tmos\na.png\t3\n")
    assert len(read_records("csv", tmp_path, check_images=False, scale=ACR)) == 1
    assert labels(tmp_path, "image,mos\na.png,4\n")[0][1] == 4  # a .csv comes first


def test_parts_in_labels_in_any_spelling(tmp_path):
    _, records, _ = load(tmp_path, "image,mos,split\na.png,3,Training\nb.png,2,VAL\nc.png,2,\n")
    assert [record.split for record in records] == ["train", "validation", None]


def test_votes_alone_give_mos_and_sos(tmp_path):
    text = "image,C1,C2,C3,C4,C5\na.png,10,0,0,0,10\nb.png,0,0,20,0,0\nc.png,1,0,0,0,0\n"
    _, records, recipe = load(tmp_path, text)
    votes = np.repeat([1, 5], 10)
    assert [record.mos for record in records] == [3, 3, 1]
    assert [record.sos for record in records] == pytest.approx([votes.std(ddof=1), 0, 0])
    assert records[0].dos == (0.5, 0, 0, 0, 0.5)
    assert (recipe.dos, recipe.sos) == ("counts", "votes")
    assert "SOS from votes" in recipe.describe()


def test_fractions_alone_give_mos_and_sos(tmp_path):
    text = "image,p1,p2,p3,p4,p5\na.png,.5,0,-1e-17,0,.5\nb.png,0,0,0.9999999,0,0\n"
    assert labels(tmp_path, text) == [("a.png", 3, 2), ("b.png", 3, 0)]  # no sample of known size


def test_what_is_stated_comes_before_the_votes(tmp_path):
    text = "image,mos,sos,c1,c2,c3,c4,c5\na.png,,,10,0,0,0,10\nb.png,3.1,0.1,0,0,20,0,0\n"
    assert labels(tmp_path, text) == [("a.png", 3, pytest.approx(2.0519567)), ("b.png", 3.1, 0.1)]
    assert labels(tmp_path, text, sos_source="hypothesis")[1][2] == pytest.approx((0.1477 * 2.1 * 1.9) ** 0.5)


def test_votes_in_other_bins_need_a_mos(tmp_path):
    with pytest.raises(UserError, match=r"line 2: 3 columns of votes for a\.png, but the scale has 5 bins; .*the MOS"):
        load(tmp_path, "image,c1,c2,c3\na.png,1,1,1\n")
    assert load(tmp_path, "image,mos,c1,c2,c3\na.png,3,1,1,1\n", dos="gaussian")[2].sos == "hypothesis"


def test_rounding_errors_at_the_ends_of_a_scale(tmp_path):
    float32 = np.nextafter(np.float32(5), np.float32(6))
    text = f"image,mos,sos\na.png,5.000000000000001,-1e-17\nb.png,0.9999999999999999,0\nc.png,{float32},0\n"
    assert [mos for _, mos, _ in labels(tmp_path, text)] == [5, 1, 5]
    assert [sos for *_, sos in labels(tmp_path, text)] == [0, 0, 0]
    with pytest.raises(UserError, match=r"MOS 5\.00001 of a\.png is outside the scale 1 to 5"):
        load(tmp_path, "image,mos\na.png,5.00001\n")
    assert RatingScale(0, 0.3, (0.1, 0.2, 0.1 + 0.2)).bin_centers[-1] == 0.3


def ratings(mos, sos, voted=False):
    return [Rating(str(k), m, s, sos_from_votes=voted) for k, (m, s) in enumerate(zip(mos, sos, strict=True))]


@pytest.mark.parametrize(
    ("mos", "sos", "doubts"),
    [
        (np.linspace(5, 95, 20), np.full(20, 15.0), []),
        (np.linspace(5, 95, 20), np.full(20, 0.9), ["the SOS are smaller .* another unit"]),
        (np.linspace(5, 95, 20), np.full(20, 3.0), ["or standard errors"]),
        (np.linspace(1, 5, 20), np.full(20, 8.0), ["the MOS lie within 1 to 5, a small part"]),
        (np.linspace(5, 95, 5), np.full(5, 0.9), []),  # few images
        (np.linspace(5, 95, 20), [None] * 20, []),
    ],
)
def test_labels_in_another_unit_are_doubted(mos, sos, doubts):
    found = find_doubts(ratings(mos, sos), PERCENT)
    assert len(found) == len(doubts)
    for text, pattern in zip(found, doubts, strict=True):
        assert re.search(pattern, text)


def test_unanimous_votes_are_not_doubted():
    assert find_doubts(ratings(np.linspace(5, 95, 20), np.zeros(20), voted=True), PERCENT) == []


def test_doubts_are_warnings_and_a_large_sos_is_asked_about(tmp_path):
    rows = [f"{k}.png,{5 * k + 1},{0.8 + k % 3 / 10}" for k in range(20)]
    with pytest.warns(UserWarning, match=r"labels\.csv: the SOS are smaller"):
        load(tmp_path, "\n".join(["image,mos,std", *rows]), scale=PERCENT)
    with pytest.raises(UserError, match=r"SOS 20 of a\.png is impossible; .* is it in another unit"):
        read_records("csv", root_with(tmp_path, "image,mos,sos\na.png,3,20\n"), check_images=False, scale=ACR)


def root_with(root, text):
    (root / "labels.csv").write_text(text)
    return root
