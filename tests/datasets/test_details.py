"""Details of the readers: inconsistent rows, partial files, spellings and folders."""

import numpy as np
import pandas as pd
import pytest
import xlwt
from scipy.io import loadmat, savemat

from datasets.readers import load_labels, read_ratings, read_records
from datasets.readers.folder import Folder, under
from datasets.scale import RatingScale
from datasets.splits import make_split
from tests.databases import write_database
from utils.errors import UserError
from utils.settings import ProtocolSettings

PERCENT = RatingScale(0, 100, (10, 30, 50, 70, 90))


def write_grades(path, rows):
    """A BID workbook with rows of number, average, count, grades."""
    book = xlwt.Workbook()
    sheet = book.add_sheet("Plan1")
    titles = ["Image Number", "Average Subjective Grade", "Number of Grades", *(f"Grade #{k}" for k in range(1, 21))]
    for row, cells in enumerate([titles, *rows]):
        for column, cell in enumerate(cells):
            sheet.write(row, column, cell)
    book.save(str(path))


def bid(tmp_path, *rows, **options):
    write_grades(tmp_path / "DatabaseGrades.xls", rows)
    return load_labels("bid", tmp_path, check_images=False, **options)


def test_bid_takes_the_stated_average_and_notes_contradictions(tmp_path):
    ratings, records, recipe = bid(tmp_path, [1, 2.5, 2, 2, 3], [3, 2.6, 2, 2, 3], [4, 2.5, 3, 2, 3])
    assert [record.mos for record in records] == [2.5, 2.6, 2.5]
    assert [record.sos for record in records] == pytest.approx([0.5**0.5] * 3)
    assert [bool(rating.note) for rating in ratings] == [False, True, True]
    assert "stated average 2.6 of 2 grades, but 2 grades average 2.5" in ratings[1].note
    assert recipe.odd == 2


def test_bid_grades_that_cannot_be(tmp_path):
    with pytest.raises(UserError, match=r"row 2: image 1 has 1 grades; SOS needs at least two"):
        bid(tmp_path, [1, 2.5, 1, 2.5])
    with pytest.raises(UserError, match=r"row 2: number is -1, which is not a non-negative whole number"):
        bid(tmp_path, [-1, 2.5, 2, 2, 3])
    with pytest.raises(UserError, match=r"row 3: grade2 is 'x', which is not a number"):
        bid(tmp_path, [1, 2.5, 2, 2, 3], [3, 2.5, 2, 2, "x"])
    assert bid(tmp_path, [1, 3.75, 2, 2, 5.5])[2].odd == 1
    with pytest.raises(UserError, match=r"grades of .*0001\.JPG range from 2 to 5\.5, outside the scale"):
        bid(tmp_path, [1, 3.75, 2, 2, 5.5], strict=True)


def test_one_row_with_two_problems_is_one_odd_row(tmp_path):
    assert bid(tmp_path, [1, 2.5, 3, 2, 5.5])[2].odd == 1  # average and count, and a grade beyond the scale


def test_odd_rows_without_an_image_are_not_used_and_not_counted(tmp_path):
    made = write_database("csv", tmp_path / "csv")
    first, second = list(made.mos)[:2]
    lines = (made.root / "labels.csv").read_text().splitlines()
    lines[1:3] = [f"{first},2,25", f"{second},2,25"]
    (made.root / "labels.csv").write_text("\n".join(lines))
    (made.root / first).unlink()
    _, _, recipe = load_labels("csv", made.root, scale=PERCENT, unreadable="omit")
    assert (recipe.odd, recipe.left_out) == (1, 1)
    for image in made.mos:
        (made.root / image).unlink(missing_ok=True)
    with pytest.raises(UserError, match="none of the 12 images exist under"):
        load_labels("csv", made.root, scale=PERCENT, unreadable="omit")


def test_sos_at_its_bound_is_possible(tmp_path):
    """The largest SOS, that of two voters at the ends, is accepted when rounded up."""
    bound = 100 / 2**0.5
    (tmp_path / "labels.csv").write_text(f"image,mos,sos\na.png,50,{bound * (1 + 1e-12)!r}\n")
    assert load_labels("csv", tmp_path, check_images=False, scale=PERCENT)[2].odd == 0
    (tmp_path / "labels.csv").write_text(f"image,mos,sos\na.png,50,{bound * (1 + 1e-6)!r}\n")
    with pytest.raises(UserError, match="is impossible"):
        load_labels("csv", tmp_path, check_images=False, scale=PERCENT)


def test_an_sos_that_contradicts_its_votes(tmp_path):
    (tmp_path / "labels.csv").write_text("image,mos,sos,c1,c2,c3,c4,c5\na.png,50,1,10,0,0,0,10\n")
    with pytest.raises(UserError, match=r"stated SOS 1 of a\.png contradicts its votes, which give 40"):
        load_labels("csv", tmp_path, check_images=False, scale=PERCENT, strict=True)


def test_part_of_an_sos_file(tmp_path):
    made = write_database("cid2013", tmp_path / "cid2013")
    lines = [f"'{image.rsplit('/')[-1][:-4]}'\t0\t0\t1\t0\t0\t{mos}\t12.5" for image, mos in made.mos.items()]
    (made.root / "CID2013hist_5.txt").write_text("\n".join(lines[1:]))
    with pytest.raises(UserError, match=r"no SOS for IS1/co1/IS_I_C01_D01\.jpg, although other images have one"):
        read_records("cid2013", made.root)
    assert load_labels("cid2013", made.root, sos_source="hypothesis")[2].sos_a == 0.1649
    (made.root / "CID2013hist_5.txt").write_text("\n".join([*lines, lines[0]]))
    with pytest.raises(UserError, match=r"CID2013hist_5\.txt, line 13: IS_I_C01_D01\.jpg occurs twice"):
        read_records("cid2013", made.root)
    (made.root / "CID2013hist_5.txt").write_text(
        "\n".join(lines).replace(f"\t{made.mos['IS1/co1/IS_I_C01_D01.jpg']}", "\t1")
    )
    assert load_labels("cid2013", made.root)[2].odd == 1


def test_cid2013_is_split_by_image_unless_image_sets_are_wanted(tmp_path):
    records = read_records("cid2013", write_database("cid2013", tmp_path / "cid2013").root)
    set_of = {record.name: record.image_set for record in records}
    assert len(set(set_of.values())) == 6
    assert len(make_split(records, ProtocolSettings(), 1).train) == 10
    split = make_split(records, ProtocolSettings(unit="image_set"), 1)
    assert not {set_of[name] for name in split.train} & {set_of[name] for name in split.test}
    with pytest.raises(UserError, match="`image_set`, but the database does not state it for every image"):
        make_split(
            read_records("bid", write_database("bid", tmp_path / "bid").root), ProtocolSettings(unit="image_set"), 1
        )


def koniq(tmp_path, **cells):
    """Write the KonIQ file with `set`, with changed cells in the third row."""
    made = write_database("koniq10k", tmp_path / "koniq10k")
    path = made.root / "koniq10k_distributions_sets.csv"
    (made.root / "koniq10k_scores_and_distributions.csv").unlink()
    table = pd.read_csv(path).astype(object)
    for name, cell in cells.items():
        table.loc[2, name] = cell
    table.to_csv(path, index=False)
    return made.root


def test_koniq_fractions_are_votes_again(tmp_path):
    root = koniq(tmp_path)
    path = root / "koniq10k_distributions_sets.csv"
    table = pd.read_csv(path)
    votes = ["c1", "c2", "c3", "c4", "c5"]
    table["c_total"] = 97
    whole = np.random.default_rng(0).multinomial(97, [0.1, 0.2, 0.3, 0.3, 0.1], 12)
    table[votes] = (whole / 97).round(12)
    table["SD"] = np.sqrt(((whole / 97) @ np.arange(1, 6) ** 2 - (whole / 97 @ np.arange(1, 6)) ** 2) * 97 / 96)
    table.to_csv(path, index=False)
    ratings = read_ratings("koniq10k", root)
    assert [rating.counts for rating in ratings] == [tuple(row) for row in whole.tolist()]
    assert {rating.voters for rating in ratings} == {97}


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        ({"c1": -0.5, "c2": 0.5, "c3": 0.5, "c4": 0.3, "c5": 0.2}, "line 4: c1..c5 are .*must not be negative"),
        ({"c1": 1, "c2": 2, "c3": 3, "c4": 4, "c5": 5, "c_total": 15}, r"in all rows fractions|line 2: c1..c5"),
        ({"c1": 0, "c2": 0, "c3": 0, "c4": 0, "c5": 0, "c_total": 0}, "c1..c5 are"),
        ({"set": "train"}, "line 4: set is 'train'; allowed: training, validation, test"),
        ({"image_name": "1000.jpg"}, r"line 4: 1000\.jpg occurs twice"),
    ],
)
def test_koniq_rows_that_cannot_be(cells, message, tmp_path):
    with pytest.raises(UserError, match=message):
        read_records("koniq10k", koniq(tmp_path, **cells))


def test_flive_parts_that_contradict_each_other(tmp_path):
    made = write_database("flive", tmp_path / "flive")
    rest = pd.read_csv(made.root / "labels=640_padded.csv")
    rest.assign(is_valid=["maybe", *rest["is_valid"][1:]]).to_csv(made.root / "labels=640_padded.csv", index=False)
    with pytest.raises(UserError, match=r"labels=640_padded\.csv, line 2: is_valid is 'maybe'; allowed: True, False"):
        read_records("flive", made.root)
    test = pd.read_csv(made.root / "labels640.csv")
    pd.concat([rest, test]).fillna(False).to_csv(made.root / "labels=640_padded.csv", index=False)
    with pytest.raises(UserError, match=r"labels640\.csv, line 2: .* is also in labels=640_padded\.csv"):
        read_records("flive", made.root)


def test_livemd_reads_the_files_it_is_told_to_and_notes_missing_subjects(tmp_path):
    made = write_database("livemd", tmp_path / "livemd")
    path = made.root / "To_Release" / "Part 2" / "Scores.mat"
    content = {key: value for key, value in loadmat(path).items() if not key.startswith("__")}
    content["dist_diffscores"][3, 0] = np.nan
    other = tmp_path / "other"
    for part in (1, 2):
        (other / f"part {part}").mkdir(parents=True)
        for name in ("Scores.mat", "Imagelists.mat"):
            source = made.root / "To_Release" / f"Part {part}" / name
            (other / f"part {part}" / name.upper()).write_bytes(source.read_bytes())
    savemat(other / "part 2" / "SCORES.MAT", content | {"DMOSscores": np.full((1, 10), 12.5)})
    ratings = read_ratings("livemd", made.root, labels=str(other / "part 1" / "SCORES.MAT"))
    assert [rating.mos for rating in ratings[10:]] == [12.5] * 10
    assert ratings[10].note == "1 of 19 subjects have no score"
    (other / "part 2" / "IMAGELISTS.MAT").unlink()
    with pytest.raises(UserError, match=r"no Part 2/Scores\.mat or Part 2/Imagelists\.mat; both are needed"):
        read_ratings("livemd", made.root, labels=str(other / "part 1" / "SCORES.MAT"))


def test_spaq_lists_alone_and_in_other_case(tmp_path):
    made = write_database("spaq", tmp_path / "spaq")
    table = pd.DataFrame({"image_name": [image.rsplit("/")[-1] for image in made.mos], "MOS": made.mos.values()})
    (made.root / "Annotations" / "MOS and Image attribute scores.xlsx").unlink()
    table.to_excel(made.root / "spaq_train_split_1.XLSX", index=False)
    assert {record.split for record in read_records("spaq", made.root)} == {"train"}


def test_clive_with_its_training_images_alone(tmp_path):
    names = np.array([[f"t{index}.bmp"] for index in range(1, 8)], dtype=object)
    savemat(tmp_path / "AllImages_release.mat", {"AllImages_release": names})
    for name in ("AllMOS_release", "AllStdDev_release"):
        savemat(tmp_path / f"{name}.mat", {name: np.full((1, 7), 50.0)})
    with pytest.raises(UserError, match=r"AllMOS_release\.mat: contains no images of the database"):
        read_records("clive", tmp_path, check_images=False)


def test_vclfer_names_without_endings_and_the_sos_of_the_release(tmp_path):
    lines = ["'VCLFER/vcl_fer/IMG_01_JPG_1'\t0\t0\t1\t0\t0\t50\t7", "'IMG_01_J2K_1'\t0\t0\t1\t0\t0\t40\t7"]
    (tmp_path / "VCLFERhist.txt").write_text("\n".join(lines))
    _, records, recipe = load_labels("vclfer", tmp_path, check_images=False)
    assert [record.image for record in records] == ["vcl_fer/IMG_01_JPG_1.jpg", "vcl_fer/IMG_01_J2K_1.bmp"]
    assert (recipe.sos, recipe.sos_a) == ("hypothesis", 0.1304)  # although the file has one: it was made so


def test_titles_far_down_a_sheet(tmp_path):
    made = write_database("vclfer", tmp_path / "vclfer")
    expected = read_records("vclfer", made.root)
    book = xlwt.Workbook()
    sheet = book.add_sheet("a")
    for column, title in enumerate(("MOS", "Filename")):
        sheet.write(20, column, title)
    for row, (image, mos) in enumerate(made.mos.items(), start=21):
        sheet.write(row, 0, mos)
        sheet.write(row, 1, image)
    book.save(str(made.root / "results.xls"))
    assert read_records("vclfer", made.root) == expected


def test_a_true_in_a_sheet_is_no_number(tmp_path):
    made = write_database("spaq", tmp_path / "spaq")
    path = made.root / "Annotations" / "MOS and Image attribute scores.xlsx"
    table = pd.read_excel(path).astype(object)
    table.loc[1, "MOS"] = True
    table.to_excel(path, index=False)
    with pytest.raises(UserError, match="row 3: mos is 'True', which is not a number"):
        read_records("spaq", made.root)


def test_ten_bins_are_in_the_order_of_their_numbers(tmp_path):
    scale = RatingScale(1, 10, tuple(range(1, 11)))
    titles = [f"c{k}" for k in (10, 2, 3, 4, 5, 6, 7, 8, 9, 1)]
    (tmp_path / "labels.csv").write_text(f"image,mos,{','.join(titles)}\na.png,10,5,0,0,0,0,0,0,0,0,0\n")
    (record,) = read_records("csv", tmp_path, check_images=False, scale=scale)
    assert record.dos == (0,) * 9 + (1,)


def test_line_numbers_after_a_quoted_line_end(tmp_path):
    (tmp_path / "labels.csv").write_text('image,mos,reference\na.png,3,"x\ny"\nb.png,q,z\n')
    with pytest.raises(UserError, match="line 4: mos is 'q'"):
        read_records("csv", tmp_path, check_images=False, scale=PERCENT)


def test_exact_names_first_then_without_case_but_never_a_guess(tmp_path):
    for name in ("a.png", "A.PNG", "b.png"):
        (tmp_path / name).write_text("")
    folder = Folder(tmp_path, "x")
    assert folder.resolve("A.PNG") == "A.PNG"
    assert folder.resolve("a.png") == "a.png"
    assert folder.resolve("B.PNG") == "b.png"
    assert folder.resolve("a.PNG") is None  # two could be meant


def test_a_folder_is_no_label_file(tmp_path):
    (tmp_path / "dmos.csv").mkdir()
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "dmos.csv").write_text("dist_img,ref_img,dmos,var\nI01_01_01.png,I01.png,2,1\n")
    assert len(read_records("kadid10k", tmp_path, check_images=False)) == 1


def test_the_place_with_most_of_the_images_is_taken(tmp_path):
    names = [f"{index}.png" for index in range(30)]
    for folder, there in (("first", names[:3]), ("second", names)):
        (tmp_path / folder).mkdir()
        for name in there:
            (tmp_path / folder / name).write_text("")
    found = Folder(tmp_path, "x").locate(names, (under("first"), under("second")), near=None)
    assert {image.split("/")[0] for image, _ in found} == {"second"}
