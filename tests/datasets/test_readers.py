"""Valid and invalid label files of every format."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from datasets.readers import load_labels, read_records
from datasets.scale import RatingScale
from tests.conftest import KONIQ_SCORES
from utils.errors import MissingFileError, UserError

VOTES = ["c1", "c2", "c3", "c4", "c5"]
PERCENT = RatingScale(0, 100, (10, 30, 50, 70, 90))


def write_sets_form(root: Path, table: pd.DataFrame) -> None:
    """Write the GitHub version: fractions, a z-score as MOS, the official parts."""
    sets = table.drop(columns="MOS_zscore").assign(MOS=table["MOS_zscore"])
    sets[VOTES] = table[VOTES].div(100)
    sets["set"] = ["training"] * 12 + ["validation"] * 3 + ["test"] * 5
    sets.to_csv(root / "koniq10k_distributions_sets.csv", index=False)


def test_koniq_votes(koniq_root, koniq_table):
    records = read_records("koniq10k", koniq_root)
    assert [record.image for record in records] == [f"1024x768/{name}" for name in koniq_table["image_name"]]
    np.testing.assert_allclose([record.mos for record in records], koniq_table["MOS"], atol=1e-8)
    assert [record.sos for record in records] == koniq_table["SD"].tolist()
    np.testing.assert_allclose([record.dos for record in records], koniq_table[VOTES] / 100)
    assert {record.split for record in records} == {None}


def test_koniq_forms_agree(koniq_root, koniq_table):
    votes = read_records("koniq10k", koniq_root)
    write_sets_form(koniq_root, koniq_table)
    both = read_records("koniq10k", koniq_root)
    (koniq_root / KONIQ_SCORES).unlink()
    sets = read_records("koniq10k", koniq_root)
    (koniq_root / "koniq10k_distributions_sets.csv").unlink()
    text = koniq_table.to_csv(sep="\t", header=False, index=False, lineterminator="\r\n").removesuffix("\r\n")
    (koniq_root / "koniq10k_scores_and_distributions.txt").write_bytes(text.encode())
    release = read_records("koniq10k", koniq_root)
    for other in (both, sets, release):
        assert [record.image for record in other] == [record.image for record in votes]
        np.testing.assert_allclose([record.mos for record in other], [record.mos for record in votes])
        np.testing.assert_allclose([record.dos for record in other], [record.dos for record in votes])
    assert [record.split for record in both] == [record.split for record in sets]
    assert [record.split for record in both][::6] == ["train", "train", "validation", "test"]


def test_koniq_quoted_names_and_other_folder(koniq_root, koniq_table):
    koniq_table.to_csv(koniq_root / KONIQ_SCORES, index=False, quoting=1)
    (koniq_root / "1024x768").rename(koniq_root / "512x384")
    assert read_records("koniq10k", koniq_root)[0].image == "512x384/1000.jpg"


@pytest.mark.parametrize("folder", ["koniq10k_1024x768/1024x768", "koniq10k_512x384", ""])
def test_koniq_images_elsewhere(folder, koniq_root):
    (koniq_root / folder).mkdir(parents=True, exist_ok=True)
    for path in list((koniq_root / "1024x768").iterdir()):
        path.rename(koniq_root / folder / path.name)
    records = read_records("koniq10k", koniq_root)  # the empty 1024x768/ is still there
    assert records[0].image == f"{folder}/1000.jpg".removeprefix("/")


def test_labels_alone(koniq_root, koniq_table):
    (koniq_root / KONIQ_SCORES).rename(koniq_root.parent / KONIQ_SCORES)
    assert len(read_records("koniq10k", koniq_root.parent, check_images=False)) == len(koniq_table)


def edited(root: Path, old: str, new: str) -> None:
    path = root / KONIQ_SCORES
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def line_of(table: pd.DataFrame, row: int) -> str:
    return table.iloc[[row]].to_csv(header=False, index=False).strip()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda line: line.replace(",100,", ",hundred,"), r"line 5: c_total is 'hundred', which is not a number"),
        (lambda line: line.replace(",100,", ",,"), r"line 5: c_total is '', which is not a number"),
        (lambda line: line.replace(",100,", ",99,"), r"line 5: c1..c5 are .* add up to c_total \(99\)"),
        (lambda line: line.split(",")[0], r"line 5: c1 is ''"),
        (lambda line: line + "\n" + line, r"line 6: 1024x768/1003.jpg is labelled twice, first at .*line 5"),
        (lambda line: line + ",7,8", "line 5: rows have more cells than the first line has titles"),
        (lambda line: "\n\n" + line.replace(",100,", ",x,"), r"line 7: c_total is 'x'"),
    ],
)
def test_rows_that_do_not_parse(koniq_root, koniq_table, change, message):
    line = line_of(koniq_table, 3)
    edited(koniq_root, line, change(line))
    with pytest.raises(UserError, match=message):
        read_records("koniq10k", koniq_root)


def test_missing_column_and_empty_table(koniq_root):
    edited(koniq_root, "image_name", "image")
    with pytest.raises(UserError, match=r"no column 'image_name' \(did you mean 'image'\?\)"):
        read_records("koniq10k", koniq_root)
    (koniq_root / KONIQ_SCORES).write_text("image_name,c1,c2,c3,c4,c5,c_total,MOS,SD\n")
    with pytest.raises(UserError, match="contains no label rows"):
        read_records("koniq10k", koniq_root)


def test_all_missing_images_are_named(koniq_root):
    for name in ("1002", "1011"):
        (koniq_root / "1024x768" / f"{name}.jpg").unlink()
    with pytest.raises(MissingFileError, match=r"2 of 20 images are missing .*1002\.jpg, 1024x768/1011\.jpg"):
        read_records("koniq10k", koniq_root)
    (koniq_root / "1024x768").rename(koniq_root / "elsewhere")
    with pytest.raises(MissingFileError, match="none of the 20 images"):
        read_records("koniq10k", koniq_root)


def test_no_label_file_and_no_folder(tmp_path):
    with pytest.raises(MissingFileError, match=f"looked for {KONIQ_SCORES}"):
        read_records("koniq10k", tmp_path)
    with pytest.raises(MissingFileError, match="is not a folder"):
        read_records("koniq10k", tmp_path / "nowhere")


def test_unknown_database(tmp_path):
    with pytest.raises(UserError, match=r"unknown database 'koniq' \(did you mean 'koniq10k'\?\)"):
        read_records("koniq", tmp_path)


def write_csv(root: Path, **columns) -> Path:
    table = pd.DataFrame({"image": ["a.png", "b/c.png", "d.png"], "mos": [20.5, 50, 80], **columns})
    table.to_csv(root / "labels.csv", index=False)
    return root


def read_csv(root: Path, **options):
    return read_records("csv", root, check_images=False, scale=PERCENT, **options)


def test_csv_of_mos_alone(tmp_path):
    _, records, recipe = load_labels("csv", write_csv(tmp_path), check_images=False, scale=PERCENT, sos_a=0.2)
    assert [record.image for record in records] == ["a.png", "b/c.png", "d.png"]
    assert [record.mos for record in records] == [20.5, 50, 80]
    assert records[1].sos == pytest.approx((0.2 * 50 * 50) ** 0.5)
    assert (recipe.dos, recipe.sos) == ("gaussian", "hypothesis")


def test_csv_with_everything(tmp_path):
    write_csv(
        tmp_path,
        sos=[5, 6, 7],
        **{f"p{k}": [0.2, 0.1 * (k - 1), 0.2] for k in range(1, 6)},
        split=["train", "test", "test"],
        reference=["x", "x", "y"],
    )
    records = read_csv(tmp_path)
    assert records[1].dos == pytest.approx([0, 0.1, 0.2, 0.3, 0.4])
    assert [record.split for record in records] == ["train", "test", "test"]
    assert [record.reference for record in records] == ["x", "x", "y"]
    assert [record.sos for record in records] == [5, 6, 7]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"mos": [20, "fifty", 80]}, "line 3: mos is 'fifty'"),
        ({"mos": [20, 101, 80]}, "line 3: MOS 101 of b/c.png is outside the scale 0 to 100"),
        ({"mos": [20, "nan", 80]}, "line 3: mos is 'nan'"),
        ({"sos": [1, -1, 1]}, "line 3: SOS -1"),
        ({"sos": [1, 71, 1]}, "line 3: SOS 71 .* 0 to 70.7"),
        ({"image": ["a.png", "./a.png", "c.png"]}, "line 3: a.png is labelled twice"),
        ({"split": ["train", "learning", "test"]}, "line 3: split is 'learning'"),
        ({"c1": [1, 1, 1], "c3": [1, 1, 1]}, "without a gap"),
        ({"c1": [1, 1, 1], "p2": [1, 1, 1]}, "without a gap"),
        ({"c1": [1, 0, 1], "c2": [1, 0, 1]}, r"line 3: c1, c2 are \[0.0, 0.0\].*not all zero"),
        ({"c1": [1, 2, 1], "c2": [1, -1, 1]}, "line 3: .*none may be negative"),
        ({"p1": [0.5, 0.5, 0.5], "p2": [0.5, 0.6, 0.5]}, "line 3: .*must add up to 1"),
        ({"image": ["a.png", "", "d.png"]}, "line 3: image is empty"),
        ({"reference": ["a", "", "d"]}, "line 3: reference is empty"),
    ],
)
def test_csv_mistakes(columns, message, tmp_path):
    write_csv(tmp_path, **columns)
    with pytest.raises(UserError, match=message):
        read_csv(tmp_path)


def test_csv_with_a_separator_that_is_none(tmp_path):
    (tmp_path / "labels.csv").write_text("image:mos\na.png:3\n")
    with pytest.raises(UserError, match="cells must be separated by commas"):
        read_csv(tmp_path)


def test_csv_header_in_capitals_and_unused_columns(tmp_path):
    table = pd.DataFrame({"Image": ["a.png", "b.png"], "MOS": [20, 30], "SOS": [4, 5], "Camera": ["x", "y"]})
    table.to_csv(tmp_path / "labels.csv", index=False)
    with pytest.warns(UserWarning, match=r"unused columns: Camera"):
        records = read_csv(tmp_path)
    assert [record.sos for record in records] == [4, 5]


def test_csv_file_is_named_where_there_are_several(tmp_path):
    write_csv(tmp_path)
    (tmp_path / "other.csv").write_text("image,mos\n")
    with pytest.raises(
        MissingFileError, match=r"dataset.labels: give the name of the label file .*labels.csv, other.csv"
    ):
        read_csv(tmp_path)
    assert len(read_csv(tmp_path, labels="labels.csv")) == 3


def test_csv_needs_a_scale(tmp_path):
    with pytest.raises(UserError, match="rating scale of 'csv' is not known"):
        read_records("csv", write_csv(tmp_path), check_images=False)
