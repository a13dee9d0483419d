"""The command line of main.py."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from experiments.checkpoints import FOLDER
from experiments.choice import PARTS
from experiments.suite import is_override

DEMO_CONFIG = Path(__file__).resolve().parents[1] / "configs" / "demo.yaml"


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """What is to be done; ends the process with status 2 where options contradict each other."""
    parser = _parser()
    given = sys.argv[1:] if arguments is None else list(arguments)
    args = parser.parse_intermixed_args([text for text in given if not is_override(text)])  # else --config takes them
    args.overrides += [text for text in given if is_override(text)]
    args.config = args.config or [str(DEMO_CONFIG)]
    if args.split is not None and args.split < 1:
        parser.error("--split counts from 1")
    if args.resume and args.overwrite:
        parser.error("--resume and --overwrite contradict each other")
    if args.evaluate and (args.resume or args.overwrite):
        parser.error("--evaluate trains nothing: leave --resume and --overwrite away")
    if args.evaluate and args.split is not None and args.part != "test":
        parser.error("with --evaluate, --split goes with --part test: which split's test part it is")
    if not args.evaluate and (args.part or args.output or args.trained_with):
        parser.error("--part, --output and --trained-with go with --evaluate")
    return args


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description="Train and evaluate RichIQA. Without --config: the demo.", allow_abbrev=False
    )
    parser.add_argument(
        "--config",
        nargs="+",
        action="extend",
        metavar="FILE",
        help="YAML file of the experiment; several, or a pattern such as 'configs/ablations/*.yaml', are a suite: what "
        "is finished is skipped, what was interrupted goes on",
    )
    parser.add_argument("--resume", action="store_true", help="go on where the run of this name stopped")
    parser.add_argument("--overwrite", action="store_true", help="delete the run of this name and start anew")
    parser.add_argument("--split", type=int, metavar="N", help="run only this split, counted from 1")
    parser.add_argument(
        "--evaluate", metavar="CHECKPOINT", help="do not train: evaluate it, or each best.pt of a folder, on --config"
    )
    parser.add_argument(
        "--trained-with",
        metavar="FILE",
        help="with --evaluate, YAML that a release checkpoint was trained with: it carries no rating scale of its own",
    )
    parser.add_argument(
        "--part",
        choices=PARTS,
        help="with --evaluate: auto (default) is every image of a database that was not trained on, else the test "
        "images of that training; test is the test part of the config's split (--split N)",
    )
    parser.add_argument("--output", metavar="FOLDER", help=f"with --evaluate, default: <run.root>/{FOLDER}")
    parser.add_argument("overrides", nargs="*", metavar="key.subkey=value", help="settings that replace the file's")
    return parser
