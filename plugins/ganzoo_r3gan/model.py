"""The networks of Huang et al. 2024, from the paper's description: residual blocks without normalisation, kept in scale
by their initialisation."""

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from ganzoo import ConfigError
from ganzoo_dcgan.model import stages

SLOPE = 0.2
GAIN = math.sqrt(2 / (1 + SLOPE**2))
"""Keeps the variance through a leaky ReLU (He et al. 2015)."""


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
    """x + f(x), f an inverted bottleneck: 1x1 to more channels, 3x3 in groups, 1x1 back, which starts at zero.

    `depth` is the number of such blocks in the network: with three layers each, the first two are scaled by
    depth^(-1/4), so that the whole changes by as much as one layer would at the first updates (Fixup, Zhang et al.
    2019, https://arxiv.org/abs/1901.09321).
    """

    def __init__(self, channels: int, expansion: int, group_size: int, depth: int) -> None:
        super().__init__()
        inner = channels * expansion
        if inner % group_size:
            raise ConfigError(f"groups of {group_size} channels do not divide {inner}: choose another width")
        scale = GAIN * depth**-0.25
        self.layers = nn.Sequential(
            _conv(channels, inner, gain=scale, bias=True),
            nn.LeakyReLU(SLOPE, inplace=True),
            _conv(inner, inner, 3, inner // group_size, gain=scale, bias=True),
            nn.LeakyReLU(SLOPE, inplace=True),
            _conv(inner, channels, gain=0.0),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x)


class _Basis(nn.Module):
    """(N, C, 1, 1) times a learned pattern for each channel: (N, C, side, side)."""

    def __init__(self, channels: int, side: int) -> None:
        super().__init__()
        self.patterns = nn.Parameter(torch.randn(channels, side, side))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.patterns


class _Resize(nn.Module):
    """Twice or half the size, bilinear, and another number of channels: the convolution runs at the smaller size."""

    def __init__(self, inputs: int, outputs: int, factor: float) -> None:
        super().__init__()
        self.factor = factor
        self.conv = _conv(inputs, outputs) if inputs != outputs else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        if self.factor > 1:
            return interpolate(self.conv(x), scale_factor=2, mode="bilinear", align_corners=False)
        return self.conv(nn.functional.avg_pool2d(x, 2))


def _plan(image_size: int, patch: int, width: int, growth: int, widest: int) -> tuple[int, list[int]]:
    """The smallest resolution, and the channels from there to the largest."""
    base, k = stages(image_size)
    k -= patch.bit_length() - 1
    if k < 1 or patch < 1 or patch & (patch - 1):
        raise ConfigError(f"patch must be 1, 2, 4, ... and leave two resolutions of {image_size} px, not {patch}")
    return base, [min(width * growth**i, widest) for i in reversed(range(k + 1))]


class Generator(nn.Module):
    """Latents (N, z_dim) to images (N, channels, image_size, image_size) in [-1, 1].

    Args:
        z_dim: size of the latent.
        image_size: 4*2^k or 7*2^k pixels, k >= 1.
        channels: of the images.
        width: channels at the largest resolution.
        growth: how many times more channels each smaller resolution has, up to `widest`.
        widest: the most channels.
        patch: pixels a side that are one position of the largest resolution: 1 as published; 2 costs a quarter.
        blocks: residual blocks a resolution.
        expansion: how many times more channels a block has inside.
        group_size: channels a group of the 3x3 convolutions.
        hidden: units of a fully connected layer between latent and first map; 0: each channel of that map is a learned
            pattern times one number, as published.
        num_classes: of a class-conditional generator, which is called with labels (N,) too: an embedding of the class
            is put beside the latent.

    Raises:
        ConfigError: a size that is not of that form, or groups that do not divide the channels.
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
        num_classes: int | None = None,
    ) -> None:
        super().__init__()
        base, widths = _plan(image_size, patch, width, growth, widest)
        self.embed = None if num_classes is None else nn.Embedding(num_classes, z_dim)
        inputs = z_dim if num_classes is None else 2 * z_dim
        layers: list[nn.Module] = [nn.Unflatten(1, (-1, 1, 1))]
        if hidden:
            layers += [_conv(inputs, hidden, gain=GAIN, bias=True), nn.LeakyReLU(SLOPE, inplace=True)]
            layers += [_conv(hidden, widths[0] * base**2), nn.Flatten(), nn.Unflatten(1, (widths[0], base, base))]
        else:
            layers += [_conv(inputs, widths[0]), _Basis(widths[0], base)]
        depth = blocks * len(widths)
        for i, channels_here in enumerate(widths):
            layers += [_Resize(widths[i - 1], channels_here, 2)] if i else []
            layers += [_Block(channels_here, expansion, group_size, depth) for _ in range(blocks)]
        self.layers = nn.Sequential(*layers, _conv(widths[-1], channels * patch**2), nn.PixelShuffle(patch))

    def forward(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        if self.embed is not None:
            z = torch.cat([z, self.embed(labels)], 1)
        images: Tensor = self.layers(z)
        return images.tanh()


class Discriminator(nn.Module):
    """Images (N, channels, image_size, image_size) to logits (N,).

    Args:
        image_size: 4*2^k or 7*2^k pixels, k >= 1.
        channels: of the images.
        width: channels at the largest resolution.
        growth: how many times more channels each smaller resolution has, up to `widest`.
        widest: the most channels.
        patch: pixels a side that are one position of the largest resolution: 1 as published; 2 costs a quarter.
        blocks: residual blocks a resolution.
        expansion: how many times more channels a block has inside.
        group_size: channels a group of the 3x3 convolutions.
        hidden: units of a fully connected layer after the last map; 0: one number a channel, as published.
        num_classes: of a class-conditional discriminator, which is called with labels (N,) too: the features' product
            with an embedding of the class is added to the logit (Miyato & Koyama 2018).

    Raises:
        ConfigError: a size that is not of that form, or groups that do not divide the channels.
    """

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
            layers += [_Resize(widths[i - 1], channels_here, 0.5)] if i else []
            layers += [_Block(channels_here, expansion, group_size, depth) for _ in range(blocks)]
        last = hidden or widths[-1]
        pool = nn.Conv2d(widths[-1], last, base, groups=1 if hidden else last, bias=bool(hidden))
        fan_in = base**2 * (widths[-1] if hidden else 1)
        nn.init.normal_(pool.weight, 0.0, (GAIN if hidden else 1) / math.sqrt(fan_in))
        layers += [pool, nn.LeakyReLU(SLOPE, inplace=True)] if hidden else [pool]
        self.layers = nn.Sequential(*layers, nn.Flatten())
        self.score = nn.Linear(last, 1, bias=False)
        self.embed = None if num_classes is None else nn.Embedding(num_classes, last)
        for head in (self.score, self.embed):
            if head is not None:
                nn.init.normal_(head.weight, 0.0, 1 / math.sqrt(last))

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        features = self.layers(images)
        logits: Tensor = self.score(features).squeeze(1)
        if self.embed is not None:
            logits = logits + (features * self.embed(labels)).sum(1)
        return logits
