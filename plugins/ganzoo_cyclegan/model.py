"""The networks of Zhu et al. 2017, https://arxiv.org/abs/1703.10593, section 7.2: two generators of residual blocks in
one module, one for each direction, and a PatchGAN for each kind of image in another."""

from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn

from ganzoo import ConfigError, Rng
from ganzoo_cyclegan.foreign import generator_from_foreign

DIRECTIONS = {"both": ("AB", "BA"), "AB": ("AB",)}
"""The directions in which a generator translates, by its setting."""
FACTOR = 4
"""How many times fewer rows and columns the innermost feature maps have."""
SMALLEST = 8
"""Pixels of the smallest side that can be translated: its innermost feature maps have a border to mirror."""
WIDEST = 8
"""The number of channels of a discriminator doubles at each layer, up to this many times `width`."""


def _norm(channels: int) -> nn.GroupNorm:
    """InstanceNorm without parameters. With as many groups as channels, GroupNorm gives the same and is the faster one
    on a CPU."""
    return nn.GroupNorm(channels, channels, affine=False)


def _initialise(module: nn.Module) -> None:
    """Weights from N(0, 0.02), biases of 0."""
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        nn.init.normal_(module.weight, 0.0, 0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


class _Mirror(nn.Module):
    """Reflection padding: nn.ReflectionPad2d has no deterministic backward on CUDA."""

    def __init__(self, border: int) -> None:
        super().__init__()
        self.border = border

    def forward(self, x: Tensor) -> Tensor:
        for dim in (2, 3):
            before = x.narrow(dim, 1, self.border)
            after = x.narrow(dim, x.shape[dim] - 1 - self.border, self.border)
            x = torch.cat([before.flip(dim), x, after.flip(dim)], dim)
        return x


class _Residual(nn.Module):
    """x + f(x), where f is two 3x3 convolutions with InstanceNorm and a ReLU between them."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        first, second = (nn.Conv2d(channels, channels, 3, bias=False) for _ in range(2))
        self.layers = nn.Sequential(
            _Mirror(1), first, _norm(channels), nn.ReLU(inplace=True), _Mirror(1), second, _norm(channels)
        )

    def forward(self, x: Tensor) -> Tensor:
        residual: Tensor = self.layers(x)
        return x + residual


def _translator(inputs: int, outputs: int, width: int, blocks: int) -> nn.Sequential:
    """The generator of one direction. The layers have the numbers of the authors' code, by which their checkpoints are
    read. A convolution before InstanceNorm needs no bias, which the norm would take away."""

    def convolved(layer: nn.Conv2d | nn.ConvTranspose2d) -> list[nn.Module]:
        return [layer, _norm(layer.out_channels), nn.ReLU(inplace=True)]

    widths = [width, 2 * width, 4 * width]
    layers: list[nn.Module] = [_Mirror(3), *convolved(nn.Conv2d(inputs, width, 7, bias=False))]
    for before, after in pairwise(widths):
        layers += convolved(nn.Conv2d(before, after, 3, stride=2, padding=1, bias=False))
    layers += [_Residual(widths[-1]) for _ in range(blocks)]
    for before, after in pairwise(reversed(widths)):
        layers += convolved(nn.ConvTranspose2d(before, after, 3, stride=2, padding=1, output_padding=1, bias=False))
    return nn.Sequential(*layers, _Mirror(3), nn.Conv2d(width, outputs, 7), nn.Tanh())


class Generator(nn.Module):
    """Images of kind A to images of kind B, and back: inputs (N, input_channels, H, W) to (N, channels, H, W) in
    [-1, 1]. The translation is a function of its inputs alone; latents (N, 0) are passed for form's sake.

    H and W are multiples of 4 and at least 8. They need not be those of the settings, or the same.

    Args:
        image_size: height and width of the images in training.
        channels: of images of kind B.
        input_size: height and width of the inputs in training, which are those of the images; None: not given.
        input_channels: of images of kind A.
        width: channels of the first layer.
        blocks: the number of residual blocks; None: 6 for images below 256 pixels and 9 from there on, as published.
        directions: "both", or "AB" for a generator that translates A to B alone.

    Raises:
        ConfigError: a size that is no multiple of 4 or below 8, inputs of another size, no blocks, or other directions.
    """

    def __init__(
        self,
        image_size: int = 256,
        channels: int = 3,
        input_size: int | None = None,
        input_channels: int = 3,
        width: int = 64,
        blocks: int | None = None,
        directions: str = "both",
    ) -> None:
        super().__init__()
        if directions not in DIRECTIONS:
            raise ConfigError(f"directions must be {' or '.join(DIRECTIONS)}, not {directions!r}")
        if input_size not in (None, image_size):
            raise ConfigError(
                f"a translation keeps the size of its inputs, and these have {input_size} pixels a side and the images "
                f"{image_size}: choose --image-size {input_size}"
            )
        _check_size(image_size, image_size)
        if blocks is None:
            blocks = 6 if image_size < 256 else 9
        if blocks < 1:
            raise ConfigError(f"blocks must be at least 1, not {blocks}")
        self.channels = {"AB": (input_channels, channels), "BA": (channels, input_channels)}
        self.translators = nn.ModuleDict(
            {direction: _translator(*self.channels[direction], width, blocks) for direction in DIRECTIONS[directions]}
        )
        self.apply(_initialise)

    def draw_latent(self, n: int, rng: Rng) -> Tensor:
        """Latents (n, 0): there is nothing to draw."""
        return rng.randn(n, 0)

    def input_channels_for(self, direction: str = "AB") -> int:
        """The channels of inputs that are translated in this direction.

        Raises:
            ConfigError: the generator has no such direction.
        """
        if direction not in tuple(self.translators):
            raise ConfigError(f"direction must be {' or '.join(self.translators)}, not {direction!r}")
        return self.channels[direction][0]

    def forward(self, z: Tensor, *, inputs: Tensor, direction: Literal["AB", "BA"] = "AB") -> Tensor:
        """Translate inputs.

        Args:
            z: latents, which are not used.
            inputs: images of kind A (N, input_channels, H, W), or of kind B (N, channels, H, W), in [-1, 1].
            direction: "AB" from kind A to kind B, or "BA" back.

        Raises:
            ConfigError: the generator has no such direction, or cannot translate inputs of this size.
        """
        self.input_channels_for(direction)
        _check_size(*inputs.shape[2:])
        images: Tensor = self.translators[direction](inputs)
        return images

    from_foreign = staticmethod(generator_from_foreign)


def _check_size(height: int, width: int) -> None:
    if height % FACTOR or width % FACTOR or min(height, width) < SMALLEST:
        raise ConfigError(
            f"images must have a multiple of {FACTOR} pixels a side, and at least {SMALLEST}, not {height}x{width}: "
            "resize or crop them"
        )


def _patches(channels: int, width: int, layers: int) -> nn.Sequential:
    """A PatchGAN: images (N, channels, H, W) to a logit for each patch (N, 1, h, w)."""
    widths = [width * min(2**i, WIDEST) for i in range(layers + 1)]
    stack: list[nn.Module] = [nn.Conv2d(channels, width, 4, stride=2, padding=1), nn.LeakyReLU(0.2, inplace=True)]
    for i, (before, after) in enumerate(pairwise(widths), 1):
        stride = 2 if i < layers else 1
        stack += [nn.Conv2d(before, after, 4, stride=stride, padding=1, bias=False), _norm(after)]
        stack.append(nn.LeakyReLU(0.2, inplace=True))
    return nn.Sequential(*stack, nn.Conv2d(widths[-1], 1, 4, padding=1))


class Discriminator(nn.Module):
    """Images to logits (N, h, w), one for each patch. There is a network for each kind of image.

    Args:
        image_size: height and width of the images.
        channels: of images of kind B.
        input_channels: of images of kind A.
        width: channels of the first layer; each later one has twice as many, up to 8 times as many.
        layers: how many layers halve the size. With 1, 2 and 3 of them a patch has 16, 34 and 70 pixels a side.

    Raises:
        ConfigError: no layers, or images that are too small for so many.
    """

    def __init__(
        self, image_size: int = 256, channels: int = 3, input_channels: int = 3, width: int = 64, layers: int = 3
    ) -> None:
        super().__init__()
        # The last norm needs feature maps of more than one pixel.
        if layers < 1 or image_size >> layers < 3:
            raise ConfigError(
                f"layers must be at least 1, and leave 3 pixels of the {image_size} that are halved so many times, "
                f"not {layers}"
            )
        self.judges = nn.ModuleDict(
            {"A": _patches(input_channels, width, layers), "B": _patches(channels, width, layers)}
        )
        self.apply(_initialise)

    def forward(self, images: Tensor, *, kind: str = "B") -> Tensor:
        """Logits (N, h, w) of images (N, C, H, W) of kind "A" or "B"."""
        logits: Tensor = self.judges[kind](images)
        return logits.squeeze(1)
