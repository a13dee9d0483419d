"""Build a predictor from a checkpoint."""

import argparse
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from PIL import Image, ImageFile

from datasets.scale import RatingScale
from models.precision import FP32
from models.weights import WEIGHTS_FOLDER, TrainedNetwork, default_modes, load_network
from scoring.defaults import NEWEST, SHIPPED, local_path
from scoring.pictures import PictureSettings
from scoring.predictor import SPAWN, Predictor
from scoring.preprocess import RELEASE
from scoring.scale_text import parse_scale
from utils.config import load_config
from utils.errors import MissingFileError, UserError
from utils.files import file_hash
from utils.hub import is_hub_address, local_file
from utils.memory import keep_freed_memory
from utils.runtime import pick_device
from utils.settings import Config, ScaleSettings
from utils.threads import is_limited_to_one_thread, set_threads

RUNS = Path("checkpoint")
SHIPPED_WEIGHTS = WEIGHTS_FOLDER / SHIPPED  # wherever this code is: in a checkout, or installed
HASH_LENGTH = 16  # hexadecimal digits


@default_modes()
def load_predictor(
    checkpoint: str | Path | None = None,
    device: str | torch.device = "auto",
    scale: RatingScale | str | None = None,
    config: Config | str | Path | None = None,
    preprocess: str = RELEASE,
    pictures: PictureSettings = PictureSettings(),
    precision: str = FP32,
    compiled: bool = False,
    threads: int | None = None,
) -> Predictor:
    """Build a predictor from a checkpoint.

    Args:
        checkpoint: `best.pt` or `last.pt` of a run, an exported .safetensors, or a checkpoint of the RichIQA release;
            `hf://owner/name[@revision]` names a repository on the Hugging Face hub, `newest` the newest best.pt under
            checkpoint/, None the weights that come with this project.
        device: `auto`, `cpu`, `cuda`, `cuda:1` or `mps`.
        scale: Rating scale of a release checkpoint, which does not contain one; may be text, as for `--scale`.
        config: Config that a release checkpoint was trained with, or the path of its YAML; replaces `scale`.
        preprocess: `release`, `release-224`, `five-crop` or `full`; see scoring/preprocess.py.
        pictures: Largest picture to decode, and the background of transparent ones.
        precision: `fp32`, `bf16`, `fp16` or `auto`; see models/precision.py.
        compiled: Whether to use torch.compile, which takes a minute at the first call; not with `full`.
        threads: Number of threads that torch computes with in the whole process; None keeps torch's own number, but
            uses no more than the cores that this process may use.

    Raises:
        MissingFileError: The checkpoint does not exist.
        UserError: The checkpoint does not fit, or the hub does not have it; the device, precision or compiler is not
            available, or the number of threads; the scale is missing, or given although the checkpoint contains one.
    """
    if threads is not None and threads < 1:
        raise UserError(f"threads: {threads} is not allowed; use 1 or more")
    if threads not in (None, 1) and is_limited_to_one_thread():
        raise UserError(f"threads: {threads}; a forked process computes on 1, {SPAWN}")
    set_threads(threads)
    path = find_checkpoint(checkpoint)
    target = pick_device(device)
    with ThreadPoolExecutor(1) as pool:  # hashing takes as long as building the network, and releases the GIL
        digest = pool.submit(short_hash, path)
        network = load_with_scale(path, scale, config)
    return Predictor(network, digest.result(), target, preprocess, pictures, precision, compiled)


def build_predictor(args: argparse.Namespace) -> Predictor:
    """Build the predictor that the options select; changes the settings of Pillow and malloc for the whole process."""
    keep_freed_memory()
    pictures = PictureSettings(args.max_pixels, args.background, args.decode)
    Image.MAX_IMAGE_PIXELS = None  # `max_pixels` replaces it, with a clearer message
    warnings.filterwarnings("ignore", module="PIL")  # about odd EXIF and palettes that do not prevent reading
    ImageFile.LOAD_TRUNCATED_IMAGES = args.truncated == "accept"  # the missing part is blank
    return load_predictor(
        *(args.checkpoint, args.device, args.scale, args.config, args.preprocess),
        *(pictures, args.precision, args.compile, args.threads),
    )


def load_with_scale(
    path: str | Path, scale: RatingScale | str | None, config: Config | str | Path | None
) -> TrainedNetwork:
    """Load a network from its checkpoint; `scale` or `config` complete a release checkpoint, as in `load_predictor`.

    Raises:
        UserError: A scale or config is missing, or given although the checkpoint contains both.
    """
    if isinstance(config, (str, Path)):
        config = load_config(local_path(str(config)))
    elif config is None and scale is not None:
        scale = parse_scale(scale) if isinstance(scale, str) else scale
        config = Config(scale=ScaleSettings(**vars(scale)))
    network = load_network(path, config)
    if network.own and config is not None:
        raise UserError(f"{path} already contains its rating scale and config; omit yours")
    return network


def short_hash(path: Path) -> str:
    """Return the first digits of a file's SHA-256."""
    return file_hash(path)[:HASH_LENGTH]


def find_checkpoint(checkpoint: str | Path | None) -> Path:
    """Return the path of a checkpoint, as in `load_predictor`.

    Raises:
        MissingFileError: The shipped weights are missing, or there is no run.
        UserError: The checkpoint cannot be loaded from the hub.
    """
    if checkpoint == NEWEST:
        return newest_best(RUNS)
    if checkpoint is not None and is_hub_address(checkpoint):
        return local_file(checkpoint)
    if checkpoint is not None:
        return Path(local_path(str(checkpoint)))
    if not SHIPPED_WEIGHTS.is_file():
        raise MissingFileError(
            f"the weights that come with this project are missing: {SHIPPED_WEIGHTS} does not exist; restore the file, "
            f"or name a checkpoint: --checkpoint FILE, or --checkpoint {NEWEST} for the newest best.pt under {RUNS}/"
        )
    return SHIPPED_WEIGHTS


def newest_best(root: Path) -> Path:
    """Return the most recent best.pt in a folder of runs.

    Raises:
        MissingFileError: The folder contains no best.pt.
    """
    found = sorted(root.glob("*/split_*/best.pt"), key=lambda path: path.stat().st_mtime)
    if not found:
        raise MissingFileError(
            f"no run with a best.pt in {root.resolve()}; `python main.py` trains the demo; or name a checkpoint"
        )
    return found[-1]
