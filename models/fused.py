"""Network optimised for inference: the same DOS in less time.

B batch, C width of the stage, H W size of its map, N tokens, K bins.

BatchNorm is folded into the convolution before it and, in CvT, the slope of QuickGELU into the matrix products around
it, since x sigmoid(1.702 x) = silu(1.702 x) / 1.702. In float32 all other weights are shared with the original network,
so that CvT needs little more memory for both than for one. docs/PERFORMANCE.md lists what else was tried.
"""

from copy import copy, deepcopy
from dataclasses import replace
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.cvt import QUICK_GELU_SLOPE, Attention, Block, CvT, Mlp, Stage
from models.precision import PrecisionPlan, precision_plan
from models.richiqa import RichIQA

PROBE = 64  # side in pixels

Layer = TypeVar("Layer", nn.Linear, nn.Conv2d, nn.LayerNorm)


class FusedNetwork(nn.Module):
    """Network with its backbone replaced; pooling and head are those of the original."""

    def __init__(self, model: RichIQA, backbone: nn.Module):
        super().__init__()
        self.backbone = backbone
        self.pool, self.logits = model.pool, model.logits  # bound methods, so that the model is not a submodule

    def forward(self, images: Tensor) -> Tensor:
        """Return the DOS (B, K) of normalised images (B, 3, H, W), whether or not the caller uses autocast."""
        with torch.autocast(images.device.type, enabled=False):
            maps = [grid.float() for grid in self.backbone(images)]  # (B, C_i, H_i, W_i)
            return self.logits(self.pool(maps)).softmax(dim=1)  # (B, K)


def fused_model(model: RichIQA, precision: str = "fp32", packed: bool = True) -> nn.Module:
    """Return a network optimised for inference.

    Args:
        model: Network in evaluation mode. It is not changed, but shares weights with the result: do not train or move
            it while the result is in use. Its mode may change.
        precision: `fp32`, `bf16`, `fp16` or `auto`, see models/precision.py; pooling and head are always in float32.
        packed: Whether weights may be kept in an order of oneDNN, which torch.compile cannot read.

    Returns:
        A module that maps normalised images (B, 3, H, W) to a DOS (B, K), on the network's device. In backbones other
        than CvT only BatchNorm is folded; below float32 they run under autocast.

    Raises:
        UserError: The precision is unknown, or not supported by the network's device.
        ValueError: The network is in training mode.
    """
    if model.training:
        raise ValueError("fused_model: the network is in training mode; call eval() first")
    device = next(model.parameters()).device
    plan = precision_plan(precision, device)
    plan = replace(plan, packed=packed and plan.linear == torch.bfloat16 and can_pack(device))
    model = share_weights(model)
    with torch.no_grad():
        if isinstance(model.backbone, CvT):
            return FusedNetwork(model, FusedCvT(model.backbone, plan)).eval()
        fold_batch_norms(model.backbone)
    backbone = model.backbone if plan.linear == torch.float32 else Autocast(model.backbone, plan.linear)
    return FusedNetwork(model, backbone).eval()


def share_weights(model: RichIQA) -> RichIQA:
    """Return a network with the same tensors but a mode of its own, so that `model.train()` changes no score."""
    return deepcopy(model, {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())})


def fold_batch_norms(backbone: nn.Module) -> None:
    """Fold each BatchNorm into the convolution that it follows, in place; activations stay.

    Which follows which is seen in a pass through the network. If the folded network computed anything else, because a
    convolution is also read elsewhere, or the network does not take PROBE pixels, all is left as it was; this costs
    only speed.
    """
    norms = [module for module in backbone.modules() if isinstance(module, nn.BatchNorm2d)]
    norms = [norm for norm in norms if norm.affine and norm.track_running_stats]
    if not norms:
        return
    device = next(backbone.parameters()).device
    images = torch.randn(1, 3, PROBE, PROBE, generator=torch.Generator().manual_seed(0)).to(device)
    producers, outputs = {}, {}

    def remember(conv: nn.Module, _: tuple, output: Tensor) -> None:
        outputs[id(output)] = conv, output  # the output is kept, so that no other tensor gets its id

    def look_up(norm: nn.Module, arguments: tuple) -> None:
        if id(arguments[0]) in outputs:
            producers[norm] = outputs[id(arguments[0])][0]

    handles = [module.register_forward_hook(remember) for module in backbone.modules() if isinstance(module, nn.Conv2d)]
    handles += [norm.register_forward_pre_hook(look_up) for norm in norms]
    try:
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            expected = backbone(images)
    except (RuntimeError, AssertionError, ValueError):  # raised by timm for a size
        return
    finally:
        for handle in handles:
            handle.remove()
    replaced = {}
    for norm, conv in producers.items():
        replaced[conv] = fold_batch_norm(conv, norm, conv.weight.dtype)
        rest = [getattr(norm, name) for name in ("drop", "act") if hasattr(norm, name)]  # of timm's BatchNormAct2d
        replaced[norm] = nn.Sequential(*rest)
    _replace(backbone, replaced)
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        found = backbone(images)
    if not all(torch.allclose(*maps, rtol=1e-3, atol=1e-3) for maps in zip(found, expected, strict=True)):
        _replace(backbone, {new: old for old, new in replaced.items()})


def _replace(network: nn.Module, replaced: dict[nn.Module, nn.Module]) -> None:
    for module in list(network.modules()):
        for name, child in module.named_children():
            if child in replaced:
                setattr(module, name, replaced[child])


class Autocast(nn.Module):
    """Any backbone under torch's autocast."""

    def __init__(self, backbone: nn.Module, dtype: torch.dtype):
        super().__init__()
        self.backbone = backbone
        self.dtype = dtype

    def forward(self, images: Tensor) -> list[Tensor]:
        with torch.autocast(images.device.type, self.dtype):
            return self.backbone(images)  # (B, C_i, H_i, W_i)


class FusedCvT(nn.Module):
    """CvT optimised for inference."""

    def __init__(self, backbone: CvT, plan: PrecisionPlan):
        super().__init__()
        self.stages = nn.ModuleList(FusedStage(stage, plan) for stage in backbone.stages)

    forward = CvT.forward  # the same loop over the stages


class FusedStage(nn.Module):
    """Stage: token embedding and blocks, from map to map."""

    def __init__(self, stage: Stage, plan: PrecisionPlan):
        super().__init__()
        self.conv = to_precision(stage.embedding.conv, plan.convolutions)
        self.plan = plan
        self.norm = to_precision(stage.embedding.norm, plan.tokens)
        self.cls_token = stage.cls_token if stage.cls_tokens else None
        self.blocks = nn.ModuleList(FusedBlock(block, plan) for block in stage.blocks)

    def forward(self, grid: Tensor) -> Tensor:
        grid = self.conv(grid.to(self.plan.convolutions))  # (B, C, H, W)
        height = grid.shape[2]
        tokens = normed(self.norm, grid.permute(0, 2, 3, 1).flatten(1, 2).to(self.plan.tokens))  # (B, N, C)
        if self.cls_token is not None:
            cls = self.cls_token.to(tokens.dtype).expand(tokens.shape[0], -1, -1)  # (B, 1, C)
            tokens = torch.cat([cls, tokens], dim=1)  # (B, 1 + H*W, C)
        for block in self.blocks:
            tokens = block(tokens, height)
        return to_grid(tokens, height, int(self.cls_token is not None))  # (B, C, H, W)


class FusedBlock(nn.Module):
    """Transformer block with both residual branches."""

    def __init__(self, block: Block, plan: PrecisionPlan):
        super().__init__()
        self.norm1, self.norm2 = (to_precision(norm, plan.tokens) for norm in (block.norm1, block.norm2))
        self.attention = FusedAttention(block.attention, plan)
        self.mlp = FusedMlp(block.mlp, plan)

    def forward(self, tokens: Tensor, height: int) -> Tensor:
        tokens = self.attention(normed(self.norm1, tokens), height, tokens)  # (B, N, C)
        return self.mlp(normed(self.norm2, tokens), tokens)  # (B, N, C)


class FusedAttention(nn.Module):
    """Attention with BatchNorm folded into the convolutions."""

    def __init__(self, attention: Attention, plan: PrecisionPlan):
        super().__init__()
        self.plan = plan
        self.heads, self.cls_tokens, self.scale = attention.heads, attention.cls_tokens, attention.scale
        for name in ("q", "k", "v"):
            projection = getattr(attention, f"conv_{name}")
            self.add_module(f"conv_{name}", fold_batch_norm(projection.conv, projection.norm, plan.convolutions))
            self.add_module(f"linear_{name}", fused_linear(getattr(attention, f"linear_{name}"), plan))
        self.linear_out = fused_linear(attention.linear_out, plan)

    def forward(self, tokens: Tensor, height: int, residual: Tensor) -> Tensor:
        """Return the sum of a residual (B, N, C) and the attention of tokens (B, N, C)."""
        tokens = tokens.to(self.plan.convolutions)
        cls = tokens[:, : self.cls_tokens]  # (B, 0 or 1, C)
        grid = to_grid(tokens, height, self.cls_tokens)  # (B, C, H, W), channels-last
        if self.cls_tokens:  # one copy instead of one in each of the three convolutions
            grid = grid.contiguous(memory_format=torch.channels_last)
        q = self._projected(self.conv_q, self.linear_q, cls, grid)  # (B, h, N, C/h)
        k = self._projected(self.conv_k, self.linear_k, cls, grid)  # (B, h, ~N/4, C/h)
        v = self._projected(self.conv_v, self.linear_v, cls, grid)  # (B, h, ~N/4, C/h)
        mixed = F.scaled_dot_product_attention(q, k, v, scale=self.scale)  # (B, h, N, C/h)
        return self.linear_out(mixed.transpose(1, 2).flatten(2), residual)  # (B, N, C)

    def _projected(self, conv: nn.Conv2d, linear: nn.Module, cls: Tensor, grid: Tensor) -> Tensor:
        tokens = conv(grid).permute(0, 2, 3, 1).flatten(1, 2)  # (B, N, C): a view, the map is channels-last
        if self.cls_tokens:
            tokens = torch.cat([cls, tokens], dim=1)
        tokens = linear(tokens).to(self.plan.attention)
        return tokens.unflatten(2, (self.heads, -1)).transpose(1, 2)  # (B, h, N, C/h)


class FusedMlp(nn.Module):
    """Two linear layers with SiLU between them; the slope of QuickGELU is part of their products."""

    def __init__(self, mlp: Mlp, plan: PrecisionPlan):
        super().__init__()
        self.fc1 = fused_linear(mlp.fc1, plan, QUICK_GELU_SLOPE, steep=True)
        self.fc2 = fused_linear(mlp.fc2, plan, 1 / QUICK_GELU_SLOPE)

    def forward(self, tokens: Tensor, residual: Tensor) -> Tensor:
        """Return the sum of a residual (B, N, C) and the output for tokens (B, N, C)."""
        hidden = self.fc1(tokens)  # (B, N, 4C): QUICK_GELU_SLOPE times the QuickGELU of the original
        return self.fc2(hidden, residual)  # (B, N, C)


def fused_linear(layer: nn.Linear, plan: PrecisionPlan, slope: float = 1.0, steep: bool = False) -> nn.Module:
    """Return a linear layer whose product is multiplied by a slope.

    Args:
        layer: Layer of the original network.
        plan: Data types.
        slope: Factor of the weights.
        steep: Whether the bias is also multiplied by it, and SiLU follows.
    """
    bias = slope * layer.bias if steep else layer.bias
    if plan.packed:
        return PackedLinear((slope * layer.weight).to(plan.linear), bias.to(plan.linear), "swish" if steep else "none")
    return FusedLinear(to_precision(layer, plan.linear).weight, bias.to(plan.linear), slope, steep)


class FusedLinear(nn.Module):
    """Linear layer with a factor of its product, SiLU or a sum after it."""

    def __init__(self, weight: Tensor, bias: Tensor, slope: float, silu: bool):
        super().__init__()
        self.weight = nn.Parameter(weight, requires_grad=False)
        self.register_buffer("bias", bias)
        self.slope, self.silu = slope, silu

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        """Return the output (B, N, D) for x (B, N, C), plus a residual (B, N, D), which may be overwritten."""
        rows = x.to(self.weight.dtype).flatten(0, 1)  # (B*N, C)
        rows = torch.addmm(self.bias, rows, self.weight.t(), alpha=self.slope)  # (B*N, D)
        rows = F.silu(rows, inplace=True) if self.silu else rows
        output = rows.unflatten(0, x.shape[:2])  # (B, N, D)
        return output if residual is None else residual.add_(output)


class PackedLinear(nn.Module):
    """Linear layer in bfloat16 on a CPU, with the weights in the order that its matrix instructions read.

    oneDNN reorders them once; a plain weight is reordered for each product.
    """

    def __init__(self, weight: Tensor, bias: Tensor, activation: str):
        super().__init__()
        self.weight = torch.ops.mkldnn._reorder_linear_weight(weight.detach().contiguous())
        self.bias, self.activation = bias.detach(), activation

    def __reduce__(self) -> tuple:
        return PackedLinear, (self.weight.to_dense(), self.bias, self.activation)

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        """Return what `FusedLinear` returns."""
        x = x.to(self.bias.dtype)
        if residual is not None and residual.dtype == x.dtype:
            return torch.ops.mkldnn._linear_pointwise.binary(x, residual, self.weight, self.bias, "add")
        output = torch.ops.mkldnn._linear_pointwise(x, self.weight, self.bias, self.activation, [], "")  # (B, N, D)
        return output if residual is None else residual.add_(output)


def can_pack(device: torch.device) -> bool:
    """Return whether the device is a CPU on which oneDNN multiplies in bfloat16."""
    available = device.type == "cpu" and torch.backends.mkldnn.is_available()
    return available and torch.ops.mkldnn._is_mkldnn_bf16_supported()


def normed(norm: nn.LayerNorm, tokens: Tensor) -> Tensor:
    """Return normalised tokens (B, N, C) in the same precision; sums are in float32."""
    return F.layer_norm(tokens, norm.normalized_shape, norm.weight, norm.bias, norm.eps)


def to_grid(tokens: Tensor, height: int, cls_tokens: int) -> Tensor:
    """Return tokens (B, N, C) without the leading cls tokens as a channels-last map (B, C, H, W); a view."""
    return tokens[:, cls_tokens:].unflatten(1, (height, -1)).permute(0, 3, 1, 2)  # (B, C, H, W)


def fold_batch_norm(conv: nn.Conv2d, norm: nn.BatchNorm2d, dtype: torch.dtype) -> nn.Conv2d:
    """Return the convolution with BatchNorm folded into its weights and bias, computed in float64."""
    slope = norm.weight.cpu().double() / (norm.running_var.cpu().double() + norm.eps).sqrt()  # (C,); MPS has no float64
    bias = norm.bias.cpu().double() - norm.running_mean.cpu().double() * slope  # (C,)
    if conv.bias is not None:
        bias = bias + conv.bias.cpu().double() * slope
    weight = conv.weight.cpu().double() * slope[:, None, None, None]  # (C, C_in, h, w)
    return replace_weights(conv, weight.to(conv.weight.device, dtype), bias.to(conv.weight.device, dtype))


def to_precision(layer: Layer, dtype: torch.dtype) -> Layer:
    """Return the layer in a precision; the layer itself if it has it already."""
    if layer.weight.dtype == dtype:
        return layer
    return replace_weights(layer, layer.weight.to(dtype), layer.bias.to(dtype))


def replace_weights(layer: Layer, weight: Tensor, bias: Tensor) -> Layer:
    """Return a copy of the layer with other weights, which are not copied."""
    result = copy(layer)  # shallow; the original keeps its own dict of parameters
    result._parameters = {
        "weight": nn.Parameter(weight, requires_grad=False),
        "bias": nn.Parameter(bias, requires_grad=False),
    }
    return result
