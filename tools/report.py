"""Rebuild the report of a run, such as after jobs on a cluster, or on a machine that has the images.

`python tools/report.py RUN ...`, where RUN is the folder of a run, such as checkpoint/demo. Writes RUN/report.html.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from utils.script import first_line, run_script, start_imports

if __name__ == "__main__":
    start_imports()

from utils.installation import require_installation

require_installation("jinja2")

from experiments.results.report import write_report


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=first_line(__doc__), allow_abbrev=False)
    parser.add_argument("runs", nargs="+", metavar="RUN", help="folder of a run, such as checkpoint/demo")
    for run in parser.parse_args(arguments).runs:
        print(f"report: {write_report(Path(run))}", flush=True)
    return 0


if __name__ == "__main__":
    run_script(main)
