"""Loading of pretrained weights, whose names must match exactly, and of trained networks from checkpoints."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from models import build_model
from models.cvt import CvT
from models.official import StateDict, compare_names, from_cvt, from_huggingface, from_official
from models.richiqa import RichIQA
from models.timm_backbone import PREFIX as TIMM_PREFIX
from models.timm_backbone import TimmBackbone, build_timm_backbone, is_built_here
from utils.checkpoint import is_own, read_tensors
from utils.errors import SHOWN, MachineError, UserError, shortened, some_of
from utils.hub import WEIGHTS, download, is_hub_address, local_file
from utils.schema import CheckpointContent, checked
from utils.settings import Config, ModelSettings

WEIGHTS_FOLDER = Path(__file__).resolve().parents[1] / "checkpoint"
IMAGENET22K = {  # backbone -> (file of CvT, repository of the Hugging Face port)
    "cvt_21": ("CvT-21-384x384-IN-22k.pth", "microsoft/cvt-21-384-22k"),
    "cvt_13": ("CvT-13-384x384-IN-22k.pth", "microsoft/cvt-13-384-22k"),
}
ALIGNMENT = 64  # bytes, of what torch allocates on a CPU
HUB_FILES = (WEIGHTS, "pytorch_model.bin")
CONTAINERS = (  # keys under which programs save a state dict; averaged weights come first
    *("state_dict_ema", "model_ema", "params_ema", "ema"),
    *("state_dict", "model_state_dict", "model", "module", "network", "net", "params", "weights"),
)
WRAPPERS = {  # parts of names, from torch's wrappers: DataParallel and its kind, compile, FSDP, checkpointing
    *("module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"),
}
KINDS = {  # a first part of the names tells whose names they are, and of what
    "algorithmic": ("network", lambda weights: weights),
    "layers": ("network", from_official),
    "stages": ("backbone", lambda weights: weights),
    "stage0": ("backbone", from_cvt),
    "cvt": ("backbone", from_huggingface),
    "encoder": ("backbone", from_huggingface),
}


def load_pretrained(model: RichIQA, settings: ModelSettings) -> str:
    """Load the weights that `model.pretrained` names, and return a sentence about what was loaded.

    `none` loads nothing. `imagenet22k` is CvT's own: the file in checkpoint/, else the Hugging Face hub or its cache.
    `timm` is timm's own for a timm backbone. Anything else is the path of a file, or the address of a repository on
    the hub: CvT or its port (backbone only), or a checkpoint of this project or of the release (the whole network, or
    `model.pretrained_part` of it).

    Raises:
        UserError: The weights are not available or do not fit.
    """
    source = settings.pretrained
    if source == "none":
        return "weights: random"
    if is_hub_address(source):
        source = str(local_file(source))
    if settings.backbone.startswith(TIMM_PREFIX) and source != "imagenet22k" and not _is_network_file(source):
        trained = build_timm_backbone(settings, source)
        load_exactly(model.backbone, trained.state_dict(), f"timm weights {source}")
        return f"weights: backbone from timm ({source}); head: random"
    if source == "timm":
        raise UserError(
            f"model.pretrained: `timm` is for a timm backbone, not for {settings.backbone}; use imagenet22k"
        )
    path = find_imagenet22k(settings.backbone) if source == "imagenet22k" else Path(source)
    content = read_tensors(path)
    part, state_dict = translate_weights(content, path)
    if part == "network" and settings.pretrained_part == "all":
        try:
            load_exactly(model, state_dict, str(path))
        except UserError as error:
            raise UserError(f"{error}; model.pretrained_part=backbone loads the backbone alone") from error
        temperature = _temperature(content, path)
        left = f"; its temperature {temperature:.4g} is not used" if temperature != settings.temperature else ""
        return f"weights: whole network from {path}{left}"
    if part == "network":
        start = "backbone."
        state_dict = {name.removeprefix(start): each for name, each in state_dict.items() if name.startswith(start)}
    if isinstance(model.backbone, CvT):
        state_dict, dropped = _drop_unread_stages(model.backbone, state_dict)
    else:
        dropped = []
    load_exactly(model.backbone, state_dict, str(path))
    left_out = f"; left out: stages {', '.join(dropped)}, which are not used" if dropped else ""
    return f"weights: backbone from {path} ({len(state_dict)} tensors){left_out}; head: random"


def _temperature(content: dict[str, Any], path: Path) -> float:
    """Return `model.temperature` of a checkpoint of this project; 1 of others."""
    return checked(CheckpointContent, content, path).config.model.temperature if is_own(content) else 1.0


def load_exactly(model: nn.Module, state_dict: StateDict, source: str) -> None:
    """Load a state dict whose names and shapes must match the model exactly.

    Raises:
        UserError: Names are missing or unexpected, a shape differs, or a value is not finite.
    """
    expected = model.state_dict()
    compare_names(state_dict, expected, source)
    for name, tensor in state_dict.items():
        if tensor.shape != expected[name].shape:
            raise UserError(
                f"{source} does not fit this network: {name} is {tuple(tensor.shape)} there, "
                f"{tuple(expected[name].shape)} here"
            )
    if any(tensor.is_meta for tensor in expected.values()):  # nothing to copy into
        # copied where a file has put them elsewhere in memory than torch would: sums may differ in their last bit
        state_dict = {
            name: tensor.to(expected[name].dtype, copy=tensor.data_ptr() % ALIGNMENT != 0)
            for name, tensor in state_dict.items()
        }
        model.load_state_dict(state_dict, assign=True)
    else:
        model.load_state_dict(state_dict)
    _require_finite(model.state_dict(), source)


def _require_finite(state_dict: StateDict, source: str) -> None:
    """Raise an error if a weight is infinite or no number; their sums tell, in a third of the time."""
    bad = [name for name, tensor in state_dict.items() if not tensor.sum(dtype=torch.float64).isfinite()]
    if bad:
        raise UserError(
            f"{source} contains values that are infinite or not numbers, in {len(bad)} tensors such as {bad[0]}: the "
            "file is damaged, or the training diverged; use an earlier checkpoint"
        )


def translate_weights(content: dict, path: Path) -> tuple[str, StateDict]:
    """Return the weights in a file under our names, and which part they are: `backbone` or `network`.

    Args:
        content: Content of the file: a checkpoint of this project, or a state dict, which other programs may have put
            under a key of its own, and whose names torch's wrappers may have changed.
        path: The file, named in errors.

    Raises:
        UserError: The names are of no known kind, or there are no weights.
    """
    if is_own(content):
        return "network", _own_weights(content, path)
    state_dict = _unwrapped_names(_find_state_dict(content, path))
    first = {name.partition(".")[0] for name in state_dict}
    for key, (part, translate) in KINDS.items():
        if key in first:
            return part, translate(state_dict)
    shown = ", ".join(repr(shortened(name, SHOWN)) for name in list(state_dict)[:3])
    raise UserError(
        f"{path} contains weights of no known kind: {len(state_dict)} tensors such as {shown}; known: a checkpoint of "
        "this project or of the RichIQA release, CvT's .pth, the Hugging Face port of CvT; for a timm backbone, timm's "
        "own names"
    )


def _find_state_dict(content: dict, path: Path) -> StateDict:
    """Return the state dict in a file, which may be the content itself or below one of CONTAINERS."""
    for key in (key for key in CONTAINERS if isinstance(content.get(key), dict) and content[key]):
        return _find_state_dict(content[key], path)
    tensors = {name: value for name, value in filter(_is_named_tensor, content.items()) if name != "n_averaged"}
    if not tensors:
        keys = some_of([shortened(str(key), SHOWN) for key in content], 8)
        raise UserError(f"{path} contains no state dict, that is, tensors by name; its keys: {keys}")
    return tensors


def _unwrapped_names(state_dict: StateDict) -> StateDict:
    """Return a state dict without the parts of names that wrappers add, such as `module.` or `model.`."""
    names = [[part for part in name.split(".") if part not in WRAPPERS] or [name] for name in state_dict]
    while len(first := {parts[0] for parts in names}) == 1 and not first & KINDS.keys() and len(names[0]) > 1:
        names = [parts[1:] or parts for parts in names]
    return dict(zip(map(".".join, names), state_dict.values(), strict=True))


def _own_weights(content: dict, path: Path) -> StateDict:
    """Return the weights of our checkpoint for inference: the averaged ones if training kept an average."""
    weights = content.get("model") if content.get("average") is None else content["average"]
    if not isinstance(weights, dict) or not all(map(_is_named_tensor, weights.items())):
        raise UserError(f"{path} contains no weights, although it says that it is a checkpoint of this project")
    if content.get("average") is None:
        return weights
    return {name.removeprefix("module."): tensor for name, tensor in weights.items() if name != "n_averaged"}


def _is_named_tensor(item: tuple[Any, Any]) -> bool:
    return isinstance(item[0], str) and isinstance(item[1], Tensor)


def find_imagenet22k(backbone: str) -> Path:
    """Find the ImageNet-22k weights of a CvT: in checkpoint/, else on the Hugging Face hub or in its local cache.

    Raises:
        UserError: The weights are not available; the message names both ways to get them.
    """
    if backbone not in IMAGENET22K:
        raise UserError(
            f"model.pretrained: imagenet22k exists for {', '.join(IMAGENET22K)}, not for {backbone}; use `none`, a "
            "path, or `timm` for a timm backbone"
        )
    filename, repository = IMAGENET22K[backbone]
    if (WEIGHTS_FOLDER / filename).is_file():
        return WEIGHTS_FOLDER / filename
    try:
        return download(repository, HUB_FILES, prefer_cache=True)
    except MachineError:
        raise
    except UserError as error:
        raise UserError(
            f"model.pretrained: imagenet22k weights of {backbone} are not available; put {filename} (from CvT's model "
            f"zoo) into {WEIGHTS_FOLDER}, set model.pretrained=none to start from random weights, or enable the "
            f"download: {error}"
        ) from error


def _is_network_file(source: str) -> bool:
    """Return whether a path is a network of this project, rather than weights for timm."""
    if not Path(source).is_file():
        return False
    content = read_tensors(source)
    return is_own(content) or any(
        name.startswith("algorithmic.") for name in _unwrapped_names(dict(filter(_is_named_tensor, content.items())))
    )


def _drop_unread_stages(backbone: nn.Module, state_dict: StateDict) -> tuple[StateDict, list[str]]:
    """Return the state dict without the stages that the network does not use, and the numbers of these, from 1."""
    built = len(backbone.widths)
    numbers = {name: re.match(r"stages\.(\d{1,3})\.", name) for name in state_dict}
    stage_of = {name: int(match[1]) + 1 for name, match in numbers.items() if match}
    kept = {name: tensor for name, tensor in state_dict.items() if stage_of.get(name, 0) <= built}
    return kept, [str(stage) for stage in sorted(set(stage_of.values())) if stage > built]


@dataclass(frozen=True)
class TrainedNetwork:
    """Trained network with its config.

    Args:
        model: Network, on the CPU.
        config: Config of its training; scoring needs scale, transform and model.
        own: Whether the checkpoint contained this config; one of the release does not.
        origin: split.json of its training, with the images it was trained on; None if the checkpoint has none.
        chosen_epoch: Whether it is of the selected epoch, as a best.pt is, rather than of the last one.
        path: Checkpoint.
    """

    model: RichIQA
    config: Config
    own: bool
    origin: dict[str, Any] | None
    chosen_epoch: bool
    path: Path


@contextmanager
def default_modes() -> Iterator[None]:
    """Let torch make ordinary float32 tensors in the block, whatever the caller has set for its own."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        with torch.inference_mode(False):  # inference tensors have no gradient
            yield
    finally:
        torch.set_default_dtype(before)


@default_modes()
def load_network(path: str | Path, config_of_release: Config | None = None) -> TrainedNetwork:
    """Build a network from a checkpoint of this project, or of the release with the config that it does not contain.

    Args:
        path: File, or `hf://owner/name[@revision]` on the Hugging Face hub.
        config_of_release: Config of a checkpoint of the release.

    Raises:
        MissingFileError: The file does not exist.
        UserError: It cannot be loaded from the hub, or is another kind of file, or a checkpoint of the release without
            a config.
    """
    path = local_file(path)
    content = read_tensors(path)
    own = checked(CheckpointContent, content, path) if is_own(content) else None
    part, weights = translate_weights(content, path)
    if part != "network":
        raise UserError(f"{path} contains a backbone, not a trained RichIQA; train with model.pretrained={path}")
    config = own.config if own else config_of_release
    if config is None:
        raise UserError(
            f"{path} contains a network without its rating scale, as the release's checkpoints do; name the scale: "
            "--scale acr or --config configs/koniq10k.yaml to inference.py, --trained-with configs/koniq10k.yaml to "
            "main.py --evaluate and tools/export.py, scale=RatingScale(...) in Python"
        )
    model = _build_unfilled(config)
    load_exactly(model, weights, str(path))
    if isinstance(model.backbone, TimmBackbone):
        model.backbone.arrange_weights()
    origin = content.get("split") if own else None
    chosen = own is not None and content.get("chosen_epoch", "optimizer" not in content)
    return TrainedNetwork(model, config, own is not None, origin, chosen, path)


def _build_unfilled(config: Config) -> RichIQA:
    """Build the network on the meta device, to skip the random initialisation; one of timm's on the CPU."""
    timm = config.model.backbone.startswith(TIMM_PREFIX) and not is_built_here(config.model)
    with torch.device("cpu" if timm else "meta"):  # timm's keep buffers that no checkpoint fills
        return build_model(config.model, len(config.scale.bin_centers))
