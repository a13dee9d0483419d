"""TID2013: names in any case, deviations in a file of their own, and what copies may have wrong."""

import numpy as np
import pytest

from datasets.readers import load_labels, read_records
from datasets.splits import make_split
from tests.databases import each
from utils.errors import MissingFileError, UserError
from utils.settings import ProtocolSettings

MOS, SOS = "mos_with_names.txt", "mos_std.txt"


def replace_line(path, number, line):
    """Replace one line of a file, counted from 1; None removes it."""
    lines = path.read_bytes().decode().split("\r\n")
    lines[number - 1 : number] = [] if line is None else [line]
    path.write_bytes("\r\n".join(lines).encode())


@each("tid2013")
def test_names_in_another_case_are_the_same_images(made):
    before = read_records("tid2013", made.root)
    for image in made.mos:
        path = made.root / image
        path.rename(path.with_name(path.name.upper()))
    (made.root / MOS).write_text((made.root / MOS).read_text().lower())
    records = read_records("tid2013", made.root)
    assert records[0].image == "distorted_images/I01_01_1.BMP"
    assert [record.name for record in records] == [record.name for record in before] == list(made.mos)
    assert {record.reference for record in records} == {f"i{k:02}" for k in range(1, 7)}
    assert make_split(records, ProtocolSettings(), 1) == make_split(before, ProtocolSettings(), 1)


def test_split_of_25_references(tmp_path):
    names = [
        f"i{ref:02}_{kind:02}_{level}.bmp" for ref in range(1, 26) for kind in range(1, 25) for level in range(1, 6)
    ]
    (tmp_path / MOS).write_text("".join(f"{0.003 * k:.5f} {name}\n" for k, name in enumerate(names)))
    (tmp_path / SOS).write_text("0.9\n" * 3000)
    records = read_records("tid2013", tmp_path, check_images=False)
    split = make_split(records, ProtocolSettings(), 1)
    assert (len(split.train), len(split.test)) == (2400, 600)
    references = [{name.split("/")[1][:3] for name in part} for part in (split.train, split.test)]
    assert [len(part) for part in references] == [20, 5]
    assert not references[0] & references[1]


@each("tid2013")
def test_without_deviations_the_sos_is_that_of_the_hypothesis(made):
    (made.root / SOS).unlink()
    with pytest.warns(UserWarning, match=r"mos_std\.txt is not in .*; the labels have no SOS without it"):
        _, records, recipe = load_labels("tid2013", made.root)
    assert "SOS from hypothesis with a = 0.1477" in recipe.describe()
    mos = np.array(list(made.mos.values()))
    np.testing.assert_allclose([record.sos for record in records], np.sqrt(0.1477 * mos * (9 - mos)))


@each("tid2013")
def test_deviations_elsewhere_and_with_names(made):
    before = read_records("tid2013", made.root)
    names = [line.split()[1] for line in (made.root / MOS).read_text().splitlines()]
    (made.root / "scores").mkdir()
    (made.root / SOS).unlink()
    lines = [f"{sos} {name}" for sos, name in zip(made.sos.values(), names, strict=True)]
    (made.root / "scores" / SOS.upper()).write_text("\n".join(lines))
    assert read_records("tid2013", made.root) == before
    (made.root / "scores" / SOS.upper()).write_text("\n".join([lines[0], lines[2], lines[1], *lines[3:]]))
    with pytest.raises(UserError, match=r"MOS_STD\.TXT, line 2: image i01_24_1\.bmp is at another place in mos_with"):
        read_records("tid2013", made.root)


@each("tid2013")
@pytest.mark.parametrize(
    ("file", "number", "line", "message"),
    [
        (SOS, 3, None, r"mos_std\.txt has 23 values, but .*mos_with_names\.txt has 24 images"),
        (MOS, 3, None, r"mos_std\.txt has 24 values, but .*mos_with_names\.txt has 23 images"),
        (MOS, 3, "9.5 I01_24_1.BMP", r"mos_with_names\.txt, line 3: MOS 9\.5 of .* is outside the scale 0 to 9"),
        (MOS, 3, "four I01_24_1.BMP", r"mos_with_names\.txt, line 3: mos is 'four', which is not a number"),
        (MOS, 3, "4.5", r"mos_with_names\.txt, line 3: image is empty"),
        (MOS, 3, "4.5 I01_01_1.BMP", r"line 3: distorted_images/i01_01_1\.bmp is labelled twice"),
        (SOS, 3, "-1", r"line 3: SOS -1 of .* is impossible"),
        (SOS, 3, "7.5", r"line 3: SOS 7\.5 of .* is impossible; on this scale it lies within 0 to 6\.36"),
        (SOS, 3, "x", r"mos_std\.txt, line 3: sos is 'x', which is not a number"),
    ],
)
def test_rows_that_cannot_be(made, file, number, line, message):
    replace_line(made.root / file, number, line)
    with pytest.raises(UserError, match=message):
        read_records("tid2013", made.root)


@each("tid2013")
def test_standard_errors_are_doubted(made):
    (made.root / SOS).write_text("0.13\n" * len(made.mos))
    with pytest.warns(UserWarning, match="are they in another unit than the MOS, or standard errors"):
        read_records("tid2013", made.root)


@each("tid2013")
def test_missing_images(made):
    for image in list(made.mos)[:2]:
        (made.root / image).unlink()
    with pytest.raises(MissingFileError, match=r"2 of 24 images are missing .*i01_01_1\.bmp, .*i01_01_5\.bmp"):
        read_records("tid2013", made.root)
    assert load_labels("tid2013", made.root, unreadable="omit")[2].left_out == 2
