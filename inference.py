"""Scores images: `python inference.py IMAGE... [--checkpoint FILE] [--format text|json] [--device NAME]`."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from utils.installation import require_installation

require_installation()

import numpy as np
import torch
from PIL import Image

from datasets.scale import RatingScale
from datasets.transforms import build_test_transform, load_image, to_rgb
from models.loading import load_network
from models.richiqa import RichIQA
from utils.config import load_config
from utils.errors import MissingFileError, UserError
from utils.files import to_json
from utils.run_folder import newest_best
from utils.runtime import pick_device, run_script
from utils.settings import Config, ScaleSettings

RUNS = Path("checkpoint")
BAR_WIDTH = 30
EIGHTHS = " ▏▎▍▌▋▊▉"


@dataclass(frozen=True)
class Prediction:
    """What people would say of one image: `mos` and `sos` in units of `scale`, `dos` over its bins, lowest first."""

    mos: float
    sos: float
    dos: tuple[float, ...]
    scale: RatingScale


class Predictor:
    """A trained network with its transform and its rating scale; made by `load_predictor`."""

    def __init__(self, model: RichIQA, config: Config, device: torch.device, checkpoint: Path):
        self.model = model.eval().to(device)
        self.scale = RatingScale(**config.scale.model_dump())
        self.transform = build_test_transform(config.transform)
        self.device = device
        self.checkpoint = checkpoint

    @torch.inference_mode()
    def __call__(self, image: str | Path | Image.Image) -> Prediction:
        """Scores one image, as the evaluation of main.py does.

        Args:
            image: A path, or a PIL image of any mode.

        Raises:
            MissingFileError: No such file.
            UserError: Not an image that can be decoded.
        """
        if not isinstance(image, (str, Path, Image.Image)):
            kind = type(image).__name__
            raise UserError(f"an image is a path or a PIL image, got {kind}; an array becomes one by Image.fromarray")
        picture = to_rgb(image) if isinstance(image, Image.Image) else load_image(image)
        pixels = self.transform(picture)[None].to(self.device)  # (1, 3, H, W)
        dos = self.model(pixels).cpu().double().numpy()  # (1, K)
        if not np.isfinite(dos).all():
            raise UserError(f"{self.checkpoint} predicts values that are not finite; its training went wrong")
        mos, sos = self.scale.mean(dos)[0], self.scale.std(dos)[0]
        return Prediction(float(mos), float(sos), tuple(dos[0].tolist()), self.scale)


def load_predictor(
    checkpoint: str | Path | None = None,
    device: str = "auto",
    scale: RatingScale | str | None = None,
    config: Config | str | Path | None = None,
) -> Predictor:
    """Builds a predictor from a checkpoint alone.

    Args:
        checkpoint: `best.pt` or `last.pt` of a run, or a checkpoint of the RichIQA release; None for the newest best.pt
            under checkpoint/.
        device: `auto`, `cpu`, `cuda`, `cuda:1`, `mps`.
        scale: Rating scale of a checkpoint of the release, which does not carry one; a text as for `--scale`.
        config: Instead of `scale`, the config that such a checkpoint was trained with: scale, transform and network;
            or the path of its YAML.

    Raises:
        MissingFileError: No checkpoint.
        UserError: A checkpoint that does not fit, a device that is not there, or a scale too many or too few.
    """
    path = Path(checkpoint) if checkpoint is not None else newest_best(RUNS)
    target = pick_device(device)
    network = load_network(path, _stated_config(scale, config))
    if network.own and not (scale is None and config is None):
        raise UserError(f"{path} carries its own rating scale and config; leave yours away")
    return Predictor(network.model, network.config, target, path)


def parse_scale(text: str) -> RatingScale:
    """`LOW,HIGH` (five equal bins) or `LOW,HIGH:C1,C2,...` (bin centres) as a rating scale; `acr` is 1,5:1,2,3,4,5.

    Raises:
        UserError: Another form.
    """
    if text == "acr":
        return RatingScale(**ScaleSettings().model_dump())
    ends, _, centers = text.partition(":")
    try:
        low, high = (float(end) for end in ends.split(","))
        step = (high - low) / 5
        named = [float(center) for center in centers.split(",")] if centers else []
    except ValueError as error:
        raise UserError(
            f"--scale: {text!r} is no rating scale; write acr, LOW,HIGH for five equal bins, such as 0,100, or "
            "LOW,HIGH:C1,C2,... with the score of each bin, such as 1,5:1,2,3,4,5"
        ) from error
    return RatingScale(low, high, tuple(named or (low + (k + 0.5) * step for k in range(5))))


def as_text(path: str, prediction: Prediction) -> str:
    """One block for the terminal: MOS with its scale, SOS, and a bar for each bin."""
    lines = [
        path,
        f"  MOS {prediction.mos:8.3f}  (scale {prediction.scale.describe()})",
        f"  SOS {prediction.sos:8.3f}",
    ]
    for center, share in zip(prediction.scale.bin_centers, prediction.dos, strict=True):
        lines.append(f"  DOS {center:8g}  {_bar(share)} {100 * share:5.1f} %")
    return "\n".join(lines)


def as_record(path: str, prediction: Prediction) -> dict:
    """The same as plain data."""
    scale = prediction.scale
    return {
        "path": path,
        "mos": prediction.mos,
        "sos": prediction.sos,
        "dos": list(prediction.dos),
        "scale": {
            "low": scale.low,
            "high": scale.high,
            "bin_centers": list(scale.bin_centers),
            "higher_is_better": scale.higher_is_better,
        },
    }


def main(arguments: Sequence[str] | None = None) -> int:
    args = parse_arguments(arguments)
    missing = [path for path in args.images if not Path(path).is_file()]
    if missing:
        raise MissingFileError(f"{len(missing)} of {len(args.images)} images are not files: {', '.join(missing)}")
    predictor = load_predictor(args.checkpoint, args.device, args.scale, args.config)
    records, failures = [], []
    for path in args.images:
        try:
            prediction = predictor(path)
        except UserError as error:
            failures.append(str(error))
            continue
        records.append(as_record(path, prediction))
        if args.format == "text":
            header = f"checkpoint {predictor.checkpoint}\n\n" if len(records) == 1 else "\n"
            print(header + as_text(path, prediction), flush=True)
    if args.format == "json" and (records or not failures):
        print(to_json({"checkpoint": str(predictor.checkpoint), "images": records}, indent=2))
    if failures:
        raise UserError("; ".join(failures))
    return 0


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Predict MOS, SOS and DOS of images.", allow_abbrev=False)
    parser.add_argument("images", nargs="+", metavar="IMAGE", help="image files")
    parser.add_argument("--checkpoint", metavar="FILE", help="default: the newest best.pt under checkpoint/")
    parser.add_argument("--format", choices=("text", "json"), default="text")
    parser.add_argument("--device", default="auto", help="auto (default), cpu, cuda, cuda:1, mps")
    of_release = parser.add_mutually_exclusive_group()
    of_release.add_argument("--scale", help="rating scale of a release checkpoint: acr, 0,100 or 1,5:1,2,3,4,5")
    of_release.add_argument("--config", metavar="FILE", help="YAML that a release checkpoint was trained with")
    return parser.parse_args(arguments)


def _stated_config(scale: RatingScale | str | None, config: Config | str | Path | None) -> Config | None:
    """The config that a caller states for a checkpoint of the release: its own, or the release's on a stated scale."""
    if config is not None:
        return config if isinstance(config, Config) else load_config(config)
    if scale is None:
        return None
    scale = parse_scale(scale) if isinstance(scale, str) else scale
    return Config(scale=ScaleSettings(**{name: getattr(scale, name) for name in ScaleSettings.model_fields}))


def _bar(share: float) -> str:
    eighths = round(share * BAR_WIDTH * 8)
    full, rest = divmod(eighths, 8)
    return ("█" * full + (EIGHTHS[rest] if rest else "")).ljust(BAR_WIDTH)


if __name__ == "__main__":
    run_script(main)
