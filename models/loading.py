"""A trained network from its checkpoint."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from models import build_model
from models.pretrained import load_exactly, translate_weights
from models.richiqa import RichIQA
from models.timm_backbone import PREFIX as TIMM_PREFIX
from utils.checkpoint import is_own, read_tensors, require_readable_version
from utils.config import config_from_dict
from utils.errors import UserError
from utils.settings import Config


@dataclass(frozen=True)
class TrainedNetwork:
    """A network with the config it was trained with.

    Args:
        model: On the CPU.
        config: Scale, transform and network are what scoring needs.
        own: Whether the checkpoint carried this config; one of the release carries none.
        origin: What split.json of its training says: which images it has seen; None where the checkpoint does not tell.
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
    own = is_own(content)
    if own:
        require_readable_version(content, path)
    part, weights = translate_weights(content, path)
    if part != "network":
        raise UserError(f"{path} holds a backbone, not a trained RichIQA; train with model.pretrained={path}")
    if own:
        config = config_from_dict(content["config"], source=str(path))
    elif config_of_release is None:
        raise UserError(
            f"{path} is a checkpoint of the release, which does not carry its rating scale; say it: --scale acr or "
            "--config configs/koniq10k.yaml to inference.py, --trained-with configs/koniq10k.yaml to main.py "
            "--evaluate and tools/export.py, scale=RatingScale(...) in Python"
        )
    else:
        config = config_of_release
    model = _build_unfilled(config)
    load_exactly(model, weights, str(path))
    origin = content.get("split") if own else None
    return TrainedNetwork(model, config, own, origin, own and "optimizer" not in content, path)


def _build_unfilled(config: Config) -> RichIQA:
    """The network; a CvT without values of its own, since random ones would be made for nothing."""
    timm = config.model.backbone.startswith(TIMM_PREFIX)  # keeps buffers that no checkpoint fills
    with torch.device("cpu" if timm else "meta"):
        return build_model(config.model, len(config.scale.bin_centers))
