"""The command line of main.py."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from experiments.evaluation.evaluate import FOLDER
from experiments.evaluation.test_images import PARTS
from experiments.suite import is_override
from experiments.training.parallel import KEY
from utils.distributed import is_distributed, world
from utils.errors import UserError
from utils.settings import Config

DEMO_CONFIG = Path(__file__).resolve().parents[1] / "configs" / "demo.yaml"


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Return the parsed arguments; exit with status 2 if options contradict each other."""
    parser = _parser()
    given = sys.argv[1:] if arguments is None else list(arguments)
    args = parser.parse_intermixed_args(
        [text for text in given if not is_override(text)]
    )  # else --config would take the overrides
    args.overrides += [text for text in given if is_override(text)]
    args.config = args.config or [str(DEMO_CONFIG)]
    for option, value in (("evaluate", args.evaluate), ("output", args.output), ("trained-with", args.trained_with)):
        if value == "":
            parser.error(f"--{option} has an empty name")
    if args.split is not None and args.split < 1:
        parser.error("--split counts from 1")
    if args.resume and args.overwrite:
        parser.error("--resume and --overwrite contradict each other")
    if args.evaluate and (args.resume or args.overwrite):
        parser.error("--evaluate does not train: omit --resume and --overwrite")
    if args.evaluate and args.split is not None and args.part != "test":
        parser.error("with --evaluate, --split needs --part test: it selects the split whose test part is used")
    if not args.evaluate and (args.part or args.output or args.trained_with):
        parser.error("--part, --output and --trained-with need --evaluate")
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
        help="YAML file of the experiment; several, or a pattern such as 'configs/ablations/*.yaml', are a suite, in "
        "which finished runs are skipped and interrupted ones continued",
    )
    parser.add_argument("--resume", action="store_true", help="continue the run of this name")
    parser.add_argument("--overwrite", action="store_true", help="delete the run of this name and restart it")
    parser.add_argument("--split", type=int, metavar="N", help="run only this split, counted from 1")
    parser.add_argument(
        "--evaluate",
        metavar="CHECKPOINT",
        help="evaluate a checkpoint, hf://owner/name[@revision] on the Hugging Face hub, or each best.pt in a folder, "
        "on --config; do not train",
    )
    parser.add_argument(
        "--trained-with",
        metavar="FILE",
        help="with --evaluate, the YAML file that a release checkpoint was trained with, since it has no rating scale",
    )
    parser.add_argument(
        "--part",
        choices=PARTS,
        help="with --evaluate: auto (default) is every image of a database that the network was not trained on, else "
        "the test images of its own split; test is the test part of the config's split (--split N), else as auto; all "
        "is every image",
    )
    parser.add_argument("--output", metavar="FOLDER", help=f"with --evaluate, default: <run.root>/{FOLDER}")
    parser.add_argument("overrides", nargs="*", metavar="key.subkey=value", help="settings that override the file")
    return parser


def check_processes(configs: Sequence[Config], args: argparse.Namespace) -> None:
    """Check, before anything is written, that the number of processes suits the command.

    Raises:
        UserError: It does not; the message says what to change.
    """
    if not is_distributed():
        return
    if args.evaluate:
        raise UserError(
            f"--evaluate runs in one process, and torchrun has started {world()}; start it with python alone"
        )
    for config in configs:
        size, accumulate, at_a_time = config.train.batch_size, config.train.accumulate, config.protocol.parallel_splits
        unit = world() * accumulate
        if size % unit:
            parts = f", in {accumulate} parts each (train.accumulate)" if accumulate > 1 else ""
            near = max(unit, round(size / unit) * unit)
            raise UserError(
                f"{config.run.name}: train.batch_size: {size}, the batch of all processes together, cannot be shared "
                f"equally by {world()} processes{parts}; set it to a multiple of {unit}, such as {near}, or start "
                "fewer processes"
            )
        if at_a_time > 1 and args.split is None:
            raise UserError(
                f"{KEY}: {at_a_time} splits at a time need their own processes, and torchrun has started {world()} for "
                f"one training; set {KEY}=1, or start it with python alone"
            )
        if any(member.cache == "ram" for member in config.dataset):
            raise UserError(f"dataset.cache: each of {world()} processes would need a copy; use disk or none")
