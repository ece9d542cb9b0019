"""The inputs that a translating generator is shown on, always the same ones."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from ganzoo.sampling.draw import sample
from ganzoo.sampling.pictures import Pixels, grid, is_image, to_uint8
from ganzoo.sampling.values import from_uint8

WIDEST = 1024
"""Pixels of a picture's width that are not exceeded, unless one example is wider."""


@dataclass(frozen=True)
class Examples:
    """Inputs of a translation, and what belongs to them.

    Attributes:
        inputs: (N, ...), images as uint8.
        targets: the items that they belong to, (N, ...); None if the data is unpaired.
        labels: their classes (N,), for a conditional generator.
    """

    inputs: Tensor
    targets: Tensor | None = None
    labels: Tensor | None = None

    def tensors(self) -> dict[str, Tensor]:
        """Those of the attributes that are not None, by name."""
        named = {"inputs": self.inputs, "targets": self.targets, "labels": self.labels}
        return {name: tensor for name, tensor in named.items() if tensor is not None}

    @classmethod
    def of(cls, tensors: Mapping[str, Tensor]) -> "Examples | None":
        """The examples of these `tensors()`; None where there are no inputs."""
        return cls(**tensors) if "inputs" in tensors else None

    def translate(self, g: nn.Module, seed: int = 0) -> Tensor:
        """What a generator makes of the inputs, (N, ...)."""
        return sample(g, len(self.inputs), seed, self.labels, inputs=self.inputs)

    def picture(self, g: nn.Module, seed: int = 0) -> Image.Image | None:
        """Input, output, and target where there is one, side by side for each example; None if they are no images."""
        made = self.translate(g, seed)
        columns = [self.inputs, made, *([] if self.targets is None else [self.targets])]
        if not all(map(is_image, columns)):
            return None
        return side_by_side([as_pixels(column) for column in columns])


def as_pixels(images: Tensor) -> Pixels:
    """Images (N, C, H, W), uint8 or floats in [-1, 1], as pixels (N, H, W, C)."""
    return to_uint8(from_uint8(images) if images.dtype == torch.uint8 else images)


def side_by_side(columns: list[Pixels]) -> Image.Image:
    """Images (N, H, W, C) of several kinds as one picture, in which those of the same number stand side by side. All
    are drawn in the size and with the channels of the largest, small ones with larger pixels."""
    height, width = (max(column.shape[i] for column in columns) for i in (1, 2))
    channels = max(column.shape[3] for column in columns)
    drawn = []
    for column in columns:
        rows = np.arange(height) * column.shape[1] // height
        across = np.arange(width) * column.shape[2] // width
        drawn.append(np.broadcast_to(column[:, rows][:, :, across], (len(column), height, width, channels)))
    together = np.stack(drawn, 1).reshape(-1, height, width, channels)
    most = max(1, WIDEST // (len(columns) * width))
    return grid(together, len(columns) * min(most, round(len(columns[0]) ** 0.5) or 1))
