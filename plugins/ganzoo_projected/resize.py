"""Resizing by fixed matrices: torch's bilinear interpolation and adaptive pooling have no deterministic backward on
CUDA, and both are linear along each axis."""

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d, interpolate


def bilinear(before: int, after: int) -> Tensor:
    """The matrix (after, before) of bilinear interpolation along one axis, as torch computes it with
    `align_corners=False`, antialiased where it shrinks."""
    size = (after, before)
    return interpolate(torch.eye(before)[None, None], size, mode="bilinear", antialias=after < before)[0, 0]


def average(before: int, after: int) -> Tensor:
    """The matrix (after, before) of adaptive average pooling along one axis, as torch computes it."""
    return adaptive_avg_pool2d(torch.eye(before)[None, None], (after, before))[0, 0]


class Resize(nn.Module):
    """(N, C, before, before) to (N, C, after, after): a matrix (after, before) applied to rows and columns. It is not
    saved with the weights."""

    matrix: Tensor

    def __init__(self, matrix: Tensor) -> None:
        super().__init__()
        self.register_buffer("matrix", matrix, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        matrix = self.matrix.to(x.dtype)
        return matrix @ x @ matrix.t()
