"""timm backbones: any timm model with `features_only`, whose feature levels replace the stages of CvT."""

from pathlib import Path

import torch
from torch import Tensor, nn

from models.checkpointing import has_batch_norm
from utils.errors import MissingFileError, UserError, one_line

PREFIX = "timm:"


class TimmBackbone(nn.Module):
    """timm model that returns its feature levels as maps (B, C_i, H_i, W_i), at any image size it supports.

    Convolutional models use the channels-last memory format, which is faster and gives the same values.
    """

    def __init__(self, model: nn.Module):
        super().__init__()
        self.convolutional = is_convolutional(model)
        self.model = model.to(memory_format=torch.channels_last) if self.convolutional else model
        self.widths = tuple(model.feature_info.channels())
        self.channels_last = str(getattr(model, "output_fmt", "NCHW")).endswith("NHWC")  # not every model states it

    def forward(self, images: Tensor) -> list[Tensor]:
        if self.convolutional:
            images = images.contiguous(memory_format=torch.channels_last)  # (B, 3, H, W)
        maps = self.model(images)
        return [grid.permute(0, 3, 1, 2) for grid in maps] if self.channels_last else maps  # (B, C_i, H_i, W_i)

    def checkpoint_blocks(self) -> None:
        """Enable activation checkpointing of the blocks in training.

        Raises:
            UserError: timm does not support it for this model, or it would update BatchNorm twice per batch.
        """
        name = type(self.model).__name__
        if has_batch_norm(self.model):
            raise UserError(
                f"train.checkpointing: timm's {name} has BatchNorm, whose statistics would be updated twice per batch; "
                "use a backbone without it, or set train.checkpointing=false"
            )
        try:
            self.model.set_grad_checkpointing(True)
        except (AttributeError, AssertionError) as error:
            raise UserError(
                f"train.checkpointing: timm does not support it for {name}; use another backbone, or set "
                "train.checkpointing=false"
            ) from error


def is_convolutional(model: nn.Module) -> bool:
    """Return whether a model has convolutions besides a patch embedding; ViT and Swin do not."""
    return sum(isinstance(module, nn.Conv2d) for module in model.modules()) > 1


def build_timm_backbone(name: str, drop_path: float, weights: str | None = None) -> TimmBackbone:
    """Build the backbone `timm:<name>`.

    Args:
        name: Name with the prefix, such as `timm:resnet50`.
        drop_path: Stochastic-depth rate, passed to models that support it.
        weights: None for random weights, `timm` for the pretrained weights of that name, or the path of a file.

    Raises:
        UserError: The name is unknown, the model has no feature levels, or the weights are not available.
    """
    import timm  # noqa: PLC0415, a slow import that CvT does not need

    plain = name.removeprefix(PREFIX)
    if not timm.is_model(plain):
        near = ", ".join(timm.list_models(f"*{plain[:6]}*")[:5]) or "none"
        raise UserError(
            f"model.backbone: timm has no model {plain!r}; similar names: {near}. "
            "`python -c 'import timm; print(timm.list_models())'` lists them all"
        )
    options = {"pretrained": weights is not None}
    if weights not in (None, "timm"):
        if not Path(weights).is_file():
            raise MissingFileError(f"model.pretrained: {weights} does not exist; use `timm` for timm's own weights")
        options["pretrained_cfg_overlay"] = {"file": weights}
    try:
        if weights is not None:  # timm compares names only without features_only, so a whole model is built to check
            timm.create_model(plain, **options)
        return TimmBackbone(_create(plain, drop_path, options))
    except (OSError, RuntimeError, ValueError) as error:  # raised by timm and the hub for weights and feature levels
        raise UserError(
            f"model.backbone: timm cannot build {plain!r} with weights {weights or 'none'}: {one_line(error)}"
        ) from error


def _create(name: str, drop_path: float, options: dict) -> nn.Module:
    """Create the model with `drop_path_rate` and flexible image size, if its constructor supports them."""
    import timm  # noqa: PLC0415, as above

    for extra in ({"strict_img_size": False}, {"dynamic_img_size": True}, {}):  # Swin, ViT, convolutional networks
        for rate in ({"drop_path_rate": drop_path}, {}):
            try:
                return timm.create_model(name, features_only=True, **extra, **rate, **options)
            except TypeError as error:
                if "unexpected keyword argument" not in str(error):
                    raise
    raise UserError(f"model.backbone: timm model {name!r} does not support `features_only`; use another backbone")
