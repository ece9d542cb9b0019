"""The augmentations of adaptive discriminator augmentation, ADA (Karras et al. 2020, Training Generative Adversarial
Networks with Limited Data, https://arxiv.org/abs/2006.06676, appendix B): pixel blitting, geometric and colour
operations, each applied to an image with probability p. They are linear in the image, so gradients of any order exist.
"""

import math
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import grid_sample

from ganzoo.rng import Rng

SHIFT = 0.125
"""The largest whole translation, and the deviation of the fractional one, as a fraction of the side."""
SCALE = 0.2
"""The deviation of the base-2 logarithm of both scalings."""
BRIGHTNESS, CONTRAST, SATURATION = 0.2, 0.5, 1.0
"""The deviations of the added brightness, on [-1, 1], and of the base-2 logarithms of contrast and saturation."""
WAVELET = (
    0.015404109327027373, 0.0034907120842174702, -0.11799011114819057, -0.048311742585633, 0.4910559419267466,
    0.787641141030194, 0.3379294217276218, -0.07263752278646252, -0.021060292512300564, 0.04472490177066578,
    0.0017677118642428036, -0.007800708325034148,
)  # fmt: skip
"""The low-pass filter of the orthogonal wavelet sym6 (Daubechies 1992), whose sum is the root of 2."""
CENTRE = 5
"""The sample of an enlarged row at the first pixel's centre; that of pixel i is 2 i further. The centroid of the filter
is 5.098, and a whole number spares flips and quarter turns an interpolation."""
SETTLED = ("cpu",)
"""Devices on which torch's own kernel for the gradient of samples adds in a settled order, so that bits agree."""
EXTRA = len(WAVELET) - 2
"""The length of an enlarged row beyond twice the number of pixels."""


def draw(rng: Rng, n: int) -> Tensor:
    """The numbers (n, 30) that decide what happens to n images: those of `_geometry`, then those of `_colour`."""
    geometry = rng.rand(n, 8), rng.rand(n, 2), rng.rand(n, 6), rng.randn(n, 4)
    return torch.cat([*geometry, rng.rand(n, 5), rng.rand(n, 2), rng.randn(n, 3)], 1)


def pipeline(x: Tensor, p: Tensor, numbers: Tensor) -> Tensor:
    """Augment each image independently of the others.

    Args:
        x: images (N, C, H, W) of 1 or 3 channels, in [-1, 1].
        p: the probability of each operation, a scalar; at 0 the images stay as they are, up to rounding.
        numbers: what `draw` gives, on the device of the images.

    Returns:
        Images of the same shape, in float32 at least, which may leave [-1, 1].
    """
    _, channels, height, width = x.shape
    with torch.autocast(x.device.type, enabled=False):
        x = x.to(torch.promote_types(x.dtype, torch.float32))
        geometry = _geometry(p, numbers[:, :20], height, width).to(x.dtype)
        x = _transform(x, geometry)
        colour = _colour(p, numbers[:, 20:], channels > 1).to(x.dtype)
        if channels == 1:  # the mean of the three channels of a grey picture in colour
            colour = colour[:, :3].mean(1, keepdim=True)
            colour = torch.stack([colour[..., :3].sum(2), colour[..., 3]], 2)
        return (colour[:, :channels, :channels] @ x.flatten(2) + colour[:, :channels, channels : channels + 1]).view_as(
            x
        )


def _geometry(p: Tensor, numbers: Tensor, height: int, width: int) -> Tensor:
    """For each image the matrix (N, 3, 3) from a place in the result to one in the image, in pixels from its centre."""
    choices, rotations, uniform, normal = torch.split(numbers, [8, 2, 6, 4], 1)
    chosen = choices < p
    once = rotations < 1 - (1 - p).clamp_min(0).sqrt()  # two rotations, at least one of them with probability p
    sides = _sides(height, width, p.device)
    zero, one = torch.zeros_like(uniform[:, 0]), torch.ones_like(uniform[:, 0])

    def drawn(i: int, values: Tensor, neutral: Tensor) -> Tensor:
        return torch.where(chosen[:, i], values, neutral)

    mirrored = drawn(0, 1 - 2 * (uniform[:, 0] * 2).floor(), one)
    turned = drawn(1, (uniform[:, 1] * 4).floor() * (math.pi / 2), zero)
    whole = ((uniform[:, 2:4] * 2 - 1) * SHIFT * sides).round() * chosen[:, 2:3]
    scaled = drawn(3, torch.exp2(-normal[:, 0] * SCALE), one)
    angles = (uniform[:, 4:6] * 2 - 1) * math.pi * once
    stretched = drawn(4, torch.exp2(-normal[:, 1] * SCALE), one)
    fractional = normal[:, 2:4] * SHIFT * sides * chosen[:, 5:6]
    # Matrices of one kind together: each kernel has little to do, and costs a GPU as much to start as a large one.
    mirror, scale, stretch = _scaling(
        torch.stack([mirrored, scaled, stretched]), torch.stack([one, scaled, 1 / stretched])
    )
    turn, first, second = _rotation(torch.stack([turned, *angles.unbind(1)]))
    shift, fraction = _translation(*torch.stack([whole, fractional]).unbind(2))
    geometry: Tensor = mirror @ turn @ shift @ scale @ first @ stretch @ second @ fraction
    return geometry


@lru_cache(maxsize=16)
def _sides(height: int, width: int, device: torch.device) -> Tensor:
    return torch.tensor([float(width), float(height)]).to(device)


def _matrices(*entries: Tensor) -> Tensor:
    """Tensors (...) of the nine entries, row by row, as matrices (..., 3, 3)."""
    return torch.stack(entries, -1).view(*entries[0].shape, 3, 3)


def _scaling(x: Tensor, y: Tensor) -> Tensor:
    zero, one = torch.zeros_like(x), torch.ones_like(x)
    return _matrices(x, zero, zero, zero, y, zero, zero, zero, one)


def _rotation(angle: Tensor) -> Tensor:
    cos, sin, zero, one = angle.cos(), angle.sin(), torch.zeros_like(angle), torch.ones_like(angle)
    return _matrices(cos, -sin, zero, sin, cos, zero, zero, zero, one)


def _translation(x: Tensor, y: Tensor) -> Tensor:
    zero, one = torch.zeros_like(x), torch.ones_like(x)
    return _matrices(one, zero, -x, zero, one, -y, zero, zero, one)


def _colour(p: Tensor, numbers: Tensor, colourful: bool) -> Tensor:
    """For each image the matrix (N, 4, 4) of its colours (red, green, blue, 1)."""
    choices, uniform, normal = torch.split(numbers[:, :, None, None], [5, 2, 3], 1)
    chosen = choices < p
    unit, constant, grey, white, cross = _colours(p.device)
    brightness = unit + white * (normal[:, 0] * BRIGHTNESS * chosen[:, 0])
    contrast = constant + (unit - constant) * torch.exp2(normal[:, 1] * CONTRAST * chosen[:, 1])
    inverted = unit - 2 * grey * (uniform[:, 0] * 2).floor() * chosen[:, 2]
    colour = inverted @ contrast @ brightness
    if not colourful:
        return colour
    angle = (uniform[:, 1] * 2 - 1) * math.pi * chosen[:, 3]
    hue = unit + cross * angle.sin() + (unit - constant - grey) * (angle.cos() - 1)
    saturation = constant + grey + (unit - constant - grey) * torch.exp2(normal[:, 2] * SATURATION * chosen[:, 4])
    return saturation @ hue @ colour


@lru_cache(maxsize=4)
def _colours(device: torch.device) -> list[Tensor]:
    """Matrices (4, 4) of the colours (red, green, blue, 1): the identity, the projections onto the constant and onto
    the grey axis, the addition of white, and the cross product with the unit vector of the grey axis."""
    constant, grey, white, cross = (torch.zeros(4, 4) for _ in range(4))
    constant[3, 3] = 1
    grey[:3, :3] = 1 / 3
    white[:3, 3] = 1
    for i in range(3):
        cross[i, (i + 2) % 3], cross[i, (i + 1) % 3] = 1 / math.sqrt(3), -1 / math.sqrt(3)
    return [matrix.to(device) for matrix in (torch.eye(4), constant, grey, white, cross)]


def _transform(x: Tensor, geometry: Tensor) -> Tensor:
    """Resample images at twice their resolution, between the filters of the wavelet, with mirrored borders."""
    height, width = x.shape[2:]
    enlarge_rows, reduce_rows = _resampling(height, x.device, x.dtype)
    enlarge_columns, reduce_columns = _resampling(width, x.device, x.dtype)
    large = enlarge_rows @ x @ enlarge_columns.T
    # The places of the enlarged result, in pixels from the centre of the image.
    down, right = (
        (torch.arange(2 * size + EXTRA, device=x.device) - CENTRE - size + 1) / 2 for size in (height, width)
    )
    places = torch.stack([right.expand(len(down), -1), down[:, None].expand(-1, len(right))], 2).view(-1, 2)
    places = places.to(x.dtype) @ geometry[:, :2, :2].mT + geometry[:, None, :2, 2]
    grid = _position(places, _sides(height, width, x.device).to(x.dtype))
    moved: Tensor = _Sampled.apply(large, grid.view(len(x), len(down), len(right), 2))
    return reduce_rows @ moved @ reduce_columns.T


def _position(place: Tensor, sides: Tensor) -> Tensor:
    """Where places (..., 2), in pixels from the centre, are in enlarged rows and columns, from -1 to 1 as `grid_sample`
    counts. What lies beyond their ends is mirrored at the centres of the outermost pixels."""
    last, end = sides - 1, 2 * sides + (EXTRA - 1)
    pixel = place + last / 2
    mirrored = pixel % (2 * last).clamp_min(1)
    mirrored = torch.minimum(mirrored, 2 * last - mirrored)
    row = 2 * pixel + CENTRE
    row = torch.where((row < 0) | (row > end), 2 * mirrored + CENTRE, row)
    return row * (2 / end) - 1


@lru_cache(maxsize=16)
def _resampling(size: int, device: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """A matrix (2 size + EXTRA, size) that enlarges rows of pixels, mirrored at their ends, and one that reduces such
    rows again. Their product is the identity."""
    wavelet = torch.tensor(WAVELET, dtype=torch.float64)
    enlarge = torch.zeros(2 * size + EXTRA, size, dtype=torch.float64)
    reduce = torch.zeros(size, 2 * size + EXTRA, dtype=torch.float64)
    period = max(2 * (size - 1), 1)
    for pixel in range(-EXTRA // 2, size + EXTRA // 2):
        mirrored = min(pixel % period, period - pixel % period) if size > 1 else 0
        first = 2 * pixel
        taps = slice(max(first, 0), min(first + len(wavelet), len(enlarge)))
        enlarge[taps, mirrored] += wavelet[taps.start - first : taps.stop - first] * math.sqrt(2)
        if 0 <= pixel < size:
            reduce[pixel, taps] = wavelet / math.sqrt(2)
    return enlarge.to(device, dtype), reduce.to(device, dtype)


class _Sampled(torch.autograd.Function):
    """Bilinear samples of images at the places of a grid, as of `grid_sample`, which has no second derivative."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, grid: Tensor) -> Tensor:
        ctx.save_for_backward(grid)
        ctx.shape = x.shape
        return grid_sample(x, grid, align_corners=True)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        return _Spread.apply(gradient, ctx.saved_tensors[0], ctx.shape), None


class _Spread(torch.autograd.Function):
    """The transpose of `_Sampled`, which is linear in the images."""

    @staticmethod
    def forward(ctx: Any, gradient: Tensor, grid: Tensor, shape: torch.Size) -> Tensor:
        ctx.save_for_backward(grid)
        if gradient.device.type in SETTLED:
            like = gradient.new_empty(()).expand(shape)
            backward = torch.ops.aten.grid_sampler_2d_backward
            spread: Tensor = backward(gradient, like, grid, 0, 0, True, (True, False))[0]
            return spread
        total = gradient.new_zeros(shape[0], shape[2], shape[3], shape[1])
        n = torch.arange(shape[0], device=grid.device).view(-1, 1, 1)
        values = gradient.permute(0, 2, 3, 1)
        for x, x_share in _neighbours(grid[..., 0], shape[3]):
            for y, y_share in _neighbours(grid[..., 1], shape[2]):
                total.index_put_((n, y, x), values * (x_share * y_share)[..., None], accumulate=True)
        return total.permute(0, 3, 1, 2)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        return _Sampled.apply(gradient, ctx.saved_tensors[0]), None, None


def _neighbours(place: Tensor, size: int) -> list[tuple[Tensor, Tensor]]:
    """The two samples next to a place from -1 to 1 in a row, and their shares in the value there."""
    position = (place + 1) * ((size - 1) / 2)
    low = position.floor()
    share, index = position - low, low.long()
    return [(index.clamp(0, size - 1), 1 - share), ((index + 1).clamp(0, size - 1), share)]
