"""Text tables as programs write them."""

import pytest

from utils.delimited import decode, parse_table, plain_title
from utils.errors import UserError

PLAIN = "image,mos\na.png,3.5\nb.png,2\n"
ROWS = [["a.png", "3.5"], ["b.png", "2"]]

VARIETIES = {
    "plain": PLAIN,
    "line ends of Windows": PLAIN.replace("\n", "\r\n"),
    "line ends of old Macs": PLAIN.replace("\n", "\r"),
    "no last line end": PLAIN[:-1],
    "semicolons": PLAIN.replace(",", ";"),
    "tabs": PLAIN.replace(",", "\t"),
    "bars": PLAIN.replace(",", " | "),
    "blanks": PLAIN.replace(",", " "),
    "aligned": "  image   mos\n  a.png   3.5\n  b.png     2\n",
    "separator stated for Excel": "sep=;\n" + PLAIN.replace(",", ";"),
    "quotes": '"image","mos"\n"a.png","3.5"\n"b.png","2"\n',
    "quotes after blanks": '"image", "mos"\n"a.png", "3.5"\n"b.png", "2"\n',
    "single quotes": "'image','mos'\n'a.png','3.5'\n'b.png','2'\n",
    "blank lines": "\n \nimage,mos\n\na.png,3.5\n,\nb.png,2\n\n",
    "blank columns": "image,mos,,\na.png,3.5,,\nb.png,2,,\n",
    "separators at the ends of rows": "image,mos\na.png,3.5,\nb.png,2,\n",
    "comments": "# two pictures, one score each\n#\nimage,mos\na.png,3.5\n# c.png,1\n#c\nb.png,2\n",
    "header of NumPy": "# image,mos\na.png,3.5\nb.png,2\n",
    "header of NumPy with blanks": "# image mos\na.png 3.5\nb.png 2\n",
    "index of pandas": ",image,mos\n7,a.png,3.5\n3,b.png,2\n",
    "index of pandas, saved twice": "Unnamed: 0,image,mos\n0,a.png,3.5\n1,b.png,2\n",
    "names of rows of R": '"","image","mos"\n"1","a.png",3.5\n"2","b.png",2\n',
    "names of rows of R without a title": '"image" "mos"\n"1" "a.png" 3.5\n"2" "b.png" 2\n',
}


@pytest.mark.parametrize("text", VARIETIES.values(), ids=VARIETIES)
def test_varieties_of_one_table(text):
    table = parse_table(text, "labels.csv")
    assert (table.titles, table.rows) == (["image", "mos"], ROWS)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_encodings(encoding):
    assert decode("image,mos\ncafé.png,3\n".encode(encoding), "labels.csv") == "image,mos\ncafé.png,3\n"


def test_lines_are_those_of_the_file():
    table = parse_table('\n# x\nimage,note\na.png,"1\n2"\n\nb.png,3\n', "labels.csv")
    assert (table.lines, table.rows[0]) == ([4, 7], ["a.png", "1\n2"])


@pytest.mark.parametrize("separator", ["\x03", "e", '"'])
def test_only_what_separates_is_stated_for_excel(separator):
    table = parse_table(f"sep={separator}\n1\n", "x")
    assert table.rows == [["1"]]


def test_what_looks_like_a_comment_or_an_index_but_is_none():
    assert parse_table("image,mos\n#1.png,3\n", "x").rows == [["#1.png", "3"]]
    assert parse_table('image,mos\n"#1.png",3\n', "x").rows == [["#1.png", "3"]]
    assert parse_table(",image\nx,a.png\n", "x").titles == ["column 1", "image"]
    assert parse_table("image;c\na,b.png;1\n", "x").rows == [["a,b.png", "1"]]
    assert parse_table("image\na b;c.png\n", "x").rows == [["a b;c.png"]]
    assert parse_table("image name\na b.png\nc.png\n", "x").titles == ["image name"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"labels\.csv: cannot be read as a table: it is empty"),
        ("# only a comment\n", "it is empty"),
        (
            'image,mos\na.png,1\n"b.png,2\nc.png,3\n',
            "line 3: cannot be read as a table: a quotation mark is not closed",
        ),
        ("image,mos\na.png,1\nb.png,2,3\n", "line 3: rows have more cells than the first line has titles"),
        ("# x\nimage,Image\na,b\n", "line 2: two columns have the title 'image'"),
    ],
)
def test_damaged_tables(text, message):
    with pytest.raises(UserError, match=message):
        parse_table(text, "labels.csv")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"image,mos\ncaf\xe9.png,3\n", "line 2: byte 0xe9 is not UTF-8 text; save the file as UTF-8"),
        (b"image,mos\na\0.png,3\n", "line 2: byte 0x00 is not UTF-8"),
        (b"PK\x03\x04...", "is a workbook of a spreadsheet; save its sheet as CSV"),
    ],
)
def test_files_that_are_no_text(content, message):
    with pytest.raises(UserError, match=message):
        decode(content, "labels.csv")
    assert decode(b"a\0b\0\xff", "list", "surrogateescape", zeros=True) == "a\0b\0\udcff"


def test_a_longer_row_without_a_header_has_no_name_of_a_row():
    with pytest.raises(UserError, match=r"a\.txt, line 2: rows have more cells"):
        parse_table("1 3.5\n2 2 7\n", "a.txt", names=["number", "mos"], separator=" ")


def test_titles_are_compared_without_case_blanks_and_points():
    assert {plain_title(title) for title in ("MOS_Std", " mos  std", "mos.std.")} == {"mos std"}
