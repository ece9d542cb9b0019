"""The networks and the objective of pix2pix: Isola et al. 2017, https://arxiv.org/abs/1611.07004."""

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, interpolate, l1_loss, leaky_relu

from ganzoo import Batch, ConfigError, Loss, Objective, Penalty, uniform_of
from ganzoo_dcgan.model import ClassEmbedding
from ganzoo_pix2pix.foreign import generator_from_foreign

WIDEST = 8
"""The number of channels doubles at each halving of the size, up to this many times `width`."""
SMALLEST = 8
"""The smallest image size."""
NORMS = ("instance", "batch")
DROPPED = 3
"""The first layers of the decoder, after which the paper has dropout."""
MASK = 0xFFFFFFFF
"""Keeps 32 bits of a whole number."""
PATCHES = {3: 70, 2: 34, 1: 16}
"""The side in pixels of the patch that a logit judges, by the number of layers of stride 2."""


def _norm(kind: str, channels: int) -> nn.Module:
    if kind not in NORMS:
        raise ConfigError(f"norm must be {' or '.join(NORMS)}, not {kind!r}")
    return nn.BatchNorm2d(channels) if kind == "batch" else nn.InstanceNorm2d(channels, affine=True)


def _initialise(module: nn.Module) -> None:
    """Section 6.2: weights from a normal distribution of standard deviation 0.02, whose mean is 1 for the scale of a
    norm (as in the published code) and 0 elsewhere."""
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Embedding):
        nn.init.normal_(module.weight, 0.0, 0.02)
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d) and module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, nn.BatchNorm2d | nn.InstanceNorm2d):
        nn.init.normal_(module.weight, 1.0, 0.02)


def _check_size(image_size: int) -> None:
    if image_size < SMALLEST:
        raise ConfigError(f"images must have at least {SMALLEST} pixels a side, not {image_size}: set --image-size")


def _resized(inputs: Tensor, height: int, width: int) -> Tensor:
    if inputs.shape[2:] == (height, width):
        return inputs
    return interpolate(inputs, (height, width), mode="bilinear", antialias=True, align_corners=False)


class _Down(nn.Module):
    """A convolution of 4x4 and stride 2, (N, inputs, H, W) to (N, outputs, H // 2, W // 2), and a norm if there is
    one."""

    def __init__(self, inputs: int, outputs: int, norm: str | None) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 4, stride=2, padding=1, bias=norm is None)
        self.norm = nn.Identity() if norm is None else _norm(norm, outputs)

    def forward(self, x: Tensor) -> Tensor:
        halved: Tensor = self.norm(self.conv(x))
        return halved


class _Up(nn.Module):
    """A transposed convolution of 4x4 and stride 2, (N, inputs, H // 2, W // 2) to (N, outputs, H, W), and a norm if
    there is one."""

    def __init__(self, inputs: int, outputs: int, norm: str | None) -> None:
        super().__init__()
        self.conv = nn.ConvTranspose2d(inputs, outputs, 4, stride=2, padding=1, bias=norm is None)
        self.norm = nn.Identity() if norm is None else _norm(norm, outputs)

    def forward(self, x: Tensor, size: Sequence[int]) -> Tensor:
        doubled: Tensor = self.norm(self.conv(x, output_size=list(size)))
        return doubled


class Generator(nn.Module):
    """Inputs (N, input_channels, H, W) in [-1, 1] to images (N, channels, H, W) in [-1, 1], by a U-Net: an encoder that
    halves the size `depth` times, rounding down, and a decoder that gets each of its maps. With the defaults, at 256
    pixels, it is the published one.

    Latents (N, z_dim) decide which units dropout removes, in training and in sampling, and nothing else: the numbers
    of a latent, rounded to multiples of 2^-20, are hashed with the number of each unit. So a latent always gives the
    same image, on every device.

    Inputs of another size than `image_size` are resized first if they had another size in training. Otherwise images
    have the size of their inputs, which may be any.

    Args:
        z_dim: size of the latent.
        image_size: of the images in training, at least 8 pixels.
        channels: of the images.
        input_size: of the inputs in training; None: the images'.
        input_channels: of the inputs.
        width: channels after the first layer; each later one has twice as many, up to 8 * width.
        depth: how often the size is halved, at least twice; None: down to one pixel.
        norm: "instance", the statistics of each image by itself, which those of BatchNorm are in a batch of one, as the
            paper trains and samples; or "batch".
        dropout: the share of units that are removed; 0: none, and the latent has no effect.
        dropped: the layers of the decoder after which there is dropout, numbered from the smallest map, from 0; None:
            the first three, but not the last two of all.
        num_classes: number of classes of a class-conditional generator, which is also called with labels (N,): an
            embedding of the class is added to the smallest map.

    Raises:
        ConfigError: a setting out of range.
    """

    def __init__(
        self,
        z_dim: int = 8,
        image_size: int = 256,
        channels: int = 3,
        input_size: int | None = None,
        input_channels: int = 3,
        width: int = 64,
        depth: int | None = None,
        norm: str = "instance",
        dropout: float = 0.5,
        dropped: Sequence[int] | None = None,
        num_classes: int | None = None,
    ) -> None:
        super().__init__()
        _check_size(image_size)
        deepest = image_size.bit_length() - 1
        depth = deepest if depth is None else depth
        if not 2 <= depth <= deepest:
            raise ConfigError(f"generator.depth must be from 2 to {deepest} at {image_size} pixels, not {depth}")
        if not 0 <= dropout < 1:
            raise ConfigError(f"generator.dropout must be at least 0 and below 1, not {dropout}")
        self.dropped = range(min(DROPPED, depth - 2)) if dropped is None else dropped
        if not set(self.dropped) <= set(range(depth - 1)):
            raise ConfigError(f"generator.dropped must be among the layers 0 to {depth - 2}, not {list(self.dropped)}")
        self.dropout, self.scale = dropout, image_size / (input_size or image_size)
        widths = [width * min(2**i, WIDEST) for i in range(depth)]
        # The first and the last layer have no norm, nor has the smallest map, which may be a single pixel.
        self.down = nn.ModuleList(
            _Down(before, after, norm if 0 < i < depth - 1 else None)
            for i, (before, after) in enumerate(pairwise([input_channels, *widths]))
        )
        outputs = [*reversed(widths[:-1]), channels]
        self.up = nn.ModuleList(
            _Up(before if i == 0 else 2 * before, after, norm if i < depth - 1 else None)
            for i, (before, after) in enumerate(pairwise([widths[-1], *outputs]))
        )
        self.embed = None if num_classes is None else ClassEmbedding(num_classes, widths[-1])
        self.apply(_initialise)

    def forward(self, z: Tensor, labels: Tensor | None = None, *, inputs: Tensor) -> Tensor:
        """Images from latents and inputs.

        Args:
            z: (N, z_dim).
            labels: (N,), for a conditional generator.
            inputs: (N, input_channels, H, W).

        Returns:
            (N, channels, H, W), or as many times larger as images were in training.

        Raises:
            ConfigError: the inputs are too small.
        """
        height, width = (round(side * self.scale) for side in inputs.shape[2:])
        if min(height, width) >> len(self.down) == 0:
            least = math.ceil((1 << len(self.down)) / self.scale)
            raise ConfigError(
                f"inputs of {inputs.shape[2]}x{inputs.shape[3]} pixels are too small for this generator, which halves "
                f"them {len(self.down)} times: give it at least {least} a side"
            )
        x = _resized(inputs, height, width)
        sizes, skipped = [], []
        for i, down in enumerate(self.down):
            if i:
                x = leaky_relu(x, 0.2)
                skipped.append(x)  # the decoder's ReLU makes of it what it would make of the map itself
            sizes.append(x.shape[2:])
            x = down(x)
        if self.embed is not None:
            x = x + self.embed(labels)[:, :, None, None].to(x.dtype)
        for i, up in enumerate(self.up):
            x = up((torch.cat([skipped.pop(), x], 1) if i else x).relu(), sizes.pop())
            if self.dropout and i in self.dropped:
                x = x * (self._kept(z, i, x.shape[1:]) / (1 - self.dropout)).to(x.dtype)
        return x.tanh()

    def _kept(self, z: Tensor, layer: int, shape: torch.Size) -> Tensor:
        """Which units of a layer's map dropout keeps for these latents: bool (N, C, H, W)."""
        odd = torch.arange(z.shape[1], device=z.device) * 0x9E3779B1 + 0x85EBCA6B & MASK | 1
        mixed = (z.detach().float() * 2**20).round().long() * odd & MASK
        seeds = mixed.sum(1) & MASK
        return (uniform_of(seeds, layer, shape.numel()) >= self.dropout).reshape(-1, *shape)

    from_foreign = staticmethod(generator_from_foreign)


class Discriminator(nn.Module):
    """Images (N, channels, image_size, image_size) and their inputs to logits (N, h, w), each of which judges a patch
    of the pair: the PatchGAN of the paper. With the defaults, at 256 pixels, it is the published one, whose patches
    have 70x70 pixels.

    Inputs of another size are resized to the images'.

    Args:
        image_size: at least 8 pixels.
        channels: of the images.
        input_channels: of the inputs.
        width: channels of the first layer; each later one has twice as many, up to 8 * width.
        layers: how many layers have stride 2. With 3 a patch has 70x70 pixels, with 2 34x34, and with 1 16x16; None:
            the largest of these that is not larger than the image.
        norm: "instance" or "batch", as for the generator; or None.
        num_classes: number of classes of a class-conditional discriminator, which is also called with labels (N,): the
            inner product of each patch's features with an embedding of the class is added to its logit (Miyato &
            Koyama 2018, https://arxiv.org/abs/1802.05637).

    Raises:
        ConfigError: a setting out of range.
    """

    def __init__(
        self,
        image_size: int = 256,
        channels: int = 3,
        input_channels: int = 3,
        width: int = 64,
        layers: int | None = None,
        norm: str | None = "instance",
        num_classes: int | None = None,
    ) -> None:
        super().__init__()
        _check_size(image_size)
        if layers is None:
            layers = next((n for n, side in PATCHES.items() if side <= image_size), 1)
        if layers < 1 or image_size >> layers < 3:
            most = (image_size // 3).bit_length() - 1
            raise ConfigError(f"discriminator.layers must be from 1 to {most} at {image_size} pixels, not {layers}")
        widths = [width * min(2**i, WIDEST) for i in range(layers + 1)]
        body: list[nn.Module] = []
        for i, (before, after) in enumerate(pairwise([channels + input_channels, *widths])):
            normed = norm is not None and i > 0
            body.append(nn.Conv2d(before, after, 4, stride=2 if i < layers else 1, padding=1, bias=not normed))
            body += [_norm(norm, after)] if norm is not None and normed else []
            body.append(nn.LeakyReLU(0.2, inplace=True))
        self.body = nn.Sequential(*body)
        self.score = nn.Conv2d(widths[-1], 1, 4, padding=1)
        self.embed = None if num_classes is None else ClassEmbedding(num_classes, widths[-1])
        self.apply(_initialise)

    def forward(self, images: Tensor, labels: Tensor | None = None, *, inputs: Tensor) -> Tensor:
        inputs = _resized(inputs, *images.shape[2:])
        features: Tensor = self.body(torch.cat([images, inputs.to(images.dtype)], 1))
        logits: Tensor = self.score(features)
        if self.embed is not None:
            # The middle of a kernel of 4x4 lies between four cells.
            between = avg_pool2d(features, 2, stride=1)
            logits = logits + (between * self.embed(labels)[:, :, None, None]).sum(1, keepdim=True)
        return logits.squeeze(1)


class Pix2Pix(Objective):
    """Equation 4 of the paper: the adversarial loss, and the absolute difference of the generated images from those of
    the data.

    Args:
        loss, penalties: as in the standard objective.
        l1: weight of the mean absolute difference, on [-1, 1]; the paper's lambda.

    Raises:
        ConfigError: a weight below 0.
    """

    def __init__(self, loss: Loss, penalties: Sequence[Penalty] = (), l1: float = 100.0) -> None:
        if not l1 >= 0:
            raise ConfigError(f"objective.l1 must be at least 0, not {l1}")
        super().__init__(loss, penalties)
        self.l1 = l1

    def generator_loss(self, g: nn.Module, d: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of the generator. It also logs `l1`, the mean absolute difference without its weight."""
        value, logs = super().generator_loss(g, d, batch)
        difference = l1_loss(batch.fake(g).to(batch.real.dtype), batch.real)
        return value + self.l1 * difference, {**logs, "l1": difference}
