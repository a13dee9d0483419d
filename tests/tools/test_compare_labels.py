"""compare_labels on made-up annotation and release files: figures that can be worked out."""

import re

import numpy as np
import pytest

from datasets.labels import gaussian_at_centers
from datasets.readers import database_scale
from tests.databases import write_database
from tools.compare_labels import main
from utils.errors import UserError

MARKS = "".join(
    f"<!-- {name} -->\nold\n<!-- end -->\ntext\n" for name in ("files", "agreement", "recipes", "hypothesis", "ceiling")
)


@pytest.fixture
def made(tmp_path):
    """Annotations of KADID-10k and BID."""
    write_database("bid", tmp_path / "annotations" / "bid")
    return write_database("kadid10k", tmp_path / "annotations" / "kadid10k")


@pytest.fixture
def folders(made, tmp_path):
    """The same and a release file of KADID-10k, with a MOS off by 0.25 and a DOS by 0.0011."""
    return write_release(made, tmp_path, mos_off=0.25, dos_off=0.0011)


def write_release(made, tmp_path, mos_off=0.0, dos_off=0.0):
    """A label file as the release has it, DOS not renormalised, in another order."""
    mos, sos = np.array(list(made.mos.values())), np.array(list(made.sos.values()))
    dos = gaussian_at_centers(mos, sos, database_scale("kadid10k"))
    assert (dos.sum(1) < 1 - 1e-9).any()
    mos[2] += mos_off
    dos[5, 1] += dos_off
    rows = [
        "\t".join([f"'{image.rsplit('/', 1)[-1]}'", *(repr(float(value)) for value in (*p, m, s))])
        for image, p, m, s in zip(made.mos, dos, mos, sos, strict=True)
    ]
    (tmp_path / "release").mkdir()
    (tmp_path / "release" / "kadid10khist_5.txt").write_text("\n".join(rows[::-1]))
    return ["--annotations", str(tmp_path / "annotations"), "--release", str(tmp_path / "release")]


def test_full_agreement(made, tmp_path, capsys):
    assert main(write_release(made, tmp_path)) == 0
    figure = r"(\d\S*e[+-]\d+)"
    row = re.search(rf"KADID-10k \| `dmos.csv` \| 24 \| {figure} \| {figure} \| {figure} ", capsys.readouterr().out)
    assert [float(figure) for figure in row.groups()] == pytest.approx([0, 0, 0], abs=1e-15)  # sums differ by machine


def test_tables(folders, capsys):
    assert main(folders) == 0
    output = capsys.readouterr().out
    assert "| KADID-10k | `dmos.csv` | 24 |" in output
    assert "| KADID-10k | `dmos.csv` | 24 | 2.5e-01 | 0.0e+00 | 1.1e-03 |" in output
    assert re.search(r"\| BID \| 12 \| 0\.\d+ \(0\.\d+\)", output)  # its noise ceiling
    assert "CSIQ" not in output


def test_tables_are_written_between_their_marks(folders, tmp_path):
    (tmp_path / "doc.md").write_text(f"head\n{MARKS}tail\n")
    assert main([*folders, "--write", str(tmp_path / "doc.md")]) == 0
    text = (tmp_path / "doc.md").read_text()
    assert "old" not in text
    assert text.startswith("head\n<!-- files -->\n| database |")
    assert text.endswith("<!-- end -->\ntext\ntail\n")
    assert str(tmp_path) not in text
    main([*folders, "--write", str(tmp_path / "doc.md")])
    assert (tmp_path / "doc.md").read_text() == text


def test_mistakes(folders, tmp_path):
    (tmp_path / "doc.md").write_text("no marks")
    with pytest.raises(UserError, match="no mark <!-- files -->"):
        main([*folders, "--write", str(tmp_path / "doc.md")])
    with pytest.raises(UserError, match="nowhere is not a folder"):
        main([*folders[:3], str(tmp_path / "nowhere")])
    with pytest.raises(UserError, match=r"gone\.md cannot be read"):
        main([*folders, "--write", str(tmp_path / "gone.md")])


def test_nothing_in_common_and_nothing_feasible(folders, tmp_path, capsys):
    (tmp_path / "release" / "kadid10khist_5.txt").write_text("'I99_01_01.png'\t0\t0\t1\t0\t0\t3\t0.5")
    (tmp_path / "annotations" / "kadid10k" / "dmos.csv").write_text(
        "dist_img,ref_img,dmos,var\nI01_01_01.png,I01.png,4.9,0.1\n"
    )
    assert main(folders) == 0
    output = capsys.readouterr().out
    assert "| KADID-10k | `dmos.csv` | 0 |  |  |  |" in output
    assert "| KADID-10k | 1 |" in output
