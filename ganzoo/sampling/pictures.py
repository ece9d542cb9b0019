"""Images as pixels and as one picture."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from ganzoo.errors import SampleError
from ganzoo.sampling.draw import class_count, sample

GRID = 64
"""Images in the grids that show a generator."""

Pixels = np.ndarray[Any, np.dtype[np.uint8]]


def is_image(items: Tensor) -> bool:
    """Whether these items can be drawn as images: (N, 1 or 3, H, W)."""
    return items.dim() == 4 and items.shape[1] in (1, 3)


def to_uint8(images: Tensor) -> Pixels:
    """(N, C, H, W) in [-1, 1] to uint8 (N, H, W, C): -1 is 0 and 1 is 255, the same for every batch.

    Raises:
        SampleError: these are not images of 1 or 3 channels.
    """
    if not is_image(images):
        raise SampleError(f"samples of shape {tuple(images.shape[1:])} are not images of 1 or 3 channels: write a .npy")
    pixels = images.detach().float().mul(127.5).add_(127.5).round_().clamp_(0, 255).to(torch.uint8)
    return pixels.permute(0, 2, 3, 1).contiguous().cpu().numpy()


def grid(pixels: Pixels, columns: int | None = None) -> Image.Image:
    """Images (N, H, W, C) as one picture, row by row with a margin, as square as possible unless `columns` is given."""
    n, height, width, channels = pixels.shape
    columns = columns or math.ceil(math.sqrt(n))
    rows = -(-n // columns)
    margin = 2
    sheet = np.full((rows, height + margin, columns, width + margin, channels), 0, np.uint8)
    for i in range(n):
        sheet[i // columns, :height, i % columns, :width] = pixels[i]
    joined = sheet.reshape(rows * (height + margin), columns * (width + margin), channels)
    padded = np.pad(joined, ((margin, 0), (margin, 0), (0, 0)))
    return Image.fromarray(padded[:, :, 0] if channels == 1 else padded)


def by_class(n: int, classes: Sequence[int]) -> tuple[list[int], int]:
    """Labels for about n samples in a grid with a class a row, and the number of its columns."""
    columns = max(1, round(n / len(classes)))
    return [label for label in classes for _ in range(columns)], columns


def overview(g: nn.Module, seed: int = 0) -> Image.Image:
    """The grid that shows what a generator of images has learned: 64 samples, for a conditional one a class a row."""
    count = class_count(g)
    if count is None:
        return grid(to_uint8(sample(g, GRID, seed)))
    labels, columns = by_class(GRID, range(min(count, GRID)))
    return grid(to_uint8(sample(g, len(labels), seed, labels)), columns)
