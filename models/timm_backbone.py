"""Any timm model with `features_only` in place of CvT: its feature levels stand for the stages."""

from pathlib import Path

import torch
from torch import Tensor, nn

from models.checkpointing import has_batch_norm
from utils.errors import MissingFileError, UserError, one_line

PREFIX = "timm:"


class TimmBackbone(nn.Module):
    """Feature levels of a timm model as maps (B, C_i, H_i, W_i), at any image size where the model can.

    A convolutional one lies in memory channels-last, in which convolutions are faster; the values are the same.
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
        """In training, keeps what is between the blocks alone, and computes them again for the gradient.

        Raises:
            UserError: timm cannot do it for this model, or would count each batch twice in its BatchNorm.
        """
        name = type(self.model).__name__
        if has_batch_norm(self.model):
            raise UserError(
                f"train.checkpointing: timm's {name} has BatchNorm, whose statistics would count each batch twice; use "
                "a backbone without it, or set train.checkpointing=false"
            )
        try:
            self.model.set_grad_checkpointing(True)
        except (AttributeError, AssertionError) as error:
            raise UserError(
                f"train.checkpointing: timm has none for its {name}; use another backbone, or set "
                "train.checkpointing=false"
            ) from error


def is_convolutional(model: nn.Module) -> bool:
    """Whether a model has convolutions behind the one that cuts the image into patches, as ViT and Swin have not."""
    return sum(isinstance(module, nn.Conv2d) for module in model.modules()) > 1


def build_timm_backbone(name: str, drop_path: float, weights: str | None = None) -> TimmBackbone:
    """Builds `timm:<name>`.

    Args:
        name: With the prefix, such as `timm:resnet50`.
        drop_path: Stochastic-depth rate, passed to models that take one.
        weights: None for random weights, `timm` for the pretrained ones of that name, or the path of a file.

    Raises:
        UserError: An unknown name, a model without feature levels, or weights that cannot be had.
    """
    import timm  # noqa: PLC0415, seconds that a network without it does not need

    plain = name.removeprefix(PREFIX)
    if not timm.is_model(plain):
        near = ", ".join(timm.list_models(f"*{plain[:6]}*")[:5]) or "none"
        raise UserError(
            f"model.backbone: timm knows no model {plain!r}; names like it: {near}. "
            "`python -c 'import timm; print(timm.list_models())'` prints them all"
        )
    options = {"pretrained": weights is not None}
    if weights not in (None, "timm"):
        if not Path(weights).is_file():
            raise MissingFileError(f"model.pretrained: {weights} does not exist; `timm` takes timm's own weights")
        options["pretrained_cfg_overlay"] = {"file": weights}
    try:
        if weights is not None:  # timm compares names only for whole models, not with features_only: one is built
            timm.create_model(plain, **options)  # for nothing but that comparison, and let go
        return TimmBackbone(_create(plain, drop_path, options))
    except (OSError, RuntimeError, ValueError) as error:  # what timm and the hub raise for weights and feature levels
        raise UserError(
            f"model.backbone: timm cannot build {plain!r} with weights {weights or 'none'}: {one_line(error)}"
        ) from error


def _create(name: str, drop_path: float, options: dict) -> nn.Module:
    """The model with `drop_path_rate` and any image size where its constructor takes them, without where not."""
    import timm  # noqa: PLC0415, as above

    for extra in ({"strict_img_size": False}, {"dynamic_img_size": True}, {}):  # Swin, ViT, convolutional networks
        for rate in ({"drop_path_rate": drop_path}, {}):
            try:
                return timm.create_model(name, features_only=True, **extra, **rate, **options)
            except TypeError as error:
                if "unexpected keyword argument" not in str(error):
                    raise
    raise UserError(f"model.backbone: timm model {name!r} takes none of the arguments of `features_only`")
