"""The layers of StyleGAN2 (Karras et al. 2020, https://arxiv.org/abs/1912.04958) in plain torch operations.

Weights are stored with unit variance and scaled where they are used (equalised learning rate, Karras et al. 2018,
https://arxiv.org/abs/1710.10196, section 4.1).
"""

import math
from itertools import pairwise
from typing import Any, Literal, NamedTuple, get_args

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, conv_transpose2d, interpolate, leaky_relu, linear, one_hot

from ganzoo import ConfigError, uniform_of
from ganzoo_dcgan.model import stages

SLOPE = 0.2
GAIN = math.sqrt(2)
"""Restores the variance that a leaky ReLU takes away."""
TAPS = (1.0, 3.0, 3.0, 1.0)
"""The low-pass filter of all resampling, along each axis."""
REST = (1.0, 2.0, 1.0)
"""What is left of it after each pixel was repeated: [1, 1] * [1, 2, 1] = [1, 3, 3, 1]."""
EPSILON = 1e-8
Noise = Literal["random", "const", "none"]
NOISES: tuple[Noise, ...] = get_args(Noise)


def widths(image_size: int, channel_base: int, channel_max: int) -> dict[int, int]:
    """The number of channels at each resolution, from the smallest to the image's.

    Raises:
        ConfigError: an image size that is not 4, 5, 6 or 7 times 2^k, k >= 1.
    """
    base, k = stages(image_size)
    return {base << i: max(1, min(channel_base // (base << i), channel_max)) for i in range(k + 1)}


def activate(x: Tensor, limit: float | None = None) -> Tensor:
    """The leaky ReLU, in place, of what was scaled by `GAIN` already, cut off at +-limit.

    Scaling the weights and the bias before it is the same as scaling its result, and cheaper.
    """
    x = leaky_relu(x, SLOPE, inplace=True)
    return x if limit is None else x.clamp(-limit, limit)


class Dense(nn.Module):
    """A fully connected layer: (N, inputs) to (N, outputs).

    Args:
        inputs: number of inputs.
        outputs: number of outputs.
        active: whether a leaky ReLU follows.
        start: the initial value of the bias.
        rate: the factor of the layer's learning rate (`lr_multiplier` in the published code).
    """

    def __init__(
        self, inputs: int, outputs: int, *, active: bool = False, start: float = 0.0, rate: float = 1.0
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs) / rate)
        self.bias = nn.Parameter(torch.full((outputs,), float(start)))
        gain = GAIN if active else 1.0
        self.scale, self.rate, self.active = gain * rate / math.sqrt(inputs), gain * rate, active

    def forward(self, x: Tensor) -> Tensor:
        x = linear(x * self.scale, self.weight, self.bias * self.rate)
        return activate(x) if self.active else x


class Filter(nn.Module):
    """The low-pass filter, by which images and feature maps are enlarged and reduced.

    It is a depthwise convolution with its own derivative, since torch's is slow in bf16 if there is a stride, and its
    second derivative convolves channel by channel.
    """

    kernel: Tensor
    rest: Tensor

    def __init__(self) -> None:
        super().__init__()
        for name, taps in (("kernel", TAPS), ("rest", REST)):
            outer = torch.tensor([[a * b / sum(taps) ** 2 for b in taps] for a in taps])
            self.register_buffer(name, outer[None, None], persistent=False)

    def blur(self, x: Tensor, padding: int, gain: float = 1.0) -> Tensor:
        """(N, C, H, W) to (N, C, H + 2 padding - 3, W + 2 padding - 3)."""
        return _resample(x, self, Way("blur", gain, padding))

    def enlarge(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C, 2H, 2W)."""
        return _resample(x, self, Way("enlarge"))

    def reduce(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C, H/2, W/2)."""
        return _resample(x, self, Way("reduce"))

    def smooth(self, x: Tensor, *, mirror: bool) -> Tensor:
        """The filter [1, 2, 1] along each axis. Beyond the border the last pixels are mirrored, or else repeated.

        torch's own padding of these kinds has no deterministic backward on CUDA.
        """
        for dim in (2, 3):
            first, last = x.narrow(dim, int(mirror), 1), x.narrow(dim, x.shape[dim] - 1 - int(mirror), 1)
            x = torch.cat([first, x, last], dim)
        return conv2d(x, self.rest.to(x.dtype).expand(x.shape[1], -1, -1, -1), groups=x.shape[1])

    def bilinear(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C, 2H, 2W), as bilinear interpolation does it."""
        return self.smooth(interpolate(x, scale_factor=2.0), mirror=False)


class Way(NamedTuple):
    """One of the filter's methods, a factor, and the padding."""

    kind: str
    gain: float = 1.0
    padding: int = 1

    def adjoint(self) -> "Way":
        """The derivative, which is another way, since each is linear and the filter symmetric."""
        if self.kind == "blur":
            return Way("blur", self.gain, 3 - self.padding)
        return Way("reduce", 4 * self.gain) if self.kind == "enlarge" else Way("enlarge", self.gain / 4)


class _Resample(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, filter: Filter, way: Way) -> Tensor:
        ctx.filter, ctx.way = filter, way
        kernel = filter.kernel
        if way.kind == "enlarge":
            x, kernel = interpolate(x, scale_factor=2.0), filter.rest
        kernel = (kernel * way.gain).to(x.dtype).expand(x.shape[1], -1, -1, -1)
        stride = 2 if way.kind == "reduce" else 1
        return conv2d(x, kernel, stride=stride, padding=way.padding, groups=x.shape[1])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        return _resample(gradient, ctx.filter, ctx.way.adjoint()), None, None


def _resample(x: Tensor, filter: Filter, way: Way) -> Tensor:
    y: Tensor = _Resample.apply(x, filter, way)
    return y


class Conv(nn.Module):
    """A convolution: (N, inputs, H, W) to (N, outputs, H, W), or twice or half of that.

    Args:
        inputs: channels of the input.
        outputs: channels of the output.
        size: of the kernel, 1 or 3.
        resample: "up", "down" or None.
        active: whether a bias and a leaky ReLU follow.
        clamp: the largest absolute value after these; None: any.
    """

    def __init__(
        self, inputs: int, outputs: int, size: int, *, resample: str | None = None, active: bool = True,
        clamp: float | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs, size, size))
        self.bias = nn.Parameter(torch.zeros(outputs)) if active else None
        self.scale, self.clamp, self.resample = 1 / math.sqrt(inputs * size**2), clamp, resample
        self.filter = Filter() if resample else None

    def forward(self, x: Tensor, gain: float = 1.0) -> Tensor:
        """The result times `gain`."""
        if self.bias is None:
            return convolve(x, self.weight * (self.scale * gain), None, self.resample, self.filter)
        weight, bias = self.weight * (self.scale * GAIN * gain), self.bias * (GAIN * gain)
        x = convolve(x, weight, bias, self.resample, self.filter)
        return activate(x, None if self.clamp is None else self.clamp * gain)


def convolve(x: Tensor, weight: Tensor, bias: Tensor | None, resample: str | None, filter: Filter | None) -> Tensor:
    """Convolve with (outputs, inputs, size, size), after the reduction or before the enlargement by the filter.

    Each is done where it touches the fewest pixels.
    """
    size = weight.shape[-1]
    if filter is None:
        return conv2d(x, weight, bias, padding=size // 2)
    if resample == "down":
        if size == 1:
            return conv2d(filter.reduce(x), weight, bias)
        return conv2d(filter.blur(x, padding=2), weight, bias, stride=2)
    if size == 1:
        x = filter.enlarge(conv2d(x, weight))
    else:
        x = filter.blur(conv_transpose2d(x, weight.transpose(0, 1), stride=2), padding=1, gain=4.0)
    return x if bias is None else x + bias.to(x.dtype)[:, None, None]


class Modulated(nn.Module):
    """A convolution whose input channels are scaled by a style, which is affine in w (section 2.2).

    Scaling the input, and the output for the demodulation, is the same as scaling the weights for each item, and lets
    all items share one convolution.

    Args:
        w_dim: size of w.
        inputs: channels of the input.
        outputs: channels of the output.
        size: of the kernel, 1 or 3.
        resample: "up" or None.
        demodulate: whether the output is scaled to the variance that it would have for inputs of unit variance.
    """

    def __init__(
        self, w_dim: int, inputs: int, outputs: int, size: int, *, resample: str | None = None, demodulate: bool = True
    ) -> None:
        super().__init__()
        self.affine = Dense(w_dim, inputs, start=1.0)
        self.weight = nn.Parameter(torch.randn(outputs, inputs, size, size))
        self.scale = 1 / math.sqrt(inputs * size**2)
        self.demodulate, self.resample = demodulate, resample
        self.filter = Filter() if resample else None

    def forward(self, x: Tensor, w: Tensor, bias: Tensor) -> Tensor:
        """The convolution of x by the style of w, and the bias. Demodulated, both are scaled for `activate`."""
        with torch.autocast(x.device.type, enabled=False):  # sums of squares need fp32
            style = self.affine(w)
            if self.demodulate:
                squares = linear(style.square(), self.weight.square().sum((2, 3)))
                factor = GAIN * (squares + EPSILON).rsqrt()
        x = x * style.to(x.dtype)[:, :, None, None]
        if not self.demodulate:
            return convolve(x, self.weight * self.scale, bias, self.resample, self.filter)
        x = convolve(x, self.weight, None, self.resample, self.filter)
        factor, bias = factor.to(x.dtype)[:, :, None, None], (GAIN * bias).to(x.dtype)[:, None, None]
        return torch.addcmul(bias, x, factor)


def normalise(x: Tensor) -> Tensor:
    """Rows of mean square 1."""
    return x * (x.square().mean(1, keepdim=True) + EPSILON).rsqrt()


class MappingNetwork(nn.Module):
    """Latents (N, z_dim) and classes to w (N, w_dim).

    Args:
        z_dim: size of the latent; 0: there is none.
        w_dim: size of w.
        layers: number of fully connected layers.
        num_classes: number of classes, or None.
    """

    def __init__(self, z_dim: int, w_dim: int, layers: int, num_classes: int | None) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.embed = None if num_classes is None else Dense(num_classes, w_dim)
        inputs = z_dim + (0 if num_classes is None else w_dim)
        sizes = [inputs, *[w_dim] * layers]
        self.layers = nn.Sequential(*(Dense(a, b, active=True, rate=0.01) for a, b in pairwise(sizes)))

    def forward(self, z: Tensor | None, labels: Tensor | None = None) -> Tensor:
        parts = [] if z is None else [normalise(z)]
        if self.embed is not None and self.num_classes is not None:
            if labels is None:
                raise ConfigError("these networks are conditional: call them with labels")
            parts.append(normalise(self.embed(one_hot(labels, self.num_classes).to(self.embed.weight.dtype))))
        w: Tensor = self.layers(torch.cat(parts, 1))
        return w


def noise_like(seeds: Tensor, layer: int, size: int) -> Tensor:
    """Numbers from N(0, 1) that depend on the seed of their item and on the layer alone: (N, 1, size, size).

    So noise is the same however a batch is split, and on every device. Pairs of uniform numbers become normal ones (Box
    & Muller 1958).

    Args:
        seeds: (N,) int64, from 0 to 2^32 - 1.
        layer: the number of the layer.
        size: height and width.
    """
    half = (size * size + 1) // 2
    uniform = uniform_of(seeds, layer, 2 * half)
    radius, angle = (-2 * uniform[:, :half].log()).sqrt(), 2 * math.pi * uniform[:, half:]
    normal = torch.cat([radius * angle.cos(), radius * angle.sin()], 1)
    return normal[:, : size * size].reshape(-1, 1, size, size)


def spread(x: Tensor, group: int, strided: bool) -> Tensor:
    """Append a map with the mean standard deviation over groups of items (Karras et al. 2018, section 3).

    Args:
        x: (N, C, H, W).
        group: items in a group; the largest divisor of N up to this is taken.
        strided: whether the items of a group lie N / group apart, as in the published code, instead of side by side.

    Returns:
        (N, C + 1, H, W).
    """
    n, _, height, width = x.shape
    size = max(k for k in range(1, min(group, n) + 1) if n % k == 0)
    dim = 0 if strided else 1
    groups = x.float().reshape(*((size, n // size) if strided else (n // size, size)), -1)
    variance = (groups - groups.mean(dim, keepdim=True)).square().mean(dim)  # faster than var, and so is its gradient
    deviation = (variance + EPSILON).sqrt().mean(1)
    per_item = deviation.repeat(size) if strided else deviation.repeat_interleave(size)
    return torch.cat([x, per_item.to(x.dtype)[:, None, None, None].expand(-1, 1, height, width)], 1)


def noise_of(noise: Noise | None, *, training: bool) -> Noise:
    """The noise that is chosen, or the default.

    Raises:
        ConfigError: there is no such noise.
    """
    noise = noise or ("random" if training else "const")
    if noise not in NOISES:
        raise ConfigError(f"noise must be one of {', '.join(NOISES)}, not {noise!r}")
    return noise
