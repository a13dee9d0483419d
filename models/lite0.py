"""EfficientNet-Lite0 without timm, whose import takes longer than scoring an image; same names, maps and values.

B batch, C width of a stage, H W image size. Only trained weights are loaded into it: `models.weights.load_network`
builds it for `timm:tf_efficientnet_lite0`; training uses timm's own.

Source: Tan, Le, EfficientNet: Rethinking model scaling for convolutional neural networks, ICML 2019; its Lite variant
has no squeeze-and-excitation, and ReLU6 in place of Swish.
"""

import torch.nn.functional as F
from torch import Tensor, nn

NAME = "tf_efficientnet_lite0"  # timm's
STEM_WIDTH = 32
STAGES = (  # kernel, stride, expansion, width, blocks
    (3, 1, 1, 16, 1),
    (3, 2, 6, 24, 2),
    (5, 2, 6, 40, 2),
    (3, 2, 6, 80, 3),
    (5, 1, 6, 112, 3),
    (5, 2, 6, 192, 4),
    (3, 1, 6, 320, 1),
)
LEVELS = (0, 1, 2, 4, 6)  # stages whose maps are returned: the last of each resolution
EPS = 1e-3  # of BatchNorm, as in TensorFlow


class FeatureInfo:
    """What the backbone tells of its maps, as timm's models do."""

    def channels(self) -> list[int]:
        """Return the widths C_i of the maps."""
        return [STAGES[level][3] for level in LEVELS]


class EfficientNetLite0(nn.Module):
    """EfficientNet-Lite0 from images (B, 3, H, W) to five maps (B, C_i, H_i, W_i), with strides 2, 4, 8, 16 and 32."""

    def __init__(self):
        super().__init__()
        self.conv_stem = SamePadding(3, STEM_WIDTH, 3, stride=2, bias=False)
        self.bn1 = BatchNormReLU6(STEM_WIDTH)
        stages, width = [], STEM_WIDTH
        for kernel, stride, expansion, wider, depth in STAGES:
            widths, strides = (width, *[wider] * (depth - 1)), (stride, *[1] * (depth - 1))
            stages.append(
                nn.Sequential(*(Block(w, wider, kernel, s, expansion) for w, s in zip(widths, strides, strict=True)))
            )
            width = wider
        self.blocks = nn.Sequential(*stages)
        self.feature_info = FeatureInfo()

    def forward(self, images: Tensor) -> list[Tensor]:
        maps, grid = [], self.bn1(self.conv_stem(images))  # (B, 32, H/2, W/2)
        for number, stage in enumerate(self.blocks):
            grid = stage(grid)  # (B, C_i, H_i, W_i)
            if number in LEVELS:
                maps.append(grid)
        return maps


class Block(nn.Module):
    """Inverted residual block: 1x1 expansion, depthwise convolution, 1x1 projection; the first stage has no expansion.

    Attributes have timm's names, which differ between the two kinds.
    """

    def __init__(self, width: int, wider: int, kernel: int, stride: int, expansion: int):
        super().__init__()
        hidden, names = width * expansion, ("conv_dw", "bn1", "conv_pw", "bn2")
        if expansion > 1:
            self.conv_pw, self.bn1 = nn.Conv2d(width, hidden, 1, bias=False), BatchNormReLU6(hidden)
            names = ("conv_dw", "bn2", "conv_pwl", "bn3")
        depthwise = SamePadding(hidden, hidden, kernel, stride=stride, groups=hidden, bias=False)
        projection = nn.Conv2d(hidden, wider, 1, bias=False)
        layers = (depthwise, BatchNormReLU6(hidden), projection, nn.BatchNorm2d(wider, EPS))
        for name, layer in zip(names, layers, strict=True):
            self.add_module(name, layer)
        self.residual = stride == 1 and width == wider

    def forward(self, grid: Tensor) -> Tensor:
        hidden = grid
        for layer in self.children():  # in the order in which they were added
            hidden = layer(hidden)
        return hidden + grid if self.residual else hidden  # (B, C, H/stride, W/stride)


class BatchNormReLU6(nn.BatchNorm2d):
    """BatchNorm, then ReLU6, which has the name of timm's, since `models.fused` reads it."""

    def __init__(self, width: int):
        super().__init__(width, EPS)
        self.act = nn.ReLU6(inplace=True)

    def forward(self, grid: Tensor) -> Tensor:
        return self.act(super().forward(grid))


class SamePadding(nn.Conv2d):
    """Convolution padded as in TensorFlow: a map of side L becomes one of side ceil(L / stride)."""

    def forward(self, grid: Tensor) -> Tensor:
        sides = [
            max((-(-length // stride) - 1) * stride + kernel - length, 0)
            for length, stride, kernel in zip(grid.shape[-2:], self.stride, self.kernel_size, strict=True)
        ]
        (top, bottom), (left, right) = ((total // 2, total - total // 2) for total in sides)
        if (top, left) == (bottom, right):  # the convolution itself pads, which is faster
            return F.conv2d(grid, self.weight, self.bias, self.stride, (top, left), groups=self.groups)
        padded = F.pad(grid, (left, right, top, bottom))
        return F.conv2d(padded, self.weight, self.bias, self.stride, groups=self.groups)
