"""The command line of `inference.py`; imports nothing heavy."""

import argparse
import os
from collections.abc import Sequence

from scoring import defaults
from scoring.defaults import LOCAL, RAY

LOCAL_ONLY = ("map", "report", "best")  # they need the images on this machine, or all at once
RAY_ONLY = ("ray_address", "image_bytes")
RAY_DEVICES = ("auto", "cpu", "cuda")
EPILOG = """\
exit status: 0 all images were scored, 3 some were not (their rows say why), 2 the command was wrong, 130 interrupted,
1 any other error, such as a full disk
"""


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Predict how people would rate photographs, and how much their opinions would differ.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add_inputs(parser.add_argument_group("inputs"))
    _add_network(parser.add_argument_group("network"))
    _add_decoding(parser.add_argument_group("decoding"))
    _add_outputs(parser.add_argument_group("outputs"))
    _add_engine(parser.add_argument_group("engine"))
    args = parser.parse_args(arguments)
    problem = _problem_with(args)
    if problem:
        parser.error(problem)
    return args


def with_options(args: argparse.Namespace, **values) -> argparse.Namespace:
    """Return a copy of the options with other values."""
    return argparse.Namespace(**{**vars(args), **values})


def is_folder(output: str | None) -> bool:
    """Return whether an --output of the Ray engine is a folder of Parquet files."""
    return output is not None and (output.endswith("/") or defaults.is_remote(output) or os.path.isdir(output))


def _problem_with(args: argparse.Namespace) -> str | None:
    """Return the first problem with the options, or None."""
    ray, output, to_folder = args.engine == RAY, args.output, args.engine == RAY and is_folder(args.output)
    numbers = {name: getattr(args, name) for name in ("batch_size", "workers", "threads", "max_pixels", "panel")}
    needs_ray = output is not None and (output.endswith("/") or defaults.is_remote(output))
    engine, misplaced = (LOCAL, LOCAL_ONLY) if ray else (RAY, RAY_ONLY)
    devices = ", ".join(RAY_DEVICES)
    problems = [
        ("name images, folders, patterns or a --list", not (args.images or args.list)),
        ("--resume and --overwrite contradict each other", args.resume and args.overwrite),
        ("--best compares all images at once, and --resume only adds to a file; omit one", args.best and args.resume),
        *((f"{_flag(name)} is 1 or more, got {n}", n is not None and n < 1) for name, n in numbers.items()),
        *((f"{_flag(name)} works with --engine {engine} only", getattr(args, name) is not None) for name in misplaced),
        (
            f"--output: {output} is a folder or in an object store, which needs --engine ray; name a file",
            needs_ray and not ray,
        ),
        (
            f"--device: {args.device!r}; with --engine ray: {devices}; Ray gives each worker its GPU",
            ray and args.device not in RAY_DEVICES,
        ),
        ("--engine ray: name the --output, a file or a FOLDER/ of Parquet files", ray and output is None),
        (
            f"--format: a folder is written as parquet, got {args.format}; name a file, or omit --format",
            to_folder and args.format not in (None, "parquet"),
        ),
        (
            f"--strict: all workers write to the folder {output} at the same time; name a file",
            to_folder and args.strict,
        ),
    ]
    return next((problem for problem, found in problems if found), None)


def _flag(option: str) -> str:
    return f"--{option.replace('_', '-')}"


def _integer(text: str) -> int:
    """Parse an integer, also in the form `2e8`."""
    number = float(text)
    if number != int(number):
        raise ValueError(text)
    return int(number)


def add_inputs(group: argparse._ArgumentGroup) -> None:
    """Add the options that `scoring.inputs.find_images` reads."""
    add = group.add_argument
    suffixes = " ".join(sorted(defaults.IMAGE_SUFFIXES))
    add(
        "images",
        nargs="*",
        metavar="IMAGE",
        help=f"files, folders (whose images are scored: {suffixes}), patterns in quotation marks, or - for a list on "
        "the standard input",
    )
    add("--list", action="append", default=[], metavar="FILE", help="image names: one per line, or a .csv or .tsv")
    column = " or ".join(defaults.IMAGE_COLUMNS)
    add("--image-column", metavar="NAME", help=f"column of image names in a --list; default: {column}")
    add("--root", metavar="FOLDER", help="base folder of relative names in lists; default: the working folder")
    add("--recursive", action="store_true", help="search folders and their subfolders")


def parse_photographs(parser: argparse.ArgumentParser, arguments: Sequence[str] | None) -> argparse.Namespace:
    """Return the options of a tool with `add_inputs`; ends the program if no photograph is named."""
    parser.set_defaults(engine=LOCAL, map=None)  # for find_images
    args = parser.parse_args(arguments)
    if not (args.images or args.list):
        parser.error("name photographs, folders, patterns or a --list")
    return args


def _add_network(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add(
        "--checkpoint",
        metavar="FILE",
        help=f"trained network, or hf://owner/name[@revision] on the Hugging Face hub; {defaults.NEWEST}: the newest "
        f"best.pt under checkpoint/; default: the weights that come with this project, checkpoint/{defaults.SHIPPED}",
    )
    add("--device", default="auto", help="auto (default), cpu, cuda, cuda:1, mps")
    add(
        "--batch-size",
        type=int,
        metavar="N",
        help="images per forward pass; default: 32 on a GPU; on a CPU, 8 for convolutional "
        "networks such as RichIQA-Lite, else 1 (always 1 with Ray)",
    )
    add(
        "--threads",
        type=int,
        metavar="N",
        help="threads that compute on the CPU; default: OMP_NUM_THREADS, else one per core that this process may use. "
        "With Ray, of each worker; default: its share of the cores",
    )
    add(
        "--precision",
        choices=defaults.PRECISIONS,
        default=defaults.PRECISIONS[0],
        help="fp32 (default): the scores of evaluation; bf16, or fp16 on a GPU: less exact products; auto: bf16 if "
        "this machine has instructions for it, else fp32",
    )
    add(
        "--compile",
        action="store_true",
        help="use torch.compile, which takes a minute at the start; for many images (on a CPU, it gained 3 %%)",
    )
    release = group.add_mutually_exclusive_group()
    release.add_argument("--scale", help="rating scale of a release checkpoint: acr, 0,100 or 1,5:1,2,3,4,5")
    release.add_argument("--config", metavar="FILE", help="YAML that a release checkpoint was trained with")
    add(
        "--preprocess",
        choices=defaults.PREPROCESS,
        default=defaults.PREPROCESS[0],
        help="release (default): squash to a square, central crop, as in evaluation; release-224: squash to 224 "
        "pixels, as in the release's inference script; five-crop: centre and corners, averaged; full: the whole "
        "picture at its own aspect ratio",
    )


def _add_decoding(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add(
        "--workers",
        type=int,
        metavar="N",
        help="threads that read and decode; default: one per core. With Ray, processes; default: one per GPU, else one "
        "per core",
    )
    add(
        "--decode",
        choices=defaults.DECODE,
        default=defaults.EXACT,
        help="exact (default), or draft: decode large JPEGs at a fraction of their size, but not below twice the size "
        "that the network needs; faster, and changes scores slightly",
    )
    add("--max-pixels", type=_integer, default=defaults.MAX_PIXELS, metavar="N", help="largest picture; default: 2e8")
    add(
        "--truncated",
        choices=("error", "accept"),
        default="error",
        help="report a truncated file as an error (default), or score it with the missing part blank",
    )
    add("--background", default=defaults.BACKGROUND, metavar="COLOUR", help="behind transparent pixels; default: white")


def _add_outputs(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--format", choices=defaults.FORMATS, help="default: from the suffix of --output, or text on the terminal")
    add("--output", metavar="FILE", help=f"{', '.join(defaults.OUTPUT_SUFFIXES)}; default: the terminal")
    add("--relative-to", metavar="FOLDER", help="write paths relative to this folder; default: as given")
    add("--resume", action="store_true", help="continue an incomplete --output")
    add("--overwrite", action="store_true", help="replace an existing --output and --report")
    add("--strict", action="store_true", help="stop at the first image that cannot be scored")
    add(
        "--keep",
        metavar="CONDITION",
        help="write only images that fulfil it, such as 'mos_01 > .6 and pow < .1'; names are fields of the output. "
        "Images that could not be scored are written, too",
    )
    add(
        "--best",
        action="store_true",
        default=None,
        help="order the images by the probability that a person finds them the best of all",
    )
    add(
        "--panel",
        type=int,
        metavar="N",
        help="add what a panel of N people would find: the interval of its mean in 90 %% of panels, and how likely it "
        "calls the image good",
    )
    add("--report", metavar="FILE", help=f"write a page with pictures and scores, in one {defaults.PAGE_SUFFIX} file")
    add("--map", metavar="FOLDER", help="draw, for each image, the areas that lower and raise its MOS")


def _add_engine(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    shards = ", ".join(sorted(defaults.SHARD_SUFFIXES))
    add(
        "--engine",
        choices=defaults.ENGINES,
        default=LOCAL,
        help="local (default): one network on one device; ray: several processes, GPUs or machines, which also reads "
        f"object stores (s3://..., gs://...) and files with many images ({shards}), and writes a folder "
        "of Parquet files (--output FOLDER/); needs requirements-scale.txt",
    )
    add("--ray-address", metavar="ADDRESS", help="address of a Ray cluster; default: start a local one")
    add(
        "--image-bytes",
        metavar="NAME",
        help=f"column of image files in Parquet shards; default: {defaults.BYTES_COLUMN}. --image-column names them",
    )
