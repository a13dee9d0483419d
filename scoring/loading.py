"""A predictor from a checkpoint alone."""

import argparse
import hashlib
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from PIL import Image

from datasets.scale import RatingScale
from models.precision import FP32
from models.weights import TrainedNetwork, load_network
from scoring.pictures import PictureSettings, accept_truncated
from scoring.predictor import Predictor
from scoring.preprocess import RELEASE
from scoring.scale_text import parse_scale
from utils.config import load_config
from utils.errors import MissingFileError, UserError
from utils.runtime import pick_device
from utils.settings import Config, ScaleSettings

RUNS = Path("checkpoint")
HASH_LENGTH = 16  # hexadecimal digits
HASH_BLOCK = 2**20


def load_predictor(
    checkpoint: str | Path | None = None,
    device: str | torch.device = "auto",
    scale: RatingScale | str | None = None,
    config: Config | str | Path | None = None,
    preprocess: str = RELEASE,
    pictures: PictureSettings = PictureSettings(),
    precision: str = FP32,
    compiled: bool = False,
) -> Predictor:
    """Builds a predictor from a checkpoint alone.

    Args:
        checkpoint: `best.pt` or `last.pt` of a run, or a checkpoint of the RichIQA release; None for the newest best.pt
            under checkpoint/.
        device: `auto`, `cpu`, `cuda`, `cuda:1`, `mps`.
        scale: Rating scale of a checkpoint of the release, which does not carry one; a text as for `--scale`.
        config: Instead of `scale`, the config that such a checkpoint was trained with: scale, transform and network;
            or the path of its YAML.
        preprocess: `release`, `release-224`, `five-crop` or `full`, see scoring/preprocess.py.
        pictures: The largest picture that is decoded, and the colour behind transparent ones.
        precision: `fp32`, `bf16`, `fp16` or `auto`, see models/precision.py.
        compiled: By torch's compiler, at the first call, which then takes a minute; not with `full`.

    Raises:
        MissingFileError: No checkpoint.
        UserError: A checkpoint that does not fit, a device, precision or compiler that is not there, or a scale too
            many or too few.
    """
    path = Path(checkpoint) if checkpoint is not None else newest_best(RUNS)
    target = pick_device(device)
    with ThreadPoolExecutor(1) as pool:  # reading for the hash takes as long as building, and leaves Python free
        digest = pool.submit(hash_of, path)
        network = load_stated(path, scale, config)
    return Predictor(network, digest.result(), target, preprocess, pictures, precision, compiled)


def build_predictor(args: argparse.Namespace) -> Predictor:
    """The network that the options name; sets what Pillow keeps for the whole process."""
    pictures = PictureSettings(args.max_pixels, args.background)
    Image.MAX_IMAGE_PIXELS = None  # `max_pixels` stands for it, and says what to do
    warnings.filterwarnings("ignore", module="PIL")  # odd EXIF and palettes: the picture is read all the same
    if args.truncated == "accept":
        accept_truncated()
    return load_predictor(
        args.checkpoint, args.device, args.scale, args.config, args.preprocess, pictures, args.precision, args.compile
    )


def load_stated(
    path: str | Path, scale: RatingScale | str | None, config: Config | str | Path | None
) -> TrainedNetwork:
    """A network from its checkpoint, with what is said of one of the release, as for `load_predictor`.

    Raises:
        UserError: A checkpoint that carries its own scale and config, and others were said; or none, and nothing was.
    """
    network = load_network(path, _stated_config(scale, config))
    if network.own and not (scale is None and config is None):
        raise UserError(f"{path} carries its own rating scale and config; leave yours away")
    return network


def _stated_config(scale: RatingScale | str | None, config: Config | str | Path | None) -> Config | None:
    """The config that a caller states for a checkpoint of the release: its own, or the release's on a stated scale."""
    if config is not None:
        return config if isinstance(config, Config) else load_config(config)
    if scale is None:
        return None
    scale = parse_scale(scale) if isinstance(scale, str) else scale
    return Config(scale=ScaleSettings(**{name: getattr(scale, name) for name in ScaleSettings.model_fields}))


def hash_of(path: Path) -> str:
    """The first digits of a file's SHA-256."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(HASH_BLOCK):
            digest.update(block)
    return digest.hexdigest()[:HASH_LENGTH]


def newest_best(root: Path) -> Path:
    """The best.pt that was written last under a root of runs.

    Raises:
        MissingFileError: There is none.
    """
    found = sorted(root.glob("*/split_*/best.pt"), key=lambda path: path.stat().st_mtime)
    if not found:
        raise MissingFileError(
            f"no trained network under {root.resolve()}; `python main.py` trains the demo, --checkpoint FILE names "
            "another"
        )
    return found[-1]
