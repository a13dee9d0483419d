"""Loading of pretrained weights, whose names must match exactly, and of trained networks from checkpoints."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from models import build_model
from models.official import DATA_PARALLEL_PREFIX, StateDict, compare_names, from_cvt, from_huggingface, from_official
from models.richiqa import RichIQA
from models.timm_backbone import PREFIX as TIMM_PREFIX
from models.timm_backbone import build_timm_backbone
from utils.checkpoint import is_own, read_tensors
from utils.errors import UserError, one_line
from utils.schema import CheckpointContent, checked
from utils.settings import Config, ModelSettings

WEIGHTS_FOLDER = Path(__file__).resolve().parents[1] / "checkpoint"
IMAGENET22K = {  # backbone -> (file of CvT, repository of the Hugging Face port)
    "cvt_21": ("CvT-21-384x384-IN-22k.pth", "microsoft/cvt-21-384-22k"),
    "cvt_13": ("CvT-13-384x384-IN-22k.pth", "microsoft/cvt-13-384-22k"),
}
ALIGNMENT = 64  # bytes, of what torch allocates on a CPU
HUB_FILES = ("model.safetensors", "pytorch_model.bin")


def load_pretrained(model: RichIQA, settings: ModelSettings) -> str:
    """Load the weights that `model.pretrained` names; returns a sentence about what was loaded.

    `none` loads nothing. `imagenet22k` is CvT's own: the file in checkpoint/, else the Hugging Face hub or its cache.
    `timm` is timm's own for a timm backbone. Anything else is the path of a file: CvT or its port (backbone only), or
    a checkpoint of this project or of the release (the whole network).

    Raises:
        UserError: The weights are not available or do not fit.
    """
    source = settings.pretrained
    if source == "none":
        return "weights: random"
    if settings.backbone.startswith(TIMM_PREFIX) and source != "imagenet22k" and not _is_network_file(source):
        trained = build_timm_backbone(settings.backbone, settings.drop_path, weights=source)
        load_exactly(model.backbone, trained.state_dict(), f"timm weights {source}")
        return f"weights: backbone from timm ({source})"
    if source == "timm":
        raise UserError(
            f"model.pretrained: `timm` is for a timm backbone, not for {settings.backbone}; use imagenet22k"
        )
    path = find_imagenet22k(settings.backbone) if source == "imagenet22k" else Path(source)
    part, state_dict = translate_weights(read_tensors(path), path)
    if part == "network":
        load_exactly(model, state_dict, str(path))
        return f"weights: whole network from {path}"
    state_dict, dropped = _drop_unread_stages(model.backbone, state_dict)
    load_exactly(model.backbone, state_dict, str(path))
    left_out = f"; left out: stages {', '.join(dropped)}, which are not used" if dropped else ""
    return f"weights: backbone from {path} ({len(state_dict)} tensors){left_out}"


def load_exactly(model: nn.Module, state_dict: StateDict, source: str) -> None:
    """Load a state dict whose names and shapes must match the model exactly.

    Raises:
        UserError: Names are missing or unexpected, or a shape differs.
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


def translate_weights(content: dict, path: Path) -> tuple[str, StateDict]:
    """What a weights file of any known kind holds, under our names, and which part it is: `backbone` or `network`.

    Raises:
        UserError: A kind that is not known; `path` is named.
    """
    if is_own(content):
        return "network", inference_weights(content)
    for wrapper in ("state_dict", "model"):  # how training scripts like to wrap what they save
        content = content[wrapper] if isinstance(content.get(wrapper), dict) else content
    if not content or not all(isinstance(tensor, Tensor) for tensor in content.values()):
        raise UserError(f"{path} holds no state dict: names and tensors")
    content = {name.removeprefix(DATA_PARALLEL_PREFIX): tensor for name, tensor in content.items()}
    first = {name.split(".")[0] for name in content}
    if "net" in first:
        return "network", from_official(content)
    if "stage0" in first:
        return "backbone", from_cvt(content)
    if first & {"cvt", "encoder"}:
        return "backbone", from_huggingface(content)
    raise UserError(
        f"{path} holds weights of no known kind (names like {next(iter(content))!r}); known: a checkpoint of this "
        "project or of the RichIQA release, CvT's .pth, the Hugging Face port of CvT"
    )


def inference_weights(content: dict) -> StateDict:
    """Return the weights of our checkpoint for inference: the averaged ones if training kept an average."""
    average = content.get("average")
    if average is None:
        return content["model"]
    return {name.removeprefix("module."): tensor for name, tensor in average.items() if name != "n_averaged"}


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
    path, reason = _from_hub(repository)
    if path is not None:
        return path
    raise UserError(
        f"model.pretrained: imagenet22k weights of {backbone} are not available ({reason}). Either put {filename} "
        f"(from CvT's model zoo) into {WEIGHTS_FOLDER}, or, on a machine with network access, run "
        f"`hf download {repository}` and copy the Hugging Face cache. To start from random weights, set "
        "model.pretrained=none"
    )


def _from_hub(repository: str) -> tuple[Path | None, str]:
    """Return the weights file of a repository, from the local cache or the network; or None and the reason."""
    from huggingface_hub import hf_hub_download  # noqa: PLC0415, only where weights are fetched
    from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, LocalEntryNotFoundError  # noqa: PLC0415

    reason = "the repository holds none of " + ", ".join(HUB_FILES)
    for local in (True, False):
        for hub_file in HUB_FILES:
            try:
                return Path(hf_hub_download(repository, hub_file, local_files_only=local)), ""
            except LocalEntryNotFoundError:
                if not local:
                    return None, "the hub cannot be reached and its local cache does not hold the weights"
            except EntryNotFoundError:
                continue
            except (HfHubHTTPError, OSError) as error:
                reason = one_line(error)
    return None, reason


def _is_network_file(source: str) -> bool:
    """Return whether a path is a checkpoint of this project, rather than weights for timm."""
    return Path(source).is_file() and is_own(read_tensors(source))


def _drop_unread_stages(backbone: nn.Module, state_dict: StateDict) -> tuple[StateDict, list[str]]:
    """Return the state dict without the stages that the network does not use, and the numbers of these, from 1."""
    built = len(backbone.widths)
    stage_of = {name: int(name.split(".")[1]) + 1 for name in state_dict}
    kept = {name: tensor for name, tensor in state_dict.items() if stage_of[name] <= built}
    return kept, [str(stage) for stage in sorted(set(stage_of.values())) if stage > built]


@dataclass(frozen=True)
class TrainedNetwork:
    """Trained network with its config.

    Args:
        model: Network, on the CPU.
        config: Config of its training; scoring needs scale, transform and model.
        own: Whether the checkpoint carried this config; one of the release carries none.
        origin: split.json of its training, which says what images it has seen; None where the checkpoint does not tell.
        chosen_epoch: Whether it is a best.pt: of the epoch that selection chose, rather than the last one saved.
        path: Of the checkpoint.
    """

    model: RichIQA
    config: Config
    own: bool
    origin: dict[str, Any] | None
    chosen_epoch: bool
    path: Path


def load_network(path: str | Path, config_of_release: Config | None = None) -> TrainedNetwork:
    """Builds a network from a checkpoint of this project, or of the release with the config that it does not carry.

    Raises:
        MissingFileError: No such file.
        UserError: Another kind of file, or a checkpoint of the release without a config.
    """
    path = Path(path)
    content = read_tensors(path)
    own = checked(CheckpointContent, content, path) if is_own(content) else None
    part, weights = translate_weights(content, path)
    if part != "network":
        raise UserError(f"{path} holds a backbone, not a trained RichIQA; train with model.pretrained={path}")
    config = own.config if own else config_of_release
    if config is None:
        raise UserError(
            f"{path} is a checkpoint of the release, which does not carry its rating scale; say it: --scale acr or "
            "--config configs/koniq10k.yaml to inference.py, --trained-with configs/koniq10k.yaml to main.py "
            "--evaluate and tools/export.py, scale=RatingScale(...) in Python"
        )
    model = _build_unfilled(config)
    load_exactly(model, weights, str(path))
    origin = content.get("split") if own else None
    return TrainedNetwork(model, config, own is not None, origin, own is not None and "optimizer" not in content, path)


def _build_unfilled(config: Config) -> RichIQA:
    """Build the network; a CvT on the meta device, to skip the random initialisation."""
    timm = config.model.backbone.startswith(TIMM_PREFIX)  # keeps buffers that no checkpoint fills
    with torch.device("cpu" if timm else "meta"):
        return build_model(config.model, len(config.scale.bin_centers))
