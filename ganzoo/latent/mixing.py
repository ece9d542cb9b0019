"""Sheets of style mixing."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn

from ganzoo.errors import SampleError
from ganzoo.latent.latents import Latents, latents, render, split_options
from ganzoo.sampling.draw import Labels
from ganzoo.sampling.pictures import grid, to_uint8


def mix(
    g: nn.Module, rows: Sequence[int], columns: Sequence[int], labels: Labels | None = None, **options: Any
) -> Image.Image:
    """A sheet of style mixing (Karras et al. 2019, https://arxiv.org/abs/1812.04948, figure 3).

    The first row and the first column show images as they are. Each other image has the coarser half of the layers of
    w from its row's seed, which decides on shapes, and the rest from its column's, which decides on colours.

    Args:
        g: a generator with styles.
        rows: the seeds of the rows.
        columns: the seeds of the columns.
        labels: for a conditional generator, the class of all.
        **options: of the generator's own.

    Raises:
        SampleError: the generator has no styles, classes or options of that kind.
    """
    own, rest = split_options(g, options)
    source = latents(g, [*rows, *columns], labels, **own)
    if source.kind != "w" or source.values.dim() != 3:
        raise SampleError("styles are mixed in w, and this generator has none: take one with styles, such as stylegan2")
    above, left = source.values[len(rows) :], source.values[: len(rows)]
    half = source.values.shape[1] // 2
    mixed = [torch.cat([one[:half], other[half:]]) for one in left for other in above]
    images = to_uint8(render(g, Latents(torch.cat([left, above, torch.stack(mixed)]), "w"), **rest))
    cells = [images[:1] * 0, *images[len(rows) : len(rows) + len(columns), None]]
    for i in range(len(rows)):
        start = len(rows) + len(columns) + i * len(columns)
        cells += [images[i : i + 1], *images[start : start + len(columns), None]]
    return grid(np.concatenate(cells), len(columns) + 1)
