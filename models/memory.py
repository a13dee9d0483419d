"""Memory path of RichIQA: short-term and long-term memory over K attention nodes.

B batch, C feature width, M = 256 memory channels, K bins (one attention node each).
f pooled features, v attention features, s short-term memory, A W the two long-term memories, z memory output.

Source: Min et al., RichIQA, arXiv 2409.05540.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

MEMORY_CHANNELS = 256
LEAKY_SLOPE = 0.2

MemoryKind = Literal["full", "short", "long"]


def leaky_relu(x: Tensor) -> Tensor:
    return F.leaky_relu(x, LEAKY_SLOPE)


class AttentionFeatures(nn.Module):
    """One feature vector per node: the reduced features weighed by a mask of K nodes."""

    def __init__(self, width: int, num_bins: int):
        super().__init__()
        self.mask = nn.Linear(width, num_bins, bias=False)
        self.reduce = nn.Linear(width, MEMORY_CHANNELS)

    def forward(self, features: Tensor) -> Tensor:
        mask = torch.sigmoid(self.mask(features))  # (B, K)
        return self.reduce(features)[:, :, None] * mask[:, None, :]  # (B, M, K)


class ShortTermMemory(nn.Module):
    """Short-term memory: a summary of all nodes, mixed into each of them."""

    def __init__(self):
        super().__init__()
        self.summary = nn.Conv1d(MEMORY_CHANNELS, MEMORY_CHANNELS, 1)
        self.norm = nn.BatchNorm1d(MEMORY_CHANNELS)
        self.mix = nn.Conv1d(2 * MEMORY_CHANNELS, MEMORY_CHANNELS, 1)

    def forward(self, v: Tensor) -> Tensor:
        summary = self.summary(v.mean(dim=2, keepdim=True))  # (B, M, 1)
        summary = leaky_relu(self.norm(summary)).expand_as(v)  # (B, M, K)
        return torch.sigmoid(self.mix(torch.cat([summary, v], dim=1)))  # (B, M, K)


class LongTermMemory(nn.Module):
    """Long-term memory: the memory at t-1 (without gradient), gated into the memory at t, applied to v + s.

    Differs: from the equations, since the gates flatten their tensors in memory order. This mixes channels and nodes of
    A, W and s, and scrambles v on its way back; the weights of the release depend on it.
    """

    def __init__(self, num_bins: int):
        super().__init__()
        self.nodes = nn.Conv1d(num_bins, num_bins, 1, bias=False)
        self.channels = nn.Conv1d(MEMORY_CHANNELS, MEMORY_CHANNELS, 1)
        self.gate_v = nn.Linear(num_bins, num_bins)
        self.gate_a = nn.Linear(num_bins, num_bins)
        self.gate_s = nn.Linear(MEMORY_CHANNELS, MEMORY_CHANNELS)
        self.gate_w = nn.Linear(MEMORY_CHANNELS, MEMORY_CHANNELS)

    def forward(self, v: Tensor, s: Tensor | None) -> Tensor:
        """Return the memory (B, M, K) of v (B, M, K) and s (B, M, K), or of v alone without a short-term memory."""
        carried = v if s is None else v + s
        s = v if s is None else s
        batch, channels, bins = v.shape
        with torch.no_grad():
            past_a = _flat(self._remember_nodes(v.transpose(1, 2)), bins)  # (B, K, M) -> (B*M, K)
            past_w = _flat(self._remember_channels(s), channels)  # (B, M, K) -> (B*K, M)
        flat_v, flat_s = _flat(v, bins), _flat(s, channels)  # (B*M, K), (B*K, M)
        alpha = torch.tanh(self.gate_v(flat_v) + self.gate_a(past_a))  # (B*M, K)
        omega = torch.tanh(self.gate_s(flat_s) + self.gate_w(past_w))  # (B*K, M)
        present_v = (flat_v + alpha * past_a).reshape(batch, -1).reshape(batch, bins, channels)  # (B, K, M)
        present_s = (flat_s + omega * past_w).reshape(batch, -1).reshape(batch, channels, bins)  # (B, M, K)
        present_a = self._remember_nodes(present_v).transpose(1, 2)  # (B, M, K)
        present_w = self._remember_channels(present_s)  # (B, M, K)
        return torch.sigmoid(present_a * carried * present_w)  # (B, M, K)

    def _remember_nodes(self, x: Tensor) -> Tensor:
        return leaky_relu(self.nodes(x))  # (B, K, M)

    def _remember_channels(self, x: Tensor) -> Tensor:
        return leaky_relu(self.channels(x))  # (B, M, K)


def _flat(x: Tensor, width: int) -> Tensor:
    """Reshape (B, ...) to (-1, width) in memory order; image by image, so that torch.export accepts any batch size."""
    return x.flatten(1).unflatten(1, (-1, width)).flatten(0, 1)


class MemoryPath(nn.Module):
    """Memory path: from pooled features (B, C) to memory logits (B, K).

    `full` is that of the release. `short` omits the long-term memory (z = s); `long` omits the short-term memory (v
    replaces s, and z is computed from v alone). The paper does not define these two; they are our ablations.
    """

    def __init__(self, width: int, num_bins: int, kind: MemoryKind = "full"):
        super().__init__()
        self.attention = AttentionFeatures(width, num_bins)
        self.short = ShortTermMemory() if kind != "long" else None
        self.long = LongTermMemory(num_bins) if kind != "short" else None

    def forward(self, features: Tensor) -> Tensor:
        v = self.attention(features)  # (B, M, K)
        s = self.short(v) if self.short is not None else None  # (B, M, K)
        z = self.long(v, s) if self.long is not None else s  # (B, M, K)
        return F.normalize((z + v).mean(dim=1), dim=1)  # (B, K)
