"""Says what a database holds, what is wrong with it, and whether it can be trained on.

`python tools/check_dataset.py --config configs/spaq.yaml [key.subkey=value ...]`, or `--dataset spaq --root FOLDER`.
Exit status 0 when it can be trained on, 1 when not, 2 for a mistake on the command line.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from utils.installation import require_installation

require_installation("matplotlib")

from tqdm import tqdm

from datasets.database import with_scales
from datasets.readers import CONFIGS, READERS
from tools.examination import Examination, examine
from tools.examination_picture import draw
from utils.config import load_config
from utils.errors import UserError, did_you_mean
from utils.files import make_folder, to_json, write_text
from utils.runtime import run_script

SHOWN = 10  # problems of a kind, unless --all


def main(arguments: Sequence[str] | None = None) -> int:
    args = parse_arguments(arguments)
    config = with_scales(load_config(config_path(args), [*overrides_of(args)]))
    trainable = True
    for member in config.members:
        examination = examine(
            config, member, args.decode, lambda items, total: tqdm(items, "images", total, leave=False)
        )
        print(report(examination, None if args.all else SHOWN), flush=True)
        if examination.records:
            picture = Path(args.picture or Path(config.run.root) / f"check_{examination.title}.png")
            make_folder(picture.parent)
            draw(examination, picture)
            print(f"picture: {picture}")
        trainable &= examination.trainable
        if args.save_splits and examination.splits:
            write_text(args.save_splits, to_json([split.as_dict() for split in examination.splits], indent=1))
            print(f"splits: {args.save_splits}, for protocol.method=file dataset.split_file={args.save_splits}")
    return 0 if trainable else 1


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--config", metavar="FILE", help="YAML file of an experiment")
    source.add_argument(
        "--dataset", metavar="NAME", help=f"{', '.join(READERS)}: with the settings of configs/NAME.yaml"
    )
    parser.add_argument("--root", metavar="FOLDER", help="the folder that the archive was unpacked to")
    parser.add_argument("--decode", action="store_true", help="decode every image instead of its header alone")
    parser.add_argument("--all", action="store_true", help=f"list every problem, not the first {SHOWN} of a kind")
    parser.add_argument("--picture", metavar="FILE", help="default: checkpoint/check_NAME.png")
    parser.add_argument("--save-splits", metavar="FILE", help="write the splits as JSON, to be used on another machine")
    parser.add_argument("overrides", nargs="*", metavar="key.subkey=value", help="settings that replace the file's")
    return parser.parse_intermixed_args(arguments)


def config_path(args: argparse.Namespace) -> Path:
    """The YAML file that is meant."""
    if args.config:
        return Path(args.config)
    if args.dataset == "csv":
        raise UserError("--dataset csv: its scale is not known; copy configs/custom.yaml, set it there, use --config")
    if args.dataset not in READERS:
        hint = did_you_mean(args.dataset, list(READERS))
        raise UserError(f"--dataset: unknown database {args.dataset!r}{hint}; known: {', '.join(READERS)}")
    return CONFIGS / f"{args.dataset}.yaml"


def overrides_of(args: argparse.Namespace) -> list[str]:
    """`--root` as the override that it is."""
    return [*([f"dataset.root={args.root}"] if args.root else []), *args.overrides]


def report(examination: Examination, shown: int | None) -> str:
    """All that is to be said, as text of two columns and a list of problems."""
    rows = examination.describe()
    width = max(len(name) for name, _ in rows)
    lines = [f"{examination.title}: {examination.root}", *(f"  {name:{width}}  {value}" for name, value in rows)]
    for kind, problems in examination.problems.items():
        lines.append(f"  {len(problems)} x {kind}" + ("" if examination.stops(kind) else " (not in the way)"))
        lines += [f"    {problem}" for problem in problems[:shown]]
        if shown is not None and len(problems) > shown:
            lines.append(f"    and {len(problems) - shown} more; --all lists them")
    lines.append("can be trained on" if examination.trainable else "cannot be trained on as it is")
    return "\n".join(lines)


if __name__ == "__main__":
    run_script(main)
