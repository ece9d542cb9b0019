"""The networks of Huang et al. 2024, https://arxiv.org/abs/2501.05441, after the paper and the authors' description of
them: residual blocks without normalisation, whose initialisation keeps the scale of activations and updates."""

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, conv_transpose2d

from ganzoo import ConfigError
from ganzoo_dcgan.model import ClassEmbedding, Palette, stages

SLOPE = 0.2
GAIN = math.sqrt(2 / (1 + SLOPE**2))
"""Keeps the variance constant through a leaky ReLU (He et al. 2015)."""
FILTER = (1.0, 3.0, 3.0, 1.0)
"""Taps of the low-pass filter of all resampling, along each axis: linear interpolation by a factor of 2."""


def _conv(
    inputs: int, outputs: int, size: int = 1, groups: int = 1, gain: float = 1.0, bias: bool = False
) -> nn.Conv2d:
    layer = nn.Conv2d(inputs, outputs, size, padding=size // 2, groups=groups, bias=bias)
    fan_in = inputs // groups * size**2
    nn.init.normal_(layer.weight, 0.0, gain / math.sqrt(fan_in))
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


class _Block(nn.Module):
    """x + f(x), where f is an inverted bottleneck: a 1x1 convolution to more channels, a grouped 3x3 convolution, and a
    1x1 convolution back, whose weights start at zero.

    `depth` is the number of such blocks in the network. The first two of a block's three layers are scaled by
    depth^(-1/4), so that the first updates change the whole network about as much as they would change one layer
    (Fixup, Zhang et al. 2019, https://arxiv.org/abs/1901.09321).
    """

    def __init__(self, channels: int, expansion: int, group_size: int, depth: int) -> None:
        super().__init__()
        inner = channels * expansion
        if inner % group_size:
            raise ConfigError(
                f"{inner} channels cannot be split into groups of {group_size}: choose another width or group_size"
            )
        scale = GAIN * depth**-0.25
        self.layers = nn.Sequential(
            _conv(channels, inner, gain=scale, bias=True),
            nn.LeakyReLU(SLOPE, inplace=True),
            _conv(inner, inner, 3, inner // group_size, gain=scale, bias=True),
            nn.LeakyReLU(SLOPE, inplace=True),
            _conv(inner, channels, gain=0.0),
        )

    def forward(self, x: Tensor) -> Tensor:
        residual: Tensor = self.layers(x)
        return x + residual


class _Basis(nn.Module):
    """(N, C, 1, 1) to (N, C, side, side): each number scales the learned pattern of its channel."""

    def __init__(self, channels: int, side: int) -> None:
        super().__init__()
        self.patterns = nn.Parameter(torch.randn(channels, side, side))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.patterns


class _Resample(nn.Module):
    """The 1x1 convolution that changes the number of channels, if it changes, and the kernel of the filter, of sum 1.

    Depthwise convolutions apply the filter because they have a deterministic backward on CUDA, which bilinear
    `interpolate` lacks.
    """

    kernel: Tensor

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = _conv(inputs, outputs) if inputs != outputs else nn.Identity()
        taps = torch.tensor(FILTER) / sum(FILTER)
        self.register_buffer("kernel", (taps[:, None] * taps)[None, None], persistent=False)

    def depthwise(self, channels: int) -> Tensor:
        return self.kernel.expand(channels, -1, -1, -1)


class _Up(_Resample):
    """(N, C, H, W) to (N, outputs, 2H, 2W). Borders are replicated, which makes it bilinear interpolation; the authors
    pad with zeros instead."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        # Replication by slices: replicating pads have no deterministic backward on CUDA.
        x = torch.cat([x[:, :, :1], x, x[:, :, -1:]], 2)
        x = torch.cat([x[..., :1], x, x[..., -1:]], 3)
        channels = x.shape[1]
        return conv_transpose2d(x, 4 * self.depthwise(channels), stride=2, padding=3, groups=channels)


class _Down(_Resample):
    """(N, C, H, W) to (N, outputs, H/2, W/2). Borders are padded with zeros, as by the authors."""

    def forward(self, x: Tensor) -> Tensor:
        channels = x.shape[1]
        smaller: Tensor = self.conv(conv2d(x, self.depthwise(channels), stride=2, padding=1, groups=channels))
        return smaller


def _plan(image_size: int, patch: int, width: int, growth: int, widest: int) -> tuple[int, list[int]]:
    """The smallest resolution, and the number of channels at each one from the smallest to the largest."""
    base, k = stages(image_size)
    k -= patch.bit_length() - 1
    if k < 1 or patch < 1 or patch & (patch - 1):
        raise ConfigError(
            f"patch must be 1, 2, 4, ... and leave at least two resolutions for images of {image_size} px, not {patch}"
        )
    return base, [min(width * growth**i, widest) for i in reversed(range(k + 1))]


class Generator(nn.Module):
    """Latents (N, z_dim) to images (N, channels, image_size, image_size) in [-1, 1].

    The tanh at the end is ganzoo's: the authors' generator ends in a 1x1 convolution and leaves its output unbounded.

    Args:
        z_dim: size of the latent.
        image_size: 4, 5, 6 or 7 times 2^k pixels, k >= 1.
        channels: of the images.
        width: channels at the largest resolution.
        growth: factor by which the number of channels grows at each halving of the resolution, up to `widest`.
        widest: the largest number of channels.
        patch: side in pixels of the square that one position of the largest feature map stands for: 1 as published; 2
            makes the network about four times cheaper.
        blocks: residual blocks at each resolution.
        expansion: ratio of a block's inner channels to its outer ones.
        group_size: channels in each group of the 3x3 convolutions.
        hidden: units of a fully connected layer between the latent and the first feature map; 0: each channel of that
            map is a learned pattern times one number, as published.
        palette: number of colours, linear in the latent, of which each pixel is a mixture
            (`ganzoo_dcgan.model.Palette`); 0: the last convolution gives the colours themselves, as published.
        num_classes: number of classes of a class-conditional generator, which is also called with labels (N,): an
            embedding of the class is appended to the latent.

    Raises:
        ConfigError: a size that is not of that form, or channels that cannot be split into such groups.
    """

    def __init__(
        self,
        z_dim: int = 64,
        image_size: int = 64,
        channels: int = 3,
        width: int = 96,
        growth: int = 2,
        widest: int = 768,
        patch: int = 1,
        blocks: int = 2,
        expansion: int = 2,
        group_size: int = 16,
        hidden: int = 0,
        palette: int = 0,
        num_classes: int | None = None,
    ) -> None:
        super().__init__()
        base, widths = _plan(image_size, patch, width, growth, widest)
        self.embed = None
        if num_classes is not None:
            self.embed = ClassEmbedding(num_classes, z_dim)
            nn.init.normal_(self.embed.weight, 0.0, 1 / math.sqrt(num_classes))  # a linear layer of one-hot classes
        inputs = z_dim if num_classes is None else 2 * z_dim
        layers: list[nn.Module] = [nn.Unflatten(1, (-1, 1, 1))]
        if hidden:
            layers += [_conv(inputs, hidden, gain=GAIN, bias=True), nn.LeakyReLU(SLOPE, inplace=True)]
            layers += [_conv(hidden, widths[0] * base**2), nn.Flatten(), nn.Unflatten(1, (widths[0], base, base))]
        else:
            layers += [_conv(inputs, widths[0]), _Basis(widths[0], base)]
        depth = blocks * len(widths)
        for i, channels_here in enumerate(widths):
            layers += [_Up(widths[i - 1], channels_here)] if i else []
            layers += [_Block(channels_here, expansion, group_size, depth) for _ in range(blocks)]
        end = _conv(widths[-1], (palette or channels) * patch**2)
        self.layers = nn.Sequential(*layers, end, nn.PixelShuffle(patch))
        self.palette = None
        if palette:
            nn.init.normal_(end.weight, 0.0, 0.02)
            self.palette = Palette(inputs, palette, channels)

    def forward(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        if self.embed is not None:
            z = torch.cat([z, self.embed(labels)], 1)
        images: Tensor = self.layers(z)
        return images.tanh() if self.palette is None else self.palette(images, z)


class Discriminator(nn.Module):
    """Images (N, channels, image_size, image_size) to logits (N,).

    Args:
        image_size: 4, 5, 6 or 7 times 2^k pixels, k >= 1.
        channels: of the images.
        width: channels at the largest resolution.
        growth: factor by which the number of channels grows at each halving of the resolution, up to `widest`.
        widest: the largest number of channels.
        patch: side in pixels of the square that one position of the largest feature map stands for: 1 as published; 2
            makes the network about four times cheaper.
        blocks: residual blocks at each resolution.
        expansion: ratio of a block's inner channels to its outer ones.
        group_size: channels in each group of the 3x3 convolutions.
        hidden: units of a fully connected layer after the last feature map; 0: one number a channel, as published.
        num_classes: number of classes of a class-conditional discriminator, which is also called with labels (N,): the
            inner product of the features with an embedding of the class is added to the logit (Miyato & Koyama 2018,
            https://arxiv.org/abs/1802.05637).

    Raises:
        ConfigError: a size that is not of that form, or channels that cannot be split into such groups.
    """

    independent = True

    def __init__(
        self,
        image_size: int = 64,
        channels: int = 3,
        width: int = 96,
        growth: int = 2,
        widest: int = 768,
        patch: int = 1,
        blocks: int = 2,
        expansion: int = 2,
        group_size: int = 16,
        hidden: int = 0,
        num_classes: int | None = None,
    ) -> None:
        super().__init__()
        base, widths = _plan(image_size, patch, width, growth, widest)
        widths.reverse()
        depth = blocks * len(widths)
        layers: list[nn.Module] = [nn.PixelUnshuffle(patch), _conv(channels * patch**2, widths[0])]
        for i, channels_here in enumerate(widths):
            layers += [_Down(widths[i - 1], channels_here)] if i else []
            layers += [_Block(channels_here, expansion, group_size, depth) for _ in range(blocks)]
        last = hidden or widths[-1]
        pool = nn.Conv2d(widths[-1], last, base, groups=1 if hidden else last, bias=bool(hidden))
        fan_in = base**2 * (widths[-1] if hidden else 1)
        nn.init.normal_(pool.weight, 0.0, (GAIN if hidden else 1) / math.sqrt(fan_in))
        layers += [pool, nn.LeakyReLU(SLOPE, inplace=True)] if hidden else [pool]
        self.layers = nn.Sequential(*layers, nn.Flatten())
        self.score = nn.Linear(last, 1, bias=False)
        self.embed = None if num_classes is None else ClassEmbedding(num_classes, last)
        for head in (self.score, self.embed):
            if head is not None:
                nn.init.normal_(head.weight, 0.0, 1 / math.sqrt(last))

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        features = self.layers(images)
        logits: Tensor = self.score(features).squeeze(1)
        if self.embed is not None:
            logits = logits + (features * self.embed(labels)).sum(1)
        return logits
