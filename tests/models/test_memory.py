"""The memory path beside its equations, written out here once more."""

import pytest
import torch
import torch.nn.functional as F

from models.memory import MemoryPath

IMAGES, WIDTH, BINS, CHANNELS = 3, 6, 5, 256


@pytest.fixture
def path():
    torch.manual_seed(0)
    path = MemoryPath(WIDTH, BINS).double().eval()
    for parameter in path.parameters():  # far enough from 0 for each term to show
        torch.nn.init.normal_(parameter, std=0.2)
    path.short.norm.running_mean.normal_()
    path.short.norm.running_var.uniform_(0.5, 2)
    return path


@pytest.fixture
def features():
    return torch.randn(IMAGES, WIDTH, dtype=torch.double, generator=torch.Generator().manual_seed(1))


def leaky(x):
    return torch.where(x > 0, x, 0.2 * x)


def conv(x, layer):
    """A convolution of width 1 of (B, channels, nodes): one matrix for all nodes."""
    y = torch.einsum("oc,bcn->bon", layer.weight[:, :, 0], x)
    return y if layer.bias is None else y + layer.bias[:, None]


def written_out(path, features):
    """Logits (B, K), v, s and z (B, M, K) by the equations of the release, with reshapes of contiguous tensors."""
    attention, short, long = path.attention, path.short, path.long
    mask = torch.sigmoid(features @ attention.mask.weight.T)
    reduced = features @ attention.reduce.weight.T + attention.reduce.bias
    v = torch.einsum("bm,bk->bmk", reduced, mask)
    norm = short.norm
    summary = conv(v.mean(2, keepdim=True), short.summary)
    summary = (summary - norm.running_mean[:, None]) / (norm.running_var[:, None] + norm.eps).sqrt()
    summary = leaky(summary * norm.weight[:, None] + norm.bias[:, None])
    s = torch.sigmoid(conv(torch.cat([summary.repeat(1, 1, BINS), v], dim=1), short.mix))
    past_a = leaky(conv(v.transpose(1, 2), long.nodes)).detach()  # (B, K, M)
    past_w = leaky(conv(s, long.channels)).detach()  # (B, M, K)
    flat_v, flat_a = v.reshape(-1, BINS), past_a.reshape(-1, BINS)
    flat_s, flat_w = s.reshape(-1, CHANNELS), past_w.reshape(-1, CHANNELS)
    alpha = torch.tanh(F.linear(flat_v, *long.gate_v.parameters()) + F.linear(flat_a, *long.gate_a.parameters()))
    omega = torch.tanh(F.linear(flat_s, *long.gate_s.parameters()) + F.linear(flat_w, *long.gate_w.parameters()))
    present_v = (flat_v + alpha * flat_a).reshape(IMAGES, BINS, CHANNELS)
    present_s = (flat_s + omega * flat_w).reshape(IMAGES, CHANNELS, BINS)
    present_a = leaky(conv(present_v, long.nodes)).transpose(1, 2)
    z = torch.sigmoid(present_a * (v + s) * leaky(conv(present_s, long.channels)))
    mean = (z + v).mean(1)
    return mean / mean.norm(dim=1, keepdim=True), v, s, z


def test_values_are_those_of_the_equations(path, features):
    logits, v, s, z = written_out(path, features)
    torch.testing.assert_close(path.attention(features), v)
    torch.testing.assert_close(path.short(v), s)
    torch.testing.assert_close(path.long(v, s), z)
    torch.testing.assert_close(path(features), logits)


def test_gradients_leave_out_the_past_memory(path, features):
    features.requires_grad_()
    wanted = [features, *path.parameters()]
    outer = torch.randn(IMAGES, BINS, dtype=torch.double, generator=torch.Generator().manual_seed(2))
    ours = torch.autograd.grad((path(features) * outer).sum(), wanted)
    expected = torch.autograd.grad((written_out(path, features)[0] * outer).sum(), wanted)
    for mine, other in zip(ours, expected, strict=True):
        torch.testing.assert_close(mine, other)
