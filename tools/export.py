"""Export a trained network: weights with their config, or a graph that runs without this project.

`python tools/export.py CHECKPOINT --format safetensors|onnx|torch [--half] [--output FILE]`. The graph takes batches of
any size with images of one size, that of the tests of the training.

`python tools/export.py CHECKPOINT --format hub --output FOLDER [--evaluations FOLDER ...] [--half]` writes a repository
for the Hugging Face hub: the weights, their config and a model card.
"""

import argparse
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from utils.script import first_line, run_script, start_imports

if __name__ == "__main__":
    start_imports()

from utils.installation import require_installation

require_installation()

from datasets.scale import RatingScale
from models.export import CHECKED, FORMATS, HALF, INPUT, ExportFormat, describe_differences, export
from models.weights import TrainedNetwork
from scoring.loading import find_checkpoint, load_with_scale
from utils.errors import UserError
from utils.files import reading, require_place
from utils.hub import is_hub_address

HUB = "hub"


def main(arguments: Sequence[str] | None = None) -> int:
    args = parse_arguments(arguments)
    if args.format == HUB:
        return export_repository(args)
    if args.evaluations:
        raise UserError(f"--evaluations is for the model card of --format {HUB}; omit it")
    form = choose_format(args.format, args.output)
    if args.half:
        if form is not FORMATS["safetensors"]:
            raise UserError(f"--half: {form.title} keeps float32; use it with --format safetensors, or omit it")
        form = HALF
    require_packages(form)
    if args.output is None and is_hub_address(args.checkpoint):
        raise UserError(f"--output: name the file to write, since {args.checkpoint} is in the cache of the hub")
    checkpoint = find_checkpoint(args.checkpoint)
    network = load_with_scale(checkpoint, args.scale, args.trained_with)
    path = args.output or checkpoint.with_suffix(form.suffix)
    check_output(path, checkpoint, args.overwrite)
    differences = export(network, form, path)
    print(describe(network, form, path, differences))
    return 0


def export_repository(args: argparse.Namespace) -> int:
    """Write a folder for the Hugging Face hub, and print what is in it."""
    from experiments.model_card.hub import FILES, check_folder, write_repository  # noqa: PLC0415, imports matplotlib

    if args.output is None:
        raise UserError(f"--output: name the folder to write; --format {HUB} needs it")
    check_folder(args.output, args.overwrite)
    network = load_with_scale(find_checkpoint(args.checkpoint), args.scale, args.trained_with)
    form = HALF if args.half else FORMATS["safetensors"]
    differences, titles = write_repository(network, form, args.output, args.evaluations)
    print(f"written to {args.output}: {', '.join(FILES)}; {form.title}")
    print(f"  results in the card: {', '.join(titles) or 'none; --evaluations adds those of main.py --evaluate'}")
    print(f"  largest difference from the network on {CHECKED} random images: {describe_differences(differences)}")
    print(f"  `hf upload owner/name {args.output}` publishes it; read README.md before")
    return 0


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=first_line(__doc__), allow_abbrev=False)
    parser.add_argument(
        "checkpoint", metavar="CHECKPOINT", help="best.pt of a run, hf://owner/name[@revision], or one of the release"
    )
    parser.add_argument("--format", choices=[*FORMATS, HUB], help="default: from the suffix of --output")
    parser.add_argument("--half", action="store_true", help="store large tensors of safetensors as float16")
    parser.add_argument(
        "--output", metavar="FILE", type=Path, help=f"with {HUB}, a folder; default: a file next to the checkpoint"
    )
    parser.add_argument(
        "--evaluations",
        metavar="FOLDER",
        type=Path,
        action="append",
        default=[],
        help=f"with {HUB}, folder with evaluations for the card, may be repeated; default: metrics.json beside the "
        "checkpoint",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace an existing file or folder")
    release = parser.add_mutually_exclusive_group()
    release.add_argument("--scale", help="rating scale of a release checkpoint: acr, 0,100 or 1,5:1,2,3,4,5")
    release.add_argument("--trained-with", metavar="FILE", help="YAML that a release checkpoint was trained with")
    return parser.parse_args(arguments)


def choose_format(name: str | None, output: Path | None) -> ExportFormat:
    """Return the requested format, else the one of the file's suffix.

    Raises:
        UserError: Neither is given, or they contradict each other.
    """
    known = ", ".join(form.suffix for form in FORMATS.values())
    if output is None and name is None:
        raise UserError(f"no format: use --format {', '.join(FORMATS)}, or an --output FILE ending in {known}")
    if output is None:
        return FORMATS[name]
    by_suffix = {form.suffix: key for key, form in FORMATS.items()}
    found = by_suffix.get(output.suffix)
    if name is not None and name != found:
        raise UserError(f"--output: {output} should end in {FORMATS[name].suffix} for --format {name}")
    if found is None:
        raise UserError(f"--output: {output} should end in one of {known}")
    return FORMATS[found]


def require_packages(form: ExportFormat) -> None:
    """Refuse a format whose packages are not installed."""
    missing = [name for name in form.packages if find_spec(name) is None]
    if missing:
        raise UserError(f"{form.suffix} needs {', '.join(missing)}; run `pip install {' '.join(form.packages)}`")


def check_output(path: Path, checkpoint: Path, overwrite: bool) -> None:
    """Check before the work that the file can be written and does not replace another file."""
    with reading(path):
        if path.is_dir():
            raise UserError(f"--output: {path} is a folder; name a file in it")
        if path.exists() and path.samefile(checkpoint):
            raise UserError(f"{path} is the checkpoint itself; name another file with --output")
        if path.exists() and not overwrite:
            raise UserError(f"{path} already exists; --overwrite replaces it")
    require_place(path.parent)


def describe(network: TrainedNetwork, form: ExportFormat, path: Path, differences: dict[str, float]) -> str:
    """Describe the exported file: its inputs and outputs, and its accuracy."""
    scale, side = RatingScale.from_settings(network.config.scale), network.config.transform.test_side
    resize, centers = network.config.transform.resize, scale.bin_centers
    rows = [
        (INPUT, f"(B, 3, {side}, {side})", f"RGB, 0 to 1: squashed to {resize} x {resize}, centre crop of {side}"),
        ("dos", f"(B, {scale.num_bins})", f"0 to 1, sum 1: shares of {', '.join(f'{center:g}' for center in centers)}"),
        ("mos", "(B,)", f"{centers[0]:g} to {centers[-1]:g} on a scale of {scale.describe()}"),
        ("sos", "(B,)", f"0 to {(centers[-1] - centers[0]) / 2:g}"),
    ]
    lines = [f"written to {path}: {form.title}, {path.stat().st_size / 1e6:.1f} MB"]
    if form.suffix == FORMATS["safetensors"].suffix:
        split = "the names of the training's images" if network.origin else "no names of training images"
        lines.append(f"  weights, config, scale and {split}; for every option that takes a checkpoint")
    else:
        lines += [f"  {name:6}  {shape:{len(rows[0][1])}}  float32, {meaning}" for name, shape, meaning in rows]
    lines.append(
        f"  largest difference from the network on {CHECKED} random images: {describe_differences(differences)}"
    )
    return "\n".join([*lines, "  (mos and sos relative to the scale's width)"])


if __name__ == "__main__":
    run_script(main)
