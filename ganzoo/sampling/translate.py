"""Translating pictures of any size."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from ganzoo.sampling.draw import Labels, sample
from ganzoo.sampling.values import from_uint8


def translate(
    g: nn.Module, images: Tensor, n: int = 1, seed: int = 0, labels: Labels | None = None, **options: Any
) -> Tensor:
    """Outputs of a generator for inputs whose sides need not be multiples of what it takes.

    Images are continued by their last rows and columns to multiples of `g.multiple`, if it has that attribute, and the
    outputs cropped accordingly.

    Args:
        g: a generator that translates images.
        images: (N, C, H, W), uint8 or floats in [-1, 1].
        n: outputs for each input, which differ by their latents.
        seed, labels, **options: as for `ganzoo.sample`, of the N * n outputs; those of an input follow each other.

    Returns:
        (N * n, C', H * s, W * s) floats, where s is how many times the generator enlarges.

    Raises:
        SampleError, ConfigError: as `ganzoo.sample`.
    """
    height, width = images.shape[2:]
    multiple: int = getattr(g, "multiple", 1)
    missing = [-size % multiple for size in (height, width)]
    given = from_uint8(images) if images.dtype == torch.uint8 else images
    given = pad(given, (0, missing[1], 0, missing[0]), mode="replicate")
    made = sample(g, len(given) * n, seed, labels, inputs=given.repeat_interleave(n, 0), **options)
    if not any(missing):
        return made
    scale = made.shape[2] / given.shape[2]
    return made[:, :, : round(height * scale), : round(width * scale)]


def by_shape(images: Sequence[Tensor], most: int) -> list[list[int]]:
    """The numbers of images (C, H, W) in groups of one shape, of at most so many pixels together, but at least one."""
    groups: dict[tuple[int, ...], list[list[int]]] = {}
    for number, image in enumerate(images):
        own = groups.setdefault(tuple(image.shape), [[]])
        if (len(own[-1]) + 1) * math.prod(image.shape[1:]) > most and own[-1]:
            own.append([])
        own[-1].append(number)
    return [group for own in groups.values() for group in own]
