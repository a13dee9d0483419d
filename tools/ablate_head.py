"""Compare losses, labels, memory paths and stages on a frozen backbone, whose features are computed once.

`python tools/ablate_head.py --checkpoint FILE --config FILE [KEY=VALUE ...] --vary "KEY=VALUE ..." --vary ...`. Each
`--vary` is a variant: the config with these settings. The first line of the table is the config itself. Heads start
from random weights and are trained with the config's optimisation; `optim`, `train.epochs` and the like may be given.
"""

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from utils.script import first_line, run_script, start_imports

if __name__ == "__main__":
    start_imports()

from utils.installation import require_installation

require_installation()

from experiments.evaluation.head_ablation import ablate, to_text
from models.weights import load_network
from utils.config import load_config
from utils.errors import UserError
from utils.files import require_place, write_text

ITSELF = "the config"
VIEWS = 8


def main(arguments: Sequence[str] | None = None) -> int:
    args = parse_arguments(arguments)
    variants = {ITSELF: load_config(args.config, args.settings)}
    for varied in args.vary:
        variants[varied] = load_config(args.config, [*args.settings, *shlex.split(varied)])
    config = variants[ITSELF]
    if args.views < 1:
        raise UserError(f"--views: {args.views} is not allowed; use 1 or more")
    if args.output:
        require_place(args.output.parent)
    rows = ablate(load_network(args.checkpoint), variants, args.views, config.protocol.splits)
    if args.output:
        write_text(args.output, rows.to_csv(index=False))
    print(to_text(rows))
    return 0


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=first_line(__doc__), allow_abbrev=False)
    parser.add_argument("settings", nargs="*", metavar="KEY=VALUE", help="settings of all variants")
    parser.add_argument(
        "--checkpoint", metavar="FILE", required=True, help="network with the backbone, or hf://owner/name[@revision]"
    )
    parser.add_argument("--config", metavar="FILE", required=True, help="config of the baseline, of one database")
    parser.add_argument(
        "--vary", action="append", default=[], metavar='"KEY=VALUE ..."', help="settings of a variant; repeat it"
    )
    parser.add_argument(
        "--views",
        type=int,
        default=VIEWS,
        metavar="N",
        help="random crops of each training image; default: %(default)s",
    )
    parser.add_argument("--output", metavar="FILE", type=Path, help="a .csv with one row per variant and split")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    run_script(main)
