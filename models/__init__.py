"""The network of RichIQA: `build_model` chooses the backbone and assembles the parts."""

from torch import nn

from models.cvt import CVT_SHAPES, CvT
from models.memory import MemoryPath
from models.richiqa import RichIQA
from models.timm_backbone import PREFIX as TIMM_PREFIX
from models.timm_backbone import build_timm_backbone, pixel_statistics
from utils.errors import UserError, did_you_mean
from utils.imagenet import IMAGENET_MEAN, IMAGENET_STD
from utils.settings import Config, ModelSettings

__all__ = ["RichIQA", "build_model", "with_pixel_statistics"]


def build_model(settings: ModelSettings = ModelSettings(), num_bins: int = 5) -> RichIQA:
    """Build an untrained network; the default is that of the release.

    Args:
        settings: The `model` section of a config. `pretrained` is ignored, see `models.weights`.
        num_bins: Number of bins K of the rating scale.

    Returns:
        A module that maps normalised images (B, 3, H, W) to a DOS (B, K).

    Raises:
        UserError: The backbone is unknown, or lacks a stage.
    """
    backbone = _build_backbone(settings)
    levels = len(backbone.widths)
    stages = tuple(range(1, levels + 1)) if settings.stages == "all" else settings.stages
    if stages[-1] > levels:
        raise UserError(f"model.stages: {settings.backbone} has stages 1 to {levels}, got {list(stages)}")
    width = sum(backbone.widths[stage - 1] for stage in stages)
    memory = None if settings.memory == "none" else MemoryPath(width, num_bins, settings.memory)
    return RichIQA(backbone, memory, stages, num_bins, settings.memory_weight, settings.temperature)


def _build_backbone(settings: ModelSettings) -> nn.Module:
    """Build a CvT without the stages that are not used, or a timm model."""
    if settings.backbone.startswith(TIMM_PREFIX):
        if settings.init != "trunc_norm":
            raise UserError(
                f"model.init: {settings.init} is for CvT; {settings.backbone} is initialised by timm: use trunc_norm"
            )
        return build_timm_backbone(settings)
    if settings.backbone not in CVT_SHAPES:
        hint = did_you_mean(settings.backbone, list(CVT_SHAPES))
        raise UserError(
            f"model.backbone: unknown backbone {settings.backbone!r}{hint}; "
            f"allowed: {', '.join(CVT_SHAPES)}, or {TIMM_PREFIX}<name> for any timm model"
        )
    shape = CVT_SHAPES[settings.backbone]
    deepest = len(shape.widths) if settings.stages == "all" else min(settings.stages[-1], len(shape.widths))
    return CvT(shape, deepest, settings.drop_path, settings.init)


def with_pixel_statistics(config: Config) -> Config:
    """Return the config with `model.pixel_mean` and `pixel_std` of the backbone's weights, where they are not given.

    Raises:
        UserError: They are given for a CvT, whose weights are ImageNet's.
    """
    model, release = config.model, (IMAGENET_MEAN, IMAGENET_STD)
    if model.backbone.startswith(TIMM_PREFIX):
        release = pixel_statistics(model.backbone)
    elif (model.pixel_mean or release[0], model.pixel_std or release[1]) != release:
        raise UserError(f"model.pixel_mean and pixel_std are for timm backbones, not for {model.backbone}; omit them")
    statistics = {"pixel_mean": model.pixel_mean or release[0], "pixel_std": model.pixel_std or release[1]}
    return config.model_copy(update={"model": model.model_copy(update=statistics)})
