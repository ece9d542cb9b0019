"""The residual networks of Miyato et al. 2018, https://arxiv.org/abs/1802.05957, appendix B.4, after the paper's
description. With the defaults they are those for images of 48 and 128 pixels, and with the settings of the recipe
`paper` those for 32 pixels."""

import math
from itertools import pairwise

from torch import Tensor, addcmul, cat, nn
from torch.nn.functional import avg_pool2d, conv2d, conv_transpose2d, interpolate, one_hot

from ganzoo import ConfigError
from ganzoo_dcgan.model import ClassEmbedding, Palette, stages
from ganzoo_dcgan.spectral import SpectralNorms
from ganzoo_sngan.foreign import discriminator_from_foreign, generator_from_foreign

LEAST = 2
"""The fewest doublings of a resolution."""

UPSAMPLE = ("nearest", "bilinear")
INNER = ("inputs", "outputs")


def _initialise(layer: nn.Conv2d | nn.Linear | nn.Embedding) -> None:
    """Uniform weights (Glorot & Bengio 2010), with a gain of sqrt(2) for all 3x3 kernels; biases of 0."""
    follows_relu = isinstance(layer, nn.Conv2d) and layer.kernel_size == (3, 3)
    nn.init.xavier_uniform_(layer.weight, math.sqrt(2) if follows_relu else 1.0)
    if not isinstance(layer, nn.Embedding) and layer.bias is not None:
        nn.init.zeros_(layer.bias)


def _conv(inputs: int, outputs: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, padding=1)


def _averaged(kernel: Tensor) -> Tensor:
    """Kernels (..., 3, 3) to kernels (..., 4, 4) that also take the mean over 2x2 pixels, before or after."""
    return avg_pool2d(kernel, 2, stride=1, padding=1)


class _UpConv(nn.Conv2d):
    """Upsampling by 2 and a 3x3 convolution. With repeated pixels, it is computed as one transposed convolution of
    stride 2, which takes 16 products for each input pixel and pair of channels instead of 36."""

    def __init__(self, inputs: int, outputs: int, upsample: str) -> None:
        super().__init__(inputs, outputs, 3, padding=1)
        self.upsample = upsample

    def forward(self, x: Tensor) -> Tensor:
        if self.upsample != "nearest":
            return super().forward(_enlarged(x, self.upsample))
        kernel = 4 * _averaged(self.weight).flip(2, 3).transpose(0, 1)
        return conv_transpose2d(x, kernel, self.bias, stride=2, padding=1)


class _ConvDown(nn.Conv2d):
    """A 3x3 convolution and the mean over 2x2 pixels, computed as one convolution of stride 2 for the same reason."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return conv2d(x, _averaged(self.weight), self.bias, stride=2, padding=1)


class _NormReLU(nn.Module):
    """BatchNorm and a ReLU. In a class-conditional network each class has its own scale and shift."""

    def __init__(self, channels: int, num_classes: int | None) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels, affine=num_classes is None)
        self.scale = self.shift = None
        if num_classes is not None:
            self.scale, self.shift = (ClassEmbedding(num_classes, channels) for _ in range(2))
            nn.init.ones_(self.scale.weight)
            nn.init.zeros_(self.shift.weight)

    def forward(self, x: Tensor, labels: Tensor | None) -> Tensor:
        x = self.norm(x)
        if self.scale is not None and self.shift is not None:
            scale, shift = (embed(labels)[:, :, None, None].to(x.dtype) for embed in (self.scale, self.shift))
            x = addcmul(shift, scale, x)
        return x.relu_()


class _Up(nn.Module):
    """A residual block that doubles the size: BatchNorm, ReLU, upsampling, 3x3 convolution, BatchNorm, ReLU, 3x3
    convolution. The shortcut is upsampling and a 1x1 convolution; as these commute, the convolution runs first, at the
    smaller size."""

    def __init__(self, inputs: int, outputs: int, num_classes: int | None, upsample: str) -> None:
        super().__init__()
        self.norms = nn.ModuleList([_NormReLU(inputs, num_classes), _NormReLU(outputs, num_classes)])
        self.convs = nn.ModuleList([_UpConv(inputs, outputs, upsample), _conv(outputs, outputs)])
        self.shortcut = nn.Conv2d(inputs, outputs, 1)
        self.upsample = upsample

    def forward(self, x: Tensor, labels: Tensor | None) -> Tensor:
        h = x
        for norm, conv in zip(self.norms, self.convs, strict=True):
            h = conv(norm(h, labels))
        return h + _enlarged(self.shortcut(x), self.upsample)


def _enlarged(x: Tensor, upsample: str) -> Tensor:
    """(N, C, H, W) to (N, C, 2H, 2W)."""
    return interpolate(x, scale_factor=2.0, mode=upsample, align_corners=None if upsample == "nearest" else False)


class _Block(nn.Module):
    """A residual block of the discriminator: ReLU, 3x3 convolution, ReLU, 3x3 convolution, and the mean over 2x2 pixels
    if it halves the size. The shortcut is that mean and a 1x1 convolution, if the size or the channels change.

    Args:
        inputs, outputs: number of channels.
        half: whether the block halves the size.
        first: whether it is the first block of the network, which has no ReLU at its start.
        inner: "inputs" or "outputs": the channels between the convolutions; in the first block they are the outputs.
        rectified: whether the shortcut, too, begins with the ReLU.
    """

    def __init__(self, inputs: int, outputs: int, half: bool, first: bool, inner: str, rectified: bool) -> None:
        super().__init__()
        between = outputs if first or inner == "outputs" else inputs
        self.rectified = rectified
        self.start = nn.Identity() if first else nn.ReLU()  # not in place, because the shortcut needs x
        self.convs = nn.Sequential(
            _conv(inputs, between), nn.ReLU(inplace=True), (_ConvDown if half else _conv)(between, outputs)
        )
        self.pool = nn.AvgPool2d(2) if half else nn.Identity()
        self.shortcut = nn.Conv2d(inputs, outputs, 1) if half or inputs != outputs else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        h = self.start(x)
        y: Tensor = self.convs(h) + self.shortcut(self.pool(h if self.rectified else x))
        return y


class Generator(nn.Module):
    """Latents (N, z_dim) to images (N, channels, image_size, image_size) in [-1, 1].

    Args:
        z_dim: size of the latent.
        image_size: 4, 5, 6 or 7 times 2^k pixels, k >= 2.
        channels: of the images.
        width: channels at the largest resolution; each smaller one has twice as many, up to `widest`.
        widest: the largest number of channels.
        upsample: "nearest", as published, or "bilinear", as in networks that were imported from mimicry.
        palette: number of colours, linear in the latent and of each class, of which each pixel is a mixture
            (`ganzoo_dcgan.model.Palette`); 0: the last convolution gives the colours themselves, as published.
        num_classes: number of classes of a class-conditional generator, which is also called with labels (N,): each
            class has its own scale and shift after BatchNorm (Miyato & Koyama 2018, https://arxiv.org/abs/1802.05637).

    Raises:
        ConfigError: a size that is not of that form, or another way of upsampling.
    """

    def __init__(
        self,
        z_dim: int = 128,
        image_size: int = 32,
        channels: int = 3,
        width: int = 64,
        widest: int = 1024,
        upsample: str = "nearest",
        palette: int = 0,
        num_classes: int | None = None,
    ) -> None:
        super().__init__()
        if upsample not in UPSAMPLE:
            raise ConfigError(f"upsample must be {' or '.join(UPSAMPLE)}, not {upsample!r}")
        base, k = stages(image_size, LEAST)
        widths = [min(width * 2**i, widest) for i in reversed(range(k + 1))]
        self.shape = (base, base, widths[0])
        self.start = nn.Linear(z_dim, base * base * widths[0])
        self.blocks = nn.ModuleList(_Up(before, after, num_classes, upsample) for before, after in pairwise(widths))
        self.norm = _NormReLU(widths[-1], None)
        self.end = _conv(widths[-1], palette or channels)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                _initialise(layer)
        self.num_classes = num_classes or 0
        self.palette = None
        if palette:
            nn.init.normal_(self.end.weight, 0.0, 0.02)
            self.palette = Palette(z_dim + self.num_classes, palette, channels)

    def forward(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        x = self.start(z).unflatten(1, self.shape).permute(0, 3, 1, 2)  # already in channels_last
        for block in self.blocks:
            x = block(x, labels)
        x = self.end(self.norm(x, labels))
        if self.palette is not None and labels is not None:
            z = cat([z, one_hot(labels, self.num_classes)], 1)
        images: Tensor = x.tanh() if self.palette is None else self.palette(x, z)
        return images

    from_foreign = staticmethod(generator_from_foreign)


class Discriminator(nn.Module):
    """Images (N, channels, image_size, image_size) to logits (N,), with spectral normalisation of every layer.

    There is a block for each halving of the size down to 2, 3 or 4 pixels, and one more.

    Args:
        image_size: 4, 5, 6 or 7 times 2^k pixels, k >= 2.
        channels: of the images.
        width: channels of the first block; each later one has twice as many, up to `widest`.
        widest: the largest number of channels.
        flat: how many blocks at the end keep the size.
        inner: "inputs": between the two convolutions of a block there are as many channels as before it, as published;
            "outputs": as many as after it, as in networks that were imported from StudioGAN.
        rectified: whether the shortcuts, too, begin with the ReLU, as in networks that were imported from mimicry and
            StudioGAN, where the ReLU works in place.
        num_classes: number of classes of a class-conditional discriminator, which is also called with labels (N,): the
            inner product of the features with an embedding of the class is added to the logit (Miyato & Koyama 2018).

    Raises:
        ConfigError: a size that is not of that form, a number of flat blocks out of range, or other inner channels.
    """

    independent = True

    def __init__(
        self,
        image_size: int = 32,
        channels: int = 3,
        width: int = 64,
        widest: int = 1024,
        flat: int = 1,
        inner: str = "inputs",
        rectified: bool = False,
        num_classes: int | None = None,
    ) -> None:
        super().__init__()
        if inner not in INNER:
            raise ConfigError(f"inner must be {' or '.join(INNER)}, not {inner!r}")
        stages(image_size, LEAST)
        depth = (image_size - 1).bit_length() - 1
        if not 0 <= flat < depth:
            raise ConfigError(f"flat must be from 0 to {depth - 1} at {image_size} pixels, not {flat}")
        widths = [channels, *(min(width * 2**i, widest) for i in range(depth))]
        blocks = (
            _Block(before, after, i < depth - flat, i == 0, inner, rectified)
            for i, (before, after) in enumerate(pairwise(widths))
        )
        self.blocks = nn.Sequential(*blocks, nn.ReLU(inplace=True))
        self.score = nn.Linear(widths[-1], 1)
        self.embed = None if num_classes is None else ClassEmbedding(num_classes, widths[-1])
        layers = [layer for layer in self.modules() if isinstance(layer, nn.Conv2d | nn.Linear | nn.Embedding)]
        for layer in layers:
            _initialise(layer)
        self.spectral = SpectralNorms(layers)

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        self.spectral.update()
        features = self.blocks(images).sum((2, 3))
        logits: Tensor = self.score(features).squeeze(1)
        if self.embed is not None:
            logits = logits + (features * self.embed(labels)).sum(1)
        return logits

    from_foreign = staticmethod(discriminator_from_foreign)
