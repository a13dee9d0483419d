"""Lists every key of a config with its type, default, allowed values and meaning, as Markdown.

`python tools/list_settings.py [--write docs/CONFIGURATION.md]`. With --write, the tables replace those between the
marks `<!-- settings -->` and `<!-- end -->` of that file.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from utils.script import first_line, run_script, start_imports

if __name__ == "__main__":
    start_imports()

from utils.files import reading, write_text
from utils.settings_reference import settings_tables
from utils.tables import replace_tables

NAME = "settings"  # of the mark


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=first_line(__doc__), allow_abbrev=False)
    parser.add_argument("--write", metavar="FILE", type=Path, help="a Markdown file, such as docs/CONFIGURATION.md")
    args = parser.parse_args(arguments)
    tables = settings_tables()
    if args.write:
        with reading(args.write):
            text = args.write.read_text(encoding="utf-8")
        write_text(args.write, replace_tables(text, {NAME: f"\n{tables}\n"}))
    else:
        print(tables)
    return 0


if __name__ == "__main__":
    run_script(main)
