"""Sprites: small creatures in pixels, drawn by code. A colour data set that needs no file and no download."""

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, max_pool2d, pad

from ganzoo import Data, DataError, Rng

COLOURS = ["red", "yellow", "lime", "green", "cyan", "blue", "purple", "pink"]
"""The classes: the hue of the body, an eighth of the circle each, from 0."""
SIDE = 12
"""Cells on a side of a creature, each 2x2 pixels."""
SIZE = 32
"""Pixels on a side of an image."""


def sprites(n: int = 10_000) -> Data:
    """Symmetric creatures of random shape and colours with a dark outline, on one of two backgrounds.

    Args:
        n: number of images.

    Raises:
        DataError: n is below 1.
    """
    if n < 1:
        raise DataError(f"data.n must be at least 1, not {n}")
    rng = Rng(0, 0, "sprites")
    labels = rng.randint(len(COLOURS), n)
    body = _bodies(rng, n)
    marks = _enlarged(_mirrored(rng.rand(n, SIDE, SIDE // 2) < 0.3)) & body
    outline = (max_pool2d(body.float(), 3, 1, 1) > 0) & ~body
    hue = (labels + rng.rand(n) / 2) / len(COLOURS)
    background = torch.tensor([[0.84, 0.84, 0.88], [0.88, 0.84, 0.80]])[rng.randint(2, n)]
    images = _bytes(background).expand(-1, -1, SIZE, SIZE)
    layers = (
        (outline, torch.full((n, 3), 0.1)),
        (body, _rgb(hue, 0.6 + 0.4 * rng.rand(n), 0.7 + 0.3 * rng.rand(n))),
        (marks, _rgb(hue + 0.4, torch.full((n,), 0.5), torch.ones(n))),
    )
    for mask, colour in layers:
        images = torch.where(mask, _bytes(colour), images)
    return Data(images, labels, classes=COLOURS)


def _bodies(rng: Rng, n: int) -> Tensor:
    """Masks (N, 1, SIZE, SIZE): cells that are likelier near the middle, smoothed by a majority of their neighbours."""
    y, x = torch.linspace(-1, 1, SIDE)[:, None], torch.linspace(1, 0, SIDE // 2)
    cells = _mirrored(rng.rand(n, SIDE, SIDE // 2) < 0.95 - 0.6 * (x**2 + 0.6 * y**2))
    return _enlarged(avg_pool2d(cells.float(), 3, 1, 1) > 0.5)


def _mirrored(half: Tensor) -> Tensor:
    return torch.cat([half, half.flip(2)], 2)[:, None]


def _enlarged(cells: Tensor) -> Tensor:
    margin = (SIZE - 2 * SIDE) // 2
    return pad(cells.repeat_interleave(2, 2).repeat_interleave(2, 3), (margin, margin, margin, margin))


def _bytes(colour: Tensor) -> Tensor:
    """Colours (N, 3) in [0, 1] as pixels (N, 3, 1, 1)."""
    return (colour * 255).round().byte()[:, :, None, None]


def _rgb(hue: Tensor, saturation: Tensor, value: Tensor) -> Tensor:
    """Colours (N, 3) in [0, 1] from hue, of which 1 is the whole circle, saturation and value (Smith 1978)."""
    shift = (hue[:, None] * 6 + torch.tensor([5.0, 3.0, 1.0])) % 6
    dip = torch.minimum(shift, 4 - shift).clamp(0, 1)
    return value[:, None] * (1 - saturation[:, None] * dip)
