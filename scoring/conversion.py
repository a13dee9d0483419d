"""Arrays and tensors as pictures.

H W image size, C channels.
"""

from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from utils.errors import UserError

CHANNELS = (1, 3, 4)


def to_picture(image: Any) -> Image.Image:
    """A picture from a PIL image, a uint8 array (H, W) or (H, W, C), or a tensor (C, H, W), uint8 or float in 0..1.

    Raises:
        UserError: Another type, shape or range.
    """
    if isinstance(image, Image.Image):
        return image
    if isinstance(image, Tensor):
        return _from_array(_pixels_of(image))
    if isinstance(image, np.ndarray):
        return _from_array(image)
    kind = type(image).__name__
    raise UserError(f"an image is a path, a PIL image, a uint8 array or a tensor, got {kind}")


def _pixels_of(tensor: Tensor) -> np.ndarray:
    """A tensor (C, H, W) or (H, W) as an array (H, W, C) or (H, W)."""
    tensor = tensor.detach().cpu()
    if tensor.is_floating_point():
        low, high = (float(end) for end in tensor.aminmax()) if tensor.numel() else (0.0, 0.0)
        if not (low >= 0 and high <= 1):
            raise UserError(f"a float tensor of an image lies in 0..1, got {low:g} to {high:g}; scale it, or use uint8")
        tensor = (tensor.float() * 255).round().to(torch.uint8)
    if tensor.dim() == 3 and tensor.shape[0] not in CHANNELS:
        raise UserError(f"a tensor of an image is (C, H, W) with C 1, 3 or 4, got {tuple(tensor.shape)}")
    return (tensor.permute(1, 2, 0) if tensor.dim() == 3 else tensor).numpy()


def _from_array(array: np.ndarray) -> Image.Image:
    if array.dtype != np.uint8:
        raise UserError(f"an array of an image is uint8, got {array.dtype}; scale it to 0..255 and convert it")
    flat = array.ndim == 2 or (array.ndim == 3 and array.shape[2] in CHANNELS)
    if not flat or 0 in array.shape:
        raise UserError(f"an array of an image is (H, W), (H, W, 3) or (H, W, 4), got {array.shape}")
    single = array[:, :, 0] if array.ndim == 3 and array.shape[2] == 1 else array
    return Image.fromarray(np.ascontiguousarray(single))
