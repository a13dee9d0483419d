"""Parameter values that depend only on the name of a parameter in the release and its shape."""

import math
import zlib

import numpy as np
import torch
from torch import Tensor

from models.official import from_official, to_official
from models.richiqa import RichIQA


def noise(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Return uniform values on -1..1 by integer hashing (splitmix64), the same on every machine."""
    counter = np.arange(math.prod(shape), dtype=np.uint64) + np.uint64(zlib.crc32(name.encode()) << 32)
    with np.errstate(over="ignore"):
        x = counter * np.uint64(0x9E3779B97F4A7C15)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        x ^= x >> np.uint64(31)
    return ((x >> np.uint64(11)) / 2.0**52 - 1).reshape(shape)


def filled(name: str, like: Tensor) -> Tensor:
    """Return the value of a parameter or buffer."""
    shape = tuple(like.shape)
    values = noise(name, shape)
    if name.endswith("num_batches_tracked"):
        return torch.zeros_like(like)
    if name.endswith("running_var"):
        values = 1 + 0.5 * values
    elif name.endswith("running_mean"):
        values = 0.1 * values
    elif len(shape) > 1 and "cls_token" not in name:
        values = values * math.sqrt(3 / math.prod(shape[1:]))  # unit variance of the sum
    elif name.endswith("weight"):
        values = 1 + 0.1 * values
    else:
        values = 0.1 * values
    return torch.from_numpy(values).to(like.dtype)


def fill(model: RichIQA) -> RichIQA:
    """Fill every parameter of a model by its name in the release."""
    official = to_official(model.state_dict())
    model.load_state_dict(from_official({name: filled(name, tensor) for name, tensor in official.items()}))
    return model


def images(batch: int, height: int, width: int) -> Tensor:
    """Return a normalised input batch (B, 3, H, W)."""
    return torch.from_numpy(1.5 * noise("images", (batch, 3, height, width))).float()


def targets(batch: int) -> dict[str, Tensor]:
    """Return labels on 1..5."""
    dos = np.exp(2 * noise("targets", (batch, 5)))
    dos /= dos.sum(1, keepdims=True)
    centers = np.arange(1, 6)
    mos = dos @ centers
    sos = np.sqrt((dos * (centers - mos[:, None]) ** 2).sum(1))
    return {name: torch.from_numpy(x).float() for name, x in (("dos", dos), ("mos", mos), ("sos", sos))}
