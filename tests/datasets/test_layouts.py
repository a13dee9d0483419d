"""Further layouts and label files of single databases."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.io import loadmat, savemat

from datasets.labels import fit_sos_a
from datasets.readers import database_scale, load_labels, read_records
from datasets.splits import make_split
from tests.databases import Made, each, write_database, write_spaq
from utils.errors import MissingFileError, UserError
from utils.settings import ProtocolSettings


def flatten(made: Made, folder: str) -> None:
    for image in made.mos:
        (made.root / folder).mkdir(parents=True, exist_ok=True)
        (made.root / image).rename(made.root / folder / Path(image).name)


@each("csiq")
def test_csiq_flattened(made):
    before = read_records("csiq", made.root)
    flatten(made, "dst_imgs_all")
    records = read_records("csiq", made.root)
    assert records[0].image == "dst_imgs_all/1600.AWGN.1.png"
    assert [record.name for record in records] == [record.name for record in before]
    splits = [make_split(of, ProtocolSettings(), 1) for of in (records, before)]
    assert splits[0] == splits[1]


@each("livemd")
def test_livemd_with_underscores(made):
    for part in (1, 2):
        (made.root / "To_Release" / f"Part {part}").rename(made.root / "To_Release" / f"Part_{part}")
    (made.root / "LIVE_MD.txt").write_text(
        "dis_img_path,dis_type,ref_img_path,score\n"
        "LIVE_MD/To_Release/Part_1/blurjpeg/cows_blur1_jpeg1.bmp,x,LIVE_MD/To_Release/Ref_Images/cows.bmp,21.5\n"
        "LIVE_MD/To_Release/Part_2/blurnoise/cows_blur1_noise1.bmp,x,LIVE_MD/To_Release/Ref_Images/cows.bmp,22.5\n"
    )
    records = read_records("livemd", made.root)
    assert [record.image for record in records] == [
        "To_Release/Part_1/blurjpeg/cows_blur1_jpeg1.bmp",
        "To_Release/Part_2/blurnoise/cows_blur1_noise1.bmp",
    ]
    assert records[0].name == "To_Release/Part 1/blurjpeg/cows_blur1_jpeg1.bmp"
    assert {record.reference for record in records} == {"cows"}


@each("clive")
def test_clive_leaves_training_images_out_and_warns_without_its_sos(made):
    assert not any(record.image.split("/")[-1].startswith("t") for record in read_records("clive", made.root))
    (made.root / "Data" / "AllStdDev_release.mat").unlink()
    with pytest.warns(UserWarning, match="AllStdDev_release.mat is not in"):
        _, _, recipe = load_labels("clive", made.root)
    assert (recipe.sos, recipe.sos_a) == ("hypothesis", 0.1841)


@each("bid")
def test_bid_grades_as_counts(made):
    records = read_records("bid", made.root, dos="counts")
    gaussian = read_records("bid", made.root)
    shares = np.array([record.dos for record in records]) * 12012  # of 11 to 14 grades: a multiple of all of them
    np.testing.assert_allclose(shares, shares.round(), atol=1e-6)
    centers = np.array([0.5, 1.5, 2.5, 3.5, 4.5])
    np.testing.assert_allclose([record.dos @ centers for record in records], list(made.mos.values()), atol=0.5)
    assert [record.dos for record in records] != [record.dos for record in gaussian]


def test_spaq_with_the_later_standard_deviations(tmp_path):
    made = write_spaq(tmp_path / "spaq", std=True)
    assert load_labels("spaq", made.root)[2].sos == "hypothesis"  # the release's, although there is a file
    for source in ("file", "auto"):
        records = read_records("spaq", made.root, sos_source=source)
        np.testing.assert_allclose([record.sos for record in records], list(made.sos.values()), atol=1e-9)
    _, _, fitted = load_labels("spaq", made.root, sos_source="hypothesis", sos_a="fit")
    of_all = [np.array(list(values.values())) for values in (made.mos, made.sos)]
    assert fitted.sos_a == pytest.approx(fit_sos_a(*of_all, database_scale("spaq")), rel=1e-9)
    table = pd.read_csv(made.root / "spaq_mos_std.csv")
    table[1:].to_csv(made.root / "spaq_mos_std.csv", index=False)
    assert load_labels("spaq", made.root)[2].sos == "hypothesis"  # which does not need the file
    with pytest.raises(
        UserError, match=rf"no SOS for TestImage/{table['image'][0]}, although other images have one, but"
    ):
        read_records("spaq", made.root, sos_source="file")


def test_spaq_without_them(tmp_path):
    made = write_spaq(tmp_path / "spaq")
    with pytest.raises(UserError, match=r"no SOS for TestImage/00001\.jpg, but sos_source is file"):
        read_records("spaq", made.root, sos_source="file")


def test_spaq_lists(tmp_path):
    made = write_spaq(tmp_path / "spaq")
    shutil.rmtree(made.root / "Annotations")
    names, mos = [Path(image).name for image in made.mos], list(made.mos.values())
    table = pd.DataFrame({"image_name": names, "MOS": mos})
    table[:9].to_excel(made.root / "SPAQ_train_split_1.xlsx", index=False)
    table[9:].to_excel(made.root / "SPAQ_test_split_1.xlsx", index=False)
    records = read_records("spaq", made.root)
    assert [record.mos for record in records] == mos
    assert [record.split for record in records] == ["train"] * 9 + ["test"] * 3
    listed = [{"image": f"spaq/{name}", "gt_score": score, "std": 7.5} for name, score in zip(names, mos, strict=True)]
    pd.Series(listed).to_json(made.root / "spaq_testing_set.json", orient="values")
    records = read_records("spaq", made.root, labels="spaq_testing_set.json", sos_source="file")
    assert [record.mos for record in records] == mos
    assert {record.sos for record in records} == {7.5}


def test_cid2013_takes_the_sos_of_the_release(tmp_path):
    made = write_database("cid2013", tmp_path / "cid2013")
    lines = [f"'{Path(image).stem}'\t0\t0\t1\t0\t0\t{mos}\t12.5" for image, mos in made.mos.items()]
    (made.root / "CID2013hist_5.txt").write_text("\n".join(lines))
    records = read_records("cid2013", made.root)
    assert {record.sos for record in records} == {12.5}


def test_cid2013_realigned_scores_may_leave_the_scale(tmp_path):
    (tmp_path / "CID2013.txt").write_text("dis_img_path,dis_type,score\nCID2013/IS1/co1/IS_I_C01_D01.jpg,a,-9.5\n")
    (record,) = read_records("cid2013", tmp_path, check_images=False)
    assert (record.mos, record.name) == (-9.5, "IS1/co1/IS_I_C01_D01.jpg")
    assert load_labels("cid2013", tmp_path, check_images=False)[2].odd == 1
    with pytest.raises(UserError, match=r"MOS -9\.5 .* is outside the scale"):
        read_records("cid2013", tmp_path, check_images=False, strict=True)


RELEASE_FORMS = [
    ("clive", "CLIVEhist_5.txt", "100.bmp", "Images/100.bmp", None),
    ("kadid10k", "kadid10khist_5.txt", "I01_01_02.png", "images/I01_01_02.png", "I01"),
    ("csiq", "CSIQhist_5.txt", "1600.jpeg2000.3.png", "dst_imgs/jpeg2000/1600.jpeg2000.3.png", "1600"),
    ("livemd", "LIVEMDhist_5.txt", "part2/blurnoise/a_n1.bmp", "To_Release/Part 2/blurnoise/a_n1.bmp", "a"),
    ("cid2013", "CID2013hist_5.txt", "IS_II_C03_D01", "IS2/co3/IS_II_C03_D01.jpg", None),
    ("spaq", "SPAQhist.txt", "00002.jpg", "TestImage/00002.jpg", None),
    ("vclfer", "VCLFERhist.txt", "VCLFER/vcl_fer/IMG_02_J2K_1.bmp", "vcl_fer/IMG_02_J2K_1.bmp", "IMG_02"),
]


@pytest.mark.parametrize(("name", "file", "written", "image", "reference"), RELEASE_FORMS, ids=lambda value: value)
def test_label_files_of_the_release(name, file, written, image, reference, tmp_path):
    (tmp_path / file).write_bytes(f"'{written}'\t0\t0.25\t0.5\t0.25\t0\t0.75\t0.125\r\n".encode())
    if name == "kadid10k":
        (tmp_path / file).write_bytes(f"'{written}'\t0\t0.25\t0.5\t0.25\t0\t1.75\t0.125\r\n".encode())
    (record,) = read_records(name, tmp_path, check_images=False, sos_source="file")
    assert (record.image, record.reference, record.sos) == (image, reference, 0.125)
    assert record.mos == (1.75 if name == "kadid10k" else 0.75)


def test_csiq_text_and_list(tmp_path):
    (tmp_path / "csiq.beta.txt").write_bytes(b"1600\t1\tnoise\t1\t0.061\t0.062\r\nlady\t4\tjpeg2000\t5\t0.1\t0.9\r\n")
    records = read_records("csiq", tmp_path, check_images=False)
    assert [record.name for record in records] == [
        "dst_imgs/awgn/1600.AWGN.1.png",
        "dst_imgs/jpeg2000/lady.jpeg2000.5.png",
    ]
    assert [(record.mos, record.sos) for record in records] == [(0.062, 0.061), (0.9, 0.1)]
    (tmp_path / "csiq_label.txt").write_text("1600.AWGN.1.png 0.061989\n")
    (record,) = read_records("csiq", tmp_path, check_images=False, labels="csiq_label.txt")
    assert record.mos == 0.061989
    (tmp_path / "csiq.beta.txt").write_text("1600\t1\tsnow\t1\t0.061\t0.062\n")
    with pytest.raises(UserError, match=r"csiq.beta.txt, line 1: dst_type is 'snow'; allowed: noise, blur"):
        read_records("csiq", tmp_path, check_images=False)


def test_which_label_file(tmp_path):
    made = write_database("csiq", tmp_path / "csiq")
    expected = read_records("csiq", made.root)
    for labels in ("csiq.DMOS.xlsx", str(made.root / "csiq.DMOS.xlsx")):
        assert read_records("csiq", made.root, labels=labels) == expected
    (made.root / "annotations").mkdir()
    (made.root / "csiq.DMOS.xlsx").rename(made.root / "annotations" / "csiq.DMOS.xlsx")
    assert read_records("csiq", made.root, labels="csiq.DMOS.xlsx") == expected
    with pytest.raises(
        UserError, match=r"csiq\.DMOS\.xlxs is not a label file of CSIQ \(did you mean 'csiq\.DMOS\.xlsx'"
    ):
        read_records("csiq", made.root, labels="csiq.DMOS.xlxs")
    with pytest.raises(MissingFileError, match=r"csiq\.beta\.txt is not in .* or in a folder of it"):
        read_records("csiq", made.root, labels="csiq.beta.txt")


def test_livemd_with_subjects_in_rows_or_columns_and_broken(tmp_path):
    made = write_database("livemd", tmp_path / "livemd")
    path = made.root / "To_Release" / "Part 1" / "Scores.mat"
    content = {key: value for key, value in loadmat(path).items() if not key.startswith("__")}
    expected = read_records("livemd", made.root)
    savemat(path, content | {"dist_diffscores": content["dist_diffscores"].T})
    turned = read_records("livemd", made.root)
    np.testing.assert_allclose([record.sos for record in turned], [record.sos for record in expected])
    savemat(path, content | {"dist_diffscores": np.ones((3, 4))})
    with pytest.raises(UserError, match=r"dist_diffscores is \(3, 4\), expected subjects x 10 images"):
        read_records("livemd", made.root)
    savemat(path, content | {"DMOSscores": np.ones((1, 4))})
    with pytest.raises(UserError, match=r"has 4 scores, but .* has 10 images"):
        read_records("livemd", made.root)
