"""CvT backbone: three stages of convolutional embedding and attention with convolutional projections.

B batch, C width of the stage, H W size of its map, N tokens (H*W, one more with the cls token), h heads.

Source: Wu et al., CvT: Introducing Convolutions to Vision Transformers, ICCV 2021, arXiv 2103.15808.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from models.checkpointing import checkpoint_block
from utils.numerics import at_least_float32

QUICK_GELU_SLOPE = 1.702  # Hendrycks and Gimpel, arXiv 1606.08415: x * sigmoid(1.702 x) approximates GELU
LAYER_NORM_EPS = 1e-5
MLP_RATIO = 4
EMBEDDING_KERNELS = ((7, 4, 2), (3, 2, 1), (3, 2, 1))  # kernel, stride, padding of each stage


@dataclass(frozen=True)
class CvTShape:
    """Widths, depths and heads of the three stages."""

    widths: tuple[int, int, int]
    depths: tuple[int, int, int]
    heads: tuple[int, int, int]


CVT_SHAPES = {
    "cvt_21": CvTShape(widths=(64, 192, 384), depths=(1, 4, 16), heads=(1, 3, 6)),
    "cvt_13": CvTShape(widths=(64, 192, 384), depths=(1, 2, 10), heads=(1, 3, 6)),
    "cvt_nano": CvTShape(widths=(32, 64, 128), depths=(1, 1, 2), heads=(1, 2, 4)),
}


class DropPath(nn.Module):
    """Stochastic depth: drops the residual branch of random samples in training, and rescales the others.

    The random draws are those of timm's DropPath; importing timm takes longer than scoring an image.
    """

    def __init__(self, drop_prob: float):
        super().__init__()
        self.drop_prob = drop_prob

    def forward(self, branch: Tensor) -> Tensor:
        if not self.training or self.drop_prob == 0:
            return branch
        return branch * self.draw(branch, len(branch)).div_(1 - self.drop_prob)  # (B, N, C)

    def draw(self, like: Tensor, count: int) -> Tensor:
        """Return 1 for each of `count` samples whose branch is kept, else 0, (count, 1, 1)."""
        return like.new_empty(count, *[1] * (like.dim() - 1)).bernoulli_(1 - self.drop_prob)


class LayerNorm(nn.LayerNorm):
    """Layer normalisation computed in float32 for inputs of any precision."""

    def __init__(self, width: int):
        super().__init__(width, eps=LAYER_NORM_EPS)

    def forward(self, x: Tensor) -> Tensor:
        normed = F.layer_norm(x.float(), self.normalized_shape, self.weight.float(), self.bias.float(), self.eps)
        return normed.to(x.dtype)


class ConvProjection(nn.Module):
    """Depth-wise 3x3 convolution and BatchNorm for queries, keys or values."""

    def __init__(self, width: int, stride: int):
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, stride, padding=1, groups=width, bias=False)
        self.norm = nn.BatchNorm2d(width)

    def forward(self, grid: Tensor) -> Tensor:
        grid = self.norm(self.conv(grid))  # (B, C, H/stride, W/stride)
        return rearrange(grid, "b c h w -> b (h w) c")  # (B, N, C): a view, the map is channels-last


class Attention(nn.Module):
    """Multi-head attention whose queries, keys and values first pass a depth-wise convolution.

    Keys and values are convolved with stride 2, so they hold a quarter of the tokens. The cls token is not convolved.
    The scale is the full width to the power -1/2, not the head width: what CvT computes and its weights expect.
    """

    def __init__(self, width: int, heads: int, cls_tokens: int):
        super().__init__()
        self.heads = heads
        self.cls_tokens = cls_tokens
        self.scale = width**-0.5
        self.conv_q = ConvProjection(width, stride=1)
        self.conv_k = ConvProjection(width, stride=2)
        self.conv_v = ConvProjection(width, stride=2)
        self.linear_q = nn.Linear(width, width)
        self.linear_k = nn.Linear(width, width)
        self.linear_v = nn.Linear(width, width)
        self.linear_out = nn.Linear(width, width)

    def forward(self, tokens: Tensor, height: int) -> Tensor:
        sizes = [self.cls_tokens, tokens.shape[1] - self.cls_tokens]
        cls, grid = tokens.split(sizes, dim=1)  # (B, 0 or 1, C), (B, H*W, C)
        grid = rearrange(grid.contiguous(), "b (h w) c -> b c h w", h=height)  # (B, C, H, W), channels-last
        q = self.linear_q(self._with_cls(cls, self.conv_q(grid)))  # (B, N, C)
        k = self.linear_k(self._with_cls(cls, self.conv_k(grid)))  # (B, ~N/4, C)
        v = self.linear_v(self._with_cls(cls, self.conv_v(grid)))  # (B, ~N/4, C)
        q, k, v = (rearrange(x, "b n (h c) -> b h n c", h=self.heads) for x in (q, k, v))  # (B, h, N, C/h)
        mixed = F.scaled_dot_product_attention(q, k, v, scale=self.scale)  # (B, h, N, C/h)
        return self.linear_out(rearrange(mixed, "b h n c -> b n (h c)"))  # (B, N, C)

    def _with_cls(self, cls: Tensor, tokens: Tensor) -> Tensor:
        return torch.cat([cls, tokens], dim=1) if self.cls_tokens else tokens


class Mlp(nn.Module):
    """Two linear layers with QuickGELU between them.

    QuickGELU(x) = SiLU(1.702 x) / 1.702, and both factors are multiplied into the weights. So the widest tensors of the
    network are read once for the activation and once for its gradient; written out, it would be ten times.
    """

    def __init__(self, width: int):
        super().__init__()
        self.fc1 = nn.Linear(width, MLP_RATIO * width)
        self.fc2 = nn.Linear(MLP_RATIO * width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        scaled = F.linear(tokens, QUICK_GELU_SLOPE * self.fc1.weight, QUICK_GELU_SLOPE * self.fc1.bias)  # (B, N, 4C)
        return F.linear(F.silu(scaled), self.fc2.weight / QUICK_GELU_SLOPE, self.fc2.bias)  # (B, N, C)


class Block(nn.Module):
    """Pre-norm transformer block with stochastic depth on both residual branches."""

    def __init__(self, width: int, heads: int, cls_tokens: int, drop_path: float):
        super().__init__()
        self.norm1 = LayerNorm(width)
        self.attention = Attention(width, heads, cls_tokens)
        self.norm2 = LayerNorm(width)
        self.mlp = Mlp(width)
        self.drop_path = DropPath(drop_path)

    def forward(self, tokens: Tensor, height: int) -> Tensor:
        tokens = tokens + self.drop_path(self.attention(self.norm1(tokens), height))  # (B, N, C)
        return tokens + self.drop_path(self.mlp(self.norm2(tokens)))  # (B, N, C)


class TokenEmbedding(nn.Module):
    """Strided convolution that turns a map into the tokens of the next stage."""

    def __init__(self, in_width: int, width: int, kernel: int, stride: int, padding: int):
        super().__init__()
        self.conv = nn.Conv2d(in_width, width, kernel, stride, padding)
        self.norm = LayerNorm(width)

    def forward(self, grid: Tensor) -> tuple[Tensor, int]:
        grid = at_least_float32(self.conv(grid))  # (B, C, H, W); tokens between layers stay float32 under autocast
        return self.norm(rearrange(grid, "b c h w -> b (h w) c")), grid.shape[-2]  # (B, H*W, C)


class Stage(nn.Module):
    """Token embedding, blocks, and back to a map; the last stage carries a cls token through its blocks."""

    def __init__(self, embedding: TokenEmbedding, width: int, heads: int, drop_paths: list[float], cls_token: bool):
        super().__init__()
        self.embedding = embedding
        self.cls_tokens = int(cls_token)
        if cls_token:
            self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.blocks = nn.ModuleList(Block(width, heads, self.cls_tokens, rate) for rate in drop_paths)
        self.checkpointing = False

    def forward(self, grid: Tensor) -> Tensor:
        tokens, height = self.embedding(grid)  # (B, H*W, C)
        if self.cls_tokens:
            # .shape, not len(), which torch.export would take as a constant
            tokens = torch.cat([self.cls_token.expand(tokens.shape[0], -1, -1), tokens], dim=1)  # (B, 1 + H*W, C)
        for block in self.blocks:
            recompute = self.checkpointing and self.training
            tokens = checkpoint_block(block, tokens, height) if recompute else block(tokens, height)  # (B, N, C)
        return rearrange(tokens[:, self.cls_tokens :], "b (h w) c -> b c h w", h=height)  # (B, C, H, W)


class CvT(nn.Module):
    """CvT backbone, which returns one map per stage.

    Args:
        shape: Widths, depths and heads of the three stages.
        num_stages: Number of stages to build, 1 to 3; unused stages can be omitted.
        drop_path: Stochastic-depth rate of the last block of stage 3, growing linearly from 0 within that stage.
        init: `trunc_norm` (std 0.02) or `xavier` (uniform) for the linear layers; convolutions keep PyTorch's default.
    """

    def __init__(self, shape: CvTShape, num_stages: int = 3, drop_path: float = 0.1, init: str = "trunc_norm"):
        super().__init__()
        self.widths = shape.widths[:num_stages]
        self.stages = nn.ModuleList()
        for index, width in enumerate(self.widths):
            in_width = self.widths[index - 1] if index else 3
            last = index == len(shape.widths) - 1
            depth = shape.depths[index]
            drop_paths = torch.linspace(0, drop_path, depth, device="cpu").tolist() if last else [0.0] * depth
            embedding = TokenEmbedding(in_width, width, *EMBEDDING_KERNELS[index])
            self.stages.append(Stage(embedding, width, shape.heads[index], drop_paths, cls_token=last))
        self._initialise(init)

    def forward(self, images: Tensor) -> list[Tensor]:
        grid = images.contiguous(memory_format=torch.channels_last)  # (B, 3, H, W)
        maps = []
        for stage in self.stages:
            grid = stage(grid)  # (B, C, H/4, W/4), then /8, then /16
            maps.append(grid)
        return maps

    def checkpoint_blocks(self) -> None:
        """Enable activation checkpointing of the blocks in training."""
        for stage in self.stages:
            stage.checkpointing = True

    def _initialise(self, init: str) -> None:
        if self.stages[0].embedding.conv.weight.is_meta:
            return  # the weights come from a checkpoint
        from timm.layers import trunc_normal_  # noqa: PLC0415, a slow import that scoring does not need

        for module in self.modules():
            if isinstance(module, nn.Linear):
                if init == "xavier":
                    nn.init.xavier_uniform_(module.weight)
                else:
                    trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)
            elif isinstance(module, Stage) and module.cls_tokens:
                trunc_normal_(module.cls_token, std=0.02)
