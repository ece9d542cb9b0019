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
"""Devices on which torch's own kernel for the gradient of samples adds in a settled order, so that bits agree, and on
which nothing waits when a result is read."""
ROUNDING = 1e-6
"""How far beyond the end of an enlarged row its last place may come to lie in float32."""
EXTRA = len(WAVELET) - 2
"""The length of an enlarged row beyond twice the number of pixels."""


LEFT = ("mirror", "first", "saturation", "shift", "second", "inversion")
RIGHT = ("turn", "stretch", "hue", "scale", "fraction", "contrast")
OPERATIONS = (*LEFT, *RIGHT, "brightness")
"""The operations, in an order in which `_products` multiplies the matrices of many by those of as many others."""


def draw(rng: Rng, shape: torch.Size) -> Tensor:
    """The numbers (13, N, 17) that decide what happens to N images of this shape (N, C, H, W).

    For each of `OPERATIONS` and each image: the probability above which the operation is applied to the image, and its
    matrix (4, 4). That of a geometric operation takes a place (x, y, 0, 1) in the result to one in the image, in pixels
    from its centre; that of another takes colours (red, green, blue, 1). They are computed on the host, where that
    costs less than a GPU's many small kernels.
    """
    n, _, height, width = shape
    above, rotations, uniform, normal = rng.rand(n, 11), rng.rand(n, 2), rng.rand(n, 8), rng.randn(n, 7)
    sides = torch.tensor([float(width), float(height)])
    scale, stretch = torch.exp2(-normal[:, :2] * SCALE).unbind(1)
    matrices = {
        "mirror": _scaling(1 - 2 * (uniform[:, 0] * 2).floor(), torch.ones(n)),
        "turn": _rotation((uniform[:, 1] * 4).floor() * (math.pi / 2)),
        "shift": _translation(((uniform[:, 2:4] * 2 - 1) * SHIFT * sides).round()),
        "scale": _scaling(scale, scale),
        "first": _rotation((uniform[:, 4] * 2 - 1) * math.pi),
        "stretch": _scaling(stretch, 1 / stretch),
        "second": _rotation((uniform[:, 5] * 2 - 1) * math.pi),
        "fraction": _translation(normal[:, 2:4] * SHIFT * sides),
        **_colours(uniform[:, 6:], normal[:, 4:]),
    }
    # Two rotations, at least one of them with probability p: r < 1 - sqrt(1 - p).
    first, second = (1 - (1 - rotations) ** 2).unbind(1)
    least = {"first": first, "second": second}
    least |= dict(zip((name for name in OPERATIONS if name not in least), above.unbind(1), strict=True))
    return torch.stack([torch.cat([least[name][:, None], matrices[name].flatten(1)], 1) for name in OPERATIONS])


def pipeline(x: Tensor, p: Tensor, numbers: Tensor) -> Tensor:
    """Augment each image independently of the others.

    Args:
        x: images (N, C, H, W) of 1 or 3 channels, in [-1, 1].
        p: the probability of each operation, a scalar; at 0 the images stay as they are, up to rounding.
        numbers: what `draw` gives, on the device of the images.

    Returns:
        Images of the same shape, in float32 at least, which may leave [-1, 1].
    """
    channels = x.shape[1]
    with torch.autocast(x.device.type, enabled=False):
        x = x.to(torch.promote_types(x.dtype, torch.float32))
        geometry, colour = _products(p, numbers.to(x.dtype))
        if x.device.type in SETTLED:  # most images stay in place while p is low
            moved = (geometry != _unit(x.device, x.dtype)).flatten(1).any(1).nonzero().squeeze(1)
            if len(moved):
                x = x.index_copy(0, moved, _transform(x[moved], geometry[moved]))
        else:
            x = _transform(x, geometry)
        shift, colour = colour[:, :3, 3:], colour[:, :3, :3]
        if channels == 1:  # the mean of the three channels of a grey picture in colour
            shift, colour = shift.mean(1, keepdim=True), colour.sum((1, 2), keepdim=True) / 3
        return torch.baddbmm(shift, colour, x.flatten(2)).view_as(x)


def _products(p: Tensor, numbers: Tensor) -> tuple[Tensor, Tensor]:
    """For each image the matrix (N, 4, 4) of its geometry and that of its colours, of the numbers of `draw`."""
    matrices = numbers[..., 1:].view(*numbers.shape[:2], 4, 4)
    chosen = torch.where(numbers[..., :1, None] < p, matrices, _unit(p.device, matrices.dtype))
    left, right, (brightness,) = torch.split(chosen, [len(LEFT), len(RIGHT), 1])
    # mirror turn, first stretch, saturation hue; shift scale, second fraction, inversion contrast
    left, right = (left @ right).chunk(2)
    before, after, colour = left @ right
    return before @ after, colour @ brightness


@lru_cache(maxsize=4)
def _unit(device: torch.device, dtype: torch.dtype) -> Tensor:
    return torch.eye(4, dtype=dtype).to(device)


def _matrices(n: int) -> Tensor:
    """n times the identity (4, 4)."""
    return torch.eye(4).repeat(n, 1, 1)


def _scaling(x: Tensor, y: Tensor) -> Tensor:
    matrices = _matrices(len(x))
    matrices[:, 0, 0], matrices[:, 1, 1] = x, y
    return matrices


def _rotation(angle: Tensor) -> Tensor:
    matrices = _matrices(len(angle))
    matrices[:, 0, 0] = matrices[:, 1, 1] = angle.cos()
    matrices[:, 1, 0] = angle.sin()
    matrices[:, 0, 1] = -matrices[:, 1, 0]
    return matrices


def _translation(by: Tensor) -> Tensor:
    matrices = _matrices(len(by))
    matrices[:, :2, 3] = -by
    return matrices


def _colours(uniform: Tensor, normal: Tensor) -> dict[str, Tensor]:
    """The matrices of the colour operations, of two uniform and three normal numbers for each image."""
    unit, constant, grey, white, cross = _axes()
    deviations = normal * torch.tensor([BRIGHTNESS, CONTRAST, SATURATION])
    brightness, contrast, saturation = deviations[..., None, None].unbind(1)
    inverted, angle = uniform[..., None, None].unbind(1)
    angle = (angle * 2 - 1) * math.pi
    return {
        "brightness": unit + white * brightness,
        "contrast": constant + (unit - constant) * torch.exp2(contrast),
        "inversion": unit - 2 * grey * (inverted * 2).floor(),
        "hue": unit + cross * angle.sin() + (unit - constant - grey) * (angle.cos() - 1),
        "saturation": constant + grey + (unit - constant - grey) * torch.exp2(saturation),
    }


@lru_cache(maxsize=1)
def _axes() -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Matrices (4, 4) of the colours (red, green, blue, 1): the identity, the projections onto the constant and onto
    the grey axis, the addition of white, and the cross product with the unit vector of the grey axis."""
    constant, grey, white, cross = (torch.zeros(4, 4) for _ in range(4))
    constant[3, 3] = 1
    grey[:3, :3] = 1 / 3
    white[:3, 3] = 1
    for i in range(3):
        cross[i, (i + 2) % 3], cross[i, (i + 1) % 3] = 1 / math.sqrt(3), -1 / math.sqrt(3)
    return torch.eye(4), constant, grey, white, cross


def _transform(x: Tensor, geometry: Tensor) -> Tensor:
    """Resample images at twice their resolution, between the filters of the wavelet, with mirrored borders."""
    height, width = x.shape[2:]
    enlarge_rows, reduce_rows = _resampling(height, x.device, x.dtype)
    enlarge_columns, reduce_columns = _resampling(width, x.device, x.dtype)
    large = enlarge_rows @ (x @ enlarge_columns.T)
    moved: Tensor = _Sampled.apply(large, _grid(geometry, height, width))
    return reduce_rows @ moved @ reduce_columns.T


def _grid(geometry: Tensor, height: int, width: int) -> Tensor:
    """For each image where the samples of the enlarged result come from: places (N, rows, columns, 2) in enlarged rows
    and columns, from -1 to 1 as `grid_sample` counts. What lies beyond their ends is mirrored at the centres of the
    outermost pixels."""
    right, down, reach, start, period, first = _places(height, width, geometry.device, geometry.dtype)
    scaled = geometry[:, :2] / reach
    # Each coordinate in a map of its own, since kernels for the CPU are slow along dimensions of two numbers.
    along = torch.addcmul(scaled[..., 3:] + start, scaled[..., 1:2], down)
    place = (scaled[..., :1] * right)[:, :, None] + along[..., None]
    # A row that is mirrored at both ends repeats itself: a place is as far from the first pixel as from the nearest of
    # its repetitions.
    mirrored = (place / period[..., None]).sub_((first / period)[..., None])
    mirrored = mirrored.sub_(mirrored.round()).abs_().mul_(period[..., None]).add_(first[..., None])
    return torch.where(place.abs() <= 1 + ROUNDING, place, mirrored).permute(0, 2, 3, 1)


@lru_cache(maxsize=16)
def _places(height: int, width: int, device: torch.device, dtype: torch.dtype) -> tuple[Tensor, ...]:
    """The places of the samples in the rows and in the columns of an enlarged image, in pixels from its centre. Then
    numbers (2, 1) for both axes: half the length of an enlarged row in pixels; and in units of that, from the middle of
    the row, the centre of the image, the period of a row that is mirrored at both ends, and the first pixel."""
    right, down = ((torch.arange(2 * size + EXTRA) - CENTRE - size + 1) / 2 for size in (width, height))
    last = torch.tensor([[width], [height]]) - 1
    reach = (2 * last + EXTRA + 1) / 4
    first = (CENTRE / 2 - reach) / reach
    numbers = right, down, reach, first + last / 2 / reach, (2 * last).clamp_min(1) / reach, first
    return tuple(tensor.to(dtype).to(device) for tensor in numbers)


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
        x, x_share = _neighbours(grid[..., 0], shape[3])
        y, y_share = _neighbours(grid[..., 1], shape[2])
        values = gradient.permute(0, 2, 3, 1) * (x_share * y_share[:, None])[..., None]
        total.index_put_((n, y[:, None], x), values, accumulate=True)
        return total.permute(0, 3, 1, 2)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        return _Sampled.apply(gradient, ctx.saved_tensors[0]), None, None


def _neighbours(place: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """The indices (2, ...) of the two samples next to places from -1 to 1 in a row, and their shares in the value
    there."""
    position = (place + 1) * ((size - 1) / 2)
    low = position.floor()
    share = position - low
    return torch.stack([low, low + 1]).clamp(0, size - 1).long(), torch.stack([1 - share, share])
