"""The layers of lucidrains' stylegan2-pytorch, https://github.com/lucidrains/stylegan2-pytorch, after what its program
computes. Weights are used as they are stored, unlike those of `layers`."""

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, leaky_relu, linear, normalize

from ganzoo import ConfigError
from ganzoo_stylegan2.layers import EPSILON, SLOPE, Filter

HEADS, HEAD = 8, 64
"""Heads of an attention, and the numbers of each."""
START = 0.1 * math.sqrt(512)
"""How much a layer of the published mapping network starts with: weights from N(0, 1), of 512 inputs, times 0.1."""


def initialise(module: nn.Module) -> None:
    """Normal weights that keep the variance before a ReLU (He et al. 2015)."""
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
        nn.init.kaiming_normal_(module.weight)


class Mapping(nn.Module):
    """Latents (N, size) to w (N, size), by fully connected layers with a leaky ReLU after each.

    Args:
        size: of the latent and of w.
        layers: number of layers.
        rate: the factor of their learning rate, by which weights and biases are multiplied (`lr_mlp`).

    Raises:
        ConfigError: a rate that is not above 0.
    """

    def __init__(self, size: int, layers: int, rate: float) -> None:
        super().__init__()
        if not rate > 0:
            raise ConfigError(f"rate must be above 0, not {rate}")
        start = START / rate / math.sqrt(size)
        self.weights = nn.ParameterList(start * torch.randn(size, size) for _ in range(layers))
        self.biases = nn.ParameterList(torch.zeros(size) for _ in range(layers))
        self.rate = rate

    def forward(self, z: Tensor) -> Tensor:
        w = normalize(z, dim=1)
        for weight, bias in zip(self.weights, self.biases, strict=True):
            w = leaky_relu(linear(w, weight * self.rate, bias * self.rate), SLOPE)
        return w


class Modulated(nn.Module):
    """A convolution whose input channels are scaled by 1 plus a style, which is affine in w.

    As in `layers`, the input and the output are scaled instead of the weights, which is the same function.

    Args:
        w_dim: size of w.
        inputs: channels of the input.
        outputs: channels of the output.
        size: of the kernel, 1 or 3.
        demodulate: whether the output is scaled to the variance that it would have for inputs of unit variance.
    """

    def __init__(self, w_dim: int, inputs: int, outputs: int, size: int, *, demodulate: bool = True) -> None:
        super().__init__()
        self.style = nn.Linear(w_dim, inputs)
        self.weight = nn.Parameter(torch.empty(outputs, inputs, size, size))
        nn.init.kaiming_normal_(self.weight)
        self.demodulate = demodulate

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):  # sums of squares need fp32
            style = 1 + self.style(w)
            squares = linear(style.square(), self.weight.square().sum((2, 3))) if self.demodulate else None
        x = conv2d(x * style.to(x.dtype)[:, :, None, None], self.weight, padding=self.weight.shape[-1] // 2)
        return x if squares is None else x * (squares + EPSILON).rsqrt().to(x.dtype)[:, :, None, None]


class Layer(nn.Module):
    """A modulated convolution, noise and a bias of each channel, and a leaky ReLU."""

    def __init__(self, w_dim: int, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = Modulated(w_dim, inputs, outputs, 3)
        self.noise_scale = nn.Parameter(torch.zeros(outputs))
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, x: Tensor, w: Tensor, noise: Tensor) -> Tensor:
        """`noise` holds numbers for the largest image, (1 or N, 1, H, W), whose first rows and columns are taken."""
        x = self.conv(x, w)
        added = noise[:, :, : x.shape[2], : x.shape[3]] * self.noise_scale[:, None, None] + self.bias[:, None, None]
        return leaky_relu(x + added.to(x.dtype), SLOPE, inplace=True)


class Attention(nn.Module):
    """Linear attention of all pixels (Shen et al. 2018, https://arxiv.org/abs/1812.01243) and a layer for each pixel,
    both with a LayerNorm over channels before them and added to their input: (N, C, H, W) to the same."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        inner = HEADS * HEAD
        self.norm = nn.LayerNorm(channels)
        self.query = nn.Conv2d(channels, inner, 1, bias=False)
        self.key_value = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False),
            nn.Conv2d(channels, 2 * inner, 1, bias=False),
        )
        self.out = nn.Conv2d(inner, channels, 1)
        self.second_norm = nn.LayerNorm(channels)
        self.dense = nn.Sequential(
            nn.Conv2d(channels, 2 * channels, 1), nn.LeakyReLU(SLOPE), nn.Conv2d(2 * channels, channels, 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        h = _over_channels(self.norm, x)
        query, key, value = (
            part.reshape(len(x), HEADS, HEAD, -1) for part in (self.query(h), *self.key_value(h).chunk(2, 1))
        )  # each (N, heads, numbers, pixels)
        with torch.autocast(x.device.type, enabled=False):  # sums over all pixels
            context = key.float().softmax(3) @ value.float().transpose(2, 3)
            seen = context.transpose(2, 3) @ (query.float().softmax(2) / math.sqrt(HEAD))
        x = x + self.out(nn.functional.gelu(seen.to(h.dtype).reshape(len(x), -1, *x.shape[2:])))
        y: Tensor = x + self.dense(_over_channels(self.second_norm, x))
        return y


def _over_channels(norm: nn.LayerNorm, x: Tensor) -> Tensor:
    y: Tensor = norm(x.permute(0, 2, 3, 1))
    return y.permute(0, 3, 1, 2)


class Synthesis(nn.Module):
    """One resolution of the generator: an attention at the size below, and two layers and a part of the image here.

    Args:
        w_dim: size of w.
        inputs: channels of the resolution below.
        outputs: channels of this one.
        channels: of the image.
        first: whether this is the smallest resolution, which is not enlarged to.
        last: whether this is the largest one, after which the image is not enlarged.
        attention: whether it has one.
    """

    def __init__(
        self, w_dim: int, inputs: int, outputs: int, channels: int, first: bool, last: bool, attention: bool
    ) -> None:
        super().__init__()
        self.attention = Attention(inputs) if attention else None
        self.layers = nn.ModuleList([Layer(w_dim, inputs, outputs), Layer(w_dim, outputs, outputs)])
        self.draw = Modulated(w_dim, outputs, channels, 1, demodulate=False)
        self.filter = Filter()
        self.first, self.last = first, last

    def forward(self, x: Tensor, image: Tensor | None, w: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        x = x if self.attention is None else self.attention(x)
        x = x if self.first else self.filter.bilinear(x)
        for layer in self.layers:
            x = layer(x, w, noise)
        drawn: Tensor = self.draw(x, w)
        image = drawn if image is None else image + drawn
        return x, image if self.last else self.filter.smooth(self.filter.bilinear(image), mirror=True)

    def style_weights(self) -> Tensor:
        """The weights (channels, w_dim) by which all layers take their scales from w."""
        styles = [*(layer.conv.style for layer in self.layers), self.draw.style]  # type: ignore[union-attr]
        return torch.cat([style.weight for style in styles])  # type: ignore[misc,union-attr]


class Analysis(nn.Module):
    """One resolution of the discriminator: two convolutions beside a shortcut, half the size after these unless it is
    the last, and an attention.

    Args:
        inputs: channels of the input.
        outputs: channels of the output.
        half: whether the size is halved.
        attention: whether it has one.
    """

    def __init__(self, inputs: int, outputs: int, half: bool, attention: bool) -> None:
        super().__init__()
        self.shortcut = nn.Conv2d(inputs, outputs, 1, stride=2 if half else 1)
        self.convs = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, padding=1), nn.LeakyReLU(SLOPE, inplace=True),
            nn.Conv2d(outputs, outputs, 3, padding=1), nn.LeakyReLU(SLOPE, inplace=True),
        )  # fmt: skip
        self.filter = Filter() if half else None
        self.down = nn.Conv2d(outputs, outputs, 3, stride=2, padding=1) if half else None
        self.attention = Attention(outputs) if attention else None

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.convs(x)
        if self.filter is not None and self.down is not None:
            y = self.down(self.filter.smooth(y, mirror=True))
        y = (y + self.shortcut(x)) * math.sqrt(0.5)
        return y if self.attention is None else self.attention(y)
