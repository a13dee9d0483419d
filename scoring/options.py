"""The command line of `inference.py`; imports nothing heavy."""

import argparse
import os
from collections.abc import Sequence

from scoring.defaults import (
    BACKGROUND,
    ENGINES,
    FORMATS,
    IMAGE_BYTES,
    IMAGE_COLUMNS,
    LOCAL,
    MAX_PIXELS,
    OUTPUT_SUFFIXES,
    PAGE_SUFFIX,
    PRECISIONS,
    PREPROCESS,
    RAY,
    SHARDS,
    SUFFIXES,
    is_remote,
)
from scoring.inputs import Inputs

LOCAL_ONLY = ("map", "report")  # options of what is made beside the rows, where the pictures are
RAY_DEVICES = ("auto", "cpu", "cuda")
EPILOG = """\
exit status: 0 all images were scored, 3 some were not (their rows say why), 2 the command was wrong, 130 interrupted,
1 anything else, such as a full disk
"""


def inputs_of(args: argparse.Namespace) -> Inputs:
    left_out = [place for place in (args.map, args.output) if place]
    return Inputs(args.images, args.list, args.recursive, args.image_column, args.root, left_out, args.engine == RAY)


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Predict how good people would find photographs, and how much they would disagree.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    _add_inputs(parser.add_argument_group("what is scored"))
    _add_network(parser.add_argument_group("by which network"))
    _add_pictures(parser.add_argument_group("how pictures are read"))
    _add_outputs(parser.add_argument_group("what is written"))
    _add_engine(parser.add_argument_group("where it runs"))
    args = parser.parse_args(arguments)
    if not args.images and not args.list:
        parser.error("name images, folders, patterns or a --list")
    if args.resume and args.overwrite:
        parser.error("--resume and --overwrite contradict each other")
    for option in ("batch_size", "workers", "max_pixels"):
        if getattr(args, option) is not None and getattr(args, option) < 1:
            parser.error(f"--{option.replace('_', '-')} is 1 or more, got {getattr(args, option)}")
    mistake = _mistake_with_ray(args) if args.engine == RAY else _mistake_without_ray(args)
    if mistake:
        parser.error(mistake)
    return args


def changed(args: argparse.Namespace, **values) -> argparse.Namespace:
    """The options with other values."""
    return argparse.Namespace(**{**vars(args), **values})


def is_folder(output: str | None) -> bool:
    """Whether an --output of the Ray engine is a folder of Parquet files."""
    return output is not None and (output.endswith("/") or is_remote(output) or os.path.isdir(output))


def _mistake_with_ray(args: argparse.Namespace) -> str | None:
    for option in LOCAL_ONLY:
        if getattr(args, option) is not None:
            return f"--{option} goes with --engine local only"
    if args.device not in RAY_DEVICES:
        return f"--device: {args.device!r}, with --engine ray: {', '.join(RAY_DEVICES)}; Ray gives each worker its GPU"
    if args.output is None:
        return "--engine ray: name the --output, a file or a FOLDER/ of Parquet"
    if is_folder(args.output) and args.format not in (None, "parquet"):
        return f"--format: a folder is written as parquet, got {args.format}; name a file, or leave --format away"
    if is_folder(args.output) and args.strict:
        return f"--strict: all workers write into the folder {args.output} at once; name a file"
    return None


def _mistake_without_ray(args: argparse.Namespace) -> str | None:
    for option in ("ray_address", "image_bytes"):
        if getattr(args, option) is not None:
            return f"--{option.replace('_', '-')} goes with --engine ray only"
    if args.output is not None and (args.output.endswith("/") or is_remote(args.output)):
        return f"--output: {args.output} is a folder or in an object store, which --engine ray writes; name a file"
    return None


def _count(text: str) -> int:
    """A whole number, `2e8` as well."""
    number = float(text)
    if number != int(number):
        raise ValueError(text)
    return int(number)


def _add_inputs(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "images",
        nargs="*",
        metavar="IMAGE",
        help="files, folders (of which images are picked: " + " ".join(sorted(SUFFIXES)) + "), patterns in quotation "
        "marks, or - for a list on the standard input",
    )
    group.add_argument(
        "--list", action="append", default=[], metavar="FILE", help="names of images: one in each line, or .csv, .tsv"
    )
    group.add_argument(
        "--image-column", metavar="NAME", help=f"of a --list with columns; default: {' or '.join(IMAGE_COLUMNS)}"
    )
    group.add_argument("--root", metavar="FOLDER", help="that names in lists are below; default: the working folder")
    group.add_argument("--recursive", action="store_true", help="search folders to the bottom")


def _add_network(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--checkpoint", metavar="FILE", help="default: the newest best.pt under checkpoint/")
    group.add_argument("--device", default="auto", help="auto (default), cpu, cuda, cuda:1, mps")
    group.add_argument("--batch-size", type=int, metavar="N", help="images at once; default: 1 on a CPU, else 32")
    group.add_argument(
        "--precision",
        choices=PRECISIONS,
        default=PRECISIONS[0],
        help="fp32 (default): the scores of evaluation; bf16, or fp16 on a GPU: less exact products; auto: bf16 where "
        "this machine has instructions for it, else fp32",
    )
    group.add_argument(
        "--compile",
        action="store_true",
        help="by torch's compiler: a minute more at the start, for many images; on a CPU no gain was measured",
    )
    of_release = group.add_mutually_exclusive_group()
    of_release.add_argument("--scale", help="rating scale of a release checkpoint: acr, 0,100 or 1,5:1,2,3,4,5")
    of_release.add_argument("--config", metavar="FILE", help="YAML that a release checkpoint was trained with")
    group.add_argument(
        "--preprocess",
        choices=PREPROCESS,
        default=PREPROCESS[0],
        help="release (default): squash to a square, central crop, as in training's tests; release-224: the square of "
        "224 pixels of the release's own inference; five-crop: centre and corners, averaged; full: the whole picture "
        "at its own aspect",
    )


def _add_pictures(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--workers",
        type=int,
        metavar="N",
        help="threads that read and decode; default: one a core. With Ray, processes; default: one a GPU, else one a "
        "core",
    )
    group.add_argument(
        "--max-pixels",
        type=_count,
        default=MAX_PIXELS,
        metavar="N",
        help="larger pictures are not decoded; default: 2e8",
    )
    group.add_argument(
        "--truncated",
        choices=("error", "accept"),
        default="error",
        help="a file that ends too early is an error (default), or is scored with the rest blank",
    )
    group.add_argument("--background", default=BACKGROUND, metavar="COLOUR", help="behind transparency; default: white")


def _add_outputs(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--format",
        choices=FORMATS,
        help="default: by the suffix of --output, on the terminal text",
    )
    group.add_argument("--output", metavar="FILE", help=f"{', '.join(OUTPUT_SUFFIXES)}; default: the terminal")
    group.add_argument("--relative-to", metavar="FOLDER", help="tell paths from there; default: as they were named")
    group.add_argument("--resume", action="store_true", help="go on with a half-finished --output")
    group.add_argument("--overwrite", action="store_true", help="replace the --output and --report that are there")
    group.add_argument("--strict", action="store_true", help="stop at the first image that cannot be scored")
    group.add_argument(
        "--report", metavar="FILE", help=f"a page to look through, pictures and scores, in one file: {PAGE_SUFFIX}"
    )
    group.add_argument("--map", metavar="FOLDER", help="draw there, for each image, what lowers and raises its MOS")


def _add_engine(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--engine",
        choices=ENGINES,
        default=LOCAL,
        help="local (default): one network on one device; ray: several processes, GPUs or machines, which also takes "
        f"object stores (s3://..., gs://...) and images inside of files ({', '.join(sorted(SHARDS))}), and writes a "
        "folder of Parquet files (--output FOLDER/); needs requirements-scale.txt",
    )
    group.add_argument("--ray-address", metavar="ADDRESS", help="of a Ray cluster; default: one of this machine's own")
    group.add_argument(
        "--image-bytes",
        metavar="NAME",
        help=f"column of Parquet files that holds the image files; default: {IMAGE_BYTES}. --image-column names theirs",
    )
