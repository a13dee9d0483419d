"""Check a database: report its contents, its problems, and whether it can be used for training.

`python tools/check_dataset.py --config configs/spaq.yaml [key.subkey=value ...]`, or `--dataset spaq --root FOLDER`.
Exit status: 0 if it can be used for training, 1 if not, 2 for a mistake on the command line.
"""

import argparse
import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from utils.script import first_line, run_script, start_imports

if __name__ == "__main__":
    start_imports()

from utils.installation import require_installation

require_installation("matplotlib")


from datasets.database import require_same_bins
from datasets.inspection.examination import batch_size_advice, examine, report, splits_for_file
from datasets.inspection.figure import draw
from datasets.readers import READERS, with_defaults
from experiments.schema import SavedSplit
from utils.config import load_config
from utils.errors import UserError, did_you_mean
from utils.files import to_json, write_text
from utils.progress import Progress
from utils.schema import VERSION, checked
from utils.settings import Config

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
SHOWN = 10  # problems of each kind, without --all


def main(arguments: Sequence[str] | None = None) -> int:
    args = parse_arguments(arguments)
    config = with_defaults(load_config(config_path(args), all_overrides(args)))
    examinations = []
    for member in config.dataset:
        examinations.append(examine(config, member, args.decode, progress))
        print(report(examinations[-1], None if args.all else SHOWN), flush=True)
        if examinations[-1].records and not args.no_picture:
            path = picture_path(args.picture, config, examinations[-1].title)
            draw(examinations[-1], path)
            print(f"picture: {path}")
    trainable = all(examination.trainable for examination in examinations)
    try:
        require_same_bins(config)
    except UserError as error:
        print(f"cannot be trained on together: {error}")
        trainable = False
    if trainable:
        print(batch_size_advice(config, examinations), end="")
    if args.save_splits and not trainable:
        print(f"{args.save_splits} is not written: fix the database first; its splits would not fit a complete copy")
    elif args.save_splits:
        splits = [{"version": VERSION, **split} for split in splits_for_file(examinations)]
        for split in splits:
            checked(SavedSplit, split, args.save_splits)
        write_text(args.save_splits, to_json(splits, indent=1))
        print(f"splits: {args.save_splits}, for protocol.method=file dataset.split_file={args.save_splits}")
    return 0 if trainable else 1


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=first_line(__doc__), allow_abbrev=False)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--config", metavar="FILE", help="YAML file of an experiment")
    source.add_argument(
        "--dataset", metavar="NAME", help=f"{', '.join(READERS)}: with the settings of configs/NAME.yaml"
    )
    parser.add_argument("--root", metavar="FOLDER", help="folder with the unpacked archive")
    parser.add_argument("--decode", action="store_true", help="decode every image, instead of reading its header")
    parser.add_argument("--all", action="store_true", help=f"list every problem, not only {SHOWN} of each kind")
    picture = parser.add_mutually_exclusive_group()
    picture.add_argument("--picture", metavar="FILE", help="PNG file, default: checkpoint/check_NAME.png")
    picture.add_argument("--no-picture", action="store_true", help="draw no picture")
    parser.add_argument("--save-splits", metavar="FILE", help="write the splits as JSON, for use on another machine")
    parser.add_argument("overrides", nargs="*", metavar="key.subkey=value", help="settings that override the file")
    return parser.parse_intermixed_args(arguments)


def config_path(args: argparse.Namespace) -> Path:
    """Return the YAML file that the options select."""
    if args.config:
        return Path(args.config)
    if args.dataset == "csv":
        raise UserError("--dataset csv: its scale is unknown; set it in a copy of configs/custom.yaml, use --config")
    if args.dataset not in READERS:
        hint = did_you_mean(args.dataset, READERS)
        raise UserError(f"--dataset: unknown database {args.dataset!r}{hint}; known: {', '.join(READERS)}")
    return CONFIGS / f"{args.dataset}.yaml"


def all_overrides(args: argparse.Namespace) -> list[str]:
    """Return the overrides, including `--root`, which is quoted because a path need not be valid YAML."""
    root = [f"dataset.root={json.dumps(args.root, ensure_ascii=False)}"] if args.root is not None else []
    return [*root, *args.overrides]


def progress(items: Iterable, total: int) -> Iterable:
    """Yield the images while showing progress on stderr."""
    with Progress("images", total, "image") as bar:
        for item in items:
            yield item
            bar.update()


def picture_path(requested: str | None, config: Config, title: str) -> Path:
    """Return the path of the picture; with several databases its name includes their title."""
    path = Path(requested or Path(config.run.root) / "check.png")
    return path.with_name(f"{path.stem}_{title}{path.suffix}") if len(config.dataset) > 1 or not requested else path


if __name__ == "__main__":
    run_script(main)
