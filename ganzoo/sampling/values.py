"""The values of images: 0 to 255 as pixels, [-1, 1] for networks."""

import torch
from torch import Tensor


def from_uint8(pixels: Tensor) -> Tensor:
    """uint8 images as floats in [-1, 1], of the default type: 0 is -1 and 255 is 1."""
    return pixels.to(torch.get_default_dtype()).div_(127.5).sub_(1)
