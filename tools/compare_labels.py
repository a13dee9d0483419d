"""Compare labels from official annotation files with the label files of the RichIQA release; print Markdown tables.

`python tools/compare_labels.py --annotations FOLDER --release FOLDER [--write docs/DATABASES.md]`. The first folder has
one subfolder per database, named as in configs/, with the available annotation files; the second has the text files of
the release. With --write, the tables replace those between the marks in that file.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from utils.script import first_line, run_script, start_imports

if __name__ == "__main__":
    start_imports()

from datasets.inspection.comparison import TABLES, comparison_tables
from utils.errors import UserError
from utils.files import reading, write_text
from utils.tables import replace_tables


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=first_line(__doc__), allow_abbrev=False)
    parser.add_argument("--annotations", metavar="FOLDER", type=Path, required=True)
    parser.add_argument("--release", metavar="FOLDER", type=Path, required=True)
    parser.add_argument(
        "--write", metavar="FILE", type=Path, help="a Markdown file with marks, such as docs/DATABASES.md"
    )
    args = parser.parse_args(arguments)
    for folder in (args.annotations, args.release):
        if not folder.is_dir():
            raise UserError(f"{folder} is not a folder")
    text = read_document(args.write) if args.write else ""  # report mistakes before the long comparison
    tables = comparison_tables(args.annotations, args.release)
    if args.write:
        write_text(args.write, replace_tables(text, tables))
    else:
        print("\n\n".join(tables.values()))
    return 0


def read_document(path: Path) -> str:
    """Return the text of a file that contains the marks of all tables.

    Raises:
        UserError: The file cannot be read, or a mark is missing.
    """
    try:
        with reading(path):
            text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 text") from error
    return replace_tables(text, dict.fromkeys(TABLES, ""))


if __name__ == "__main__":
    run_script(main)
