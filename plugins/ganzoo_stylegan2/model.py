"""The networks of StyleGAN2: Karras et al. 2020, https://arxiv.org/abs/1912.04958, and Karras et al. 2020a,
https://arxiv.org/abs/2006.06676, written from the papers and checked against what the authors' program computes."""

import math

import torch
from torch import Tensor, nn

from ganzoo import ConfigError, seeds_of
from ganzoo_stylegan2.foreign import discriminator_from_foreign, generator_from_foreign
from ganzoo_stylegan2.layers import (
    GAIN,
    Conv,
    Dense,
    Filter,
    MappingNetwork,
    Modulated,
    Noise,
    activate,
    noise_like,
    noise_of,
    spread,
    widths,
)

ARCHITECTURES = ("orig", "skip", "resnet")
HALF = 0.5**0.5  # keeps the variance of a sum of two branches


def _check(architecture: str) -> None:
    if architecture not in ARCHITECTURES:
        raise ConfigError(f"architecture must be one of {', '.join(ARCHITECTURES)}, not {architecture!r}")


class StyledConv(nn.Module):
    """A modulated convolution, noise, a bias and a leaky ReLU.

    Args:
        w_dim: size of w.
        inputs: channels of the input.
        outputs: channels of the output.
        size: height and width of the output.
        layer: the layer's number, by which its random noise differs from that of the others.
        up: whether the output is twice as high and wide as the input.
        clamp: as for `activate`.
    """

    noise_const: Tensor

    def __init__(
        self, w_dim: int, inputs: int, outputs: int, size: int, layer: int, *, up: bool, clamp: float | None
    ) -> None:
        super().__init__()
        self.conv = Modulated(w_dim, inputs, outputs, 3, resample="up" if up else None)
        self.register_buffer("noise_const", torch.randn(size, size))
        self.noise_strength = nn.Parameter(torch.zeros(()))
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.size, self.layer, self.clamp = size, layer, clamp

    def forward(self, x: Tensor, w: Tensor, noise: str, seeds: Tensor | None, gain: float = 1.0) -> Tensor:
        x = self.conv(x, w, self.bias)
        if noise != "none":
            drawn = self.noise_const if seeds is None else noise_like(seeds, self.layer, self.size)
            x = x + (drawn * (GAIN * self.noise_strength)).to(x.dtype)
        x = activate(x, self.clamp)
        return x if gain == 1 else x * gain


class Drawing(nn.Module):
    """A feature map to an image, by a modulated convolution of one pixel."""

    def __init__(self, w_dim: int, inputs: int, channels: int, clamp: float | None) -> None:
        super().__init__()
        self.conv = Modulated(w_dim, inputs, channels, 1, demodulate=False)
        self.bias = nn.Parameter(torch.zeros(channels))
        self.clamp = clamp

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        image: Tensor = self.conv(x, w, self.bias)
        return image if self.clamp is None else image.clamp(-self.clamp, self.clamp)


class Synthesis(nn.Module):
    """One resolution of the generator: one convolution at the smallest, two at each other.

    Args:
        w_dim: size of w.
        inputs: channels of the resolution below; 0: this is the smallest one.
        outputs: channels of this one.
        size: height and width.
        first: the number of its first layer.
        channels: of an image drawn here; 0: none.
        residual: whether the input is added to the output.
        clamp: as for `activate`.
    """

    def __init__(
        self, w_dim: int, inputs: int, outputs: int, size: int, first: int, channels: int, residual: bool,
        clamp: float | None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.const = nn.Parameter(torch.randn(outputs, size, size)) if not inputs else None
        self.up = StyledConv(w_dim, inputs, outputs, size, first, up=True, clamp=clamp) if inputs else None
        second = first + bool(inputs)
        self.same = StyledConv(w_dim, outputs, outputs, size, second, up=False, clamp=clamp)
        self.shortcut = Conv(inputs, outputs, 1, resample="up", active=False) if residual and inputs else None
        self.draw = Drawing(w_dim, outputs, channels, clamp) if channels else None
        self.filter = Filter() if self.draw is not None and inputs else None
        self.first, self.depth = first, second + 1 - first

    def forward(
        self, x: Tensor | None, image: Tensor | None, w: Tensor, noise: str, seeds: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        """The feature map and the image so far, of this resolution; `w` holds a row for each layer."""
        if self.const is not None:
            # Convolutions on a CPU take less time in this layout, which all that follows keeps.
            const = self.const.expand(len(w), -1, -1, -1).contiguous(memory_format=torch.channels_last)
            x = self.same(const, w[:, self.first], noise, seeds)
        elif self.up is not None and x is not None:
            before, gain = x, 1.0 if self.shortcut is None else HALF
            x = self.same(self.up(x, w[:, self.first], noise, seeds), w[:, self.first + 1], noise, seeds, gain)
            if self.shortcut is not None:
                x = x + self.shortcut(before, HALF)
        if self.draw is not None:
            drawn = self.draw(x, w[:, self.first + self.depth])
            image = drawn if image is None or self.filter is None else self.filter.enlarge(image) + drawn
        return x, image  # type: ignore[return-value]  # one of the branches above has set x


class Generator(nn.Module):
    """Latents (N, z_dim) to images (N, channels, image_size, image_size). Their values may leave [-1, 1].

    Args:
        z_dim: size of the latent.
        image_size: 4, 5, 6 or 7 times 2^k pixels, k >= 1.
        channels: of the images.
        w_dim: size of w.
        mapping: fully connected layers from z to w.
        channel_base: channels times resolution: a feature map of r x r pixels has channel_base / r channels.
        channel_max: the most channels of a feature map.
        architecture: "skip", "resnet" or "orig", as in Karras et al. 2020, figure 7.
        conv_clamp: the largest absolute value after each layer, which low precision needs; None: any.
        num_classes: number of classes of a class-conditional generator, which is also called with labels (N,).

    Raises:
        ConfigError: a size that is not of that form, or an unknown architecture.
    """

    unbounded = True
    w_mean: Tensor

    def __init__(
        self,
        z_dim: int = 512,
        image_size: int = 64,
        channels: int = 3,
        w_dim: int = 512,
        mapping: int = 8,
        channel_base: int = 16384,
        channel_max: int = 512,
        architecture: str = "skip",
        conv_clamp: float | None = None,
        num_classes: int | None = None,
    ) -> None:
        super().__init__()
        _check(architecture)
        self.mapping = MappingNetwork(z_dim, w_dim, mapping, num_classes)
        self.register_buffer("w_mean", torch.zeros(w_dim))
        blocks, before, first = [], 0, 0
        for size, width in widths(image_size, channel_base, channel_max).items():
            drawn = channels if architecture == "skip" or size == image_size else 0
            blocks.append(
                Synthesis(w_dim, before, width, size, first, drawn, architecture == "resnet", conv_clamp)
            )  # fmt: skip
            before, first = width, first + blocks[-1].depth
        self.blocks = nn.ModuleList(blocks)
        self.layers = first + 1
        """Rows of w: one for each convolution, and one for the image, which shares it with the next resolution."""

    def style(self, z: Tensor, labels: Tensor | None = None, *, truncation: float | Tensor = 1.0) -> Tensor:
        """Latents (N, z_dim) to w (N, layers, w_dim), a row for each layer, all alike. The options are `forward`'s."""
        with torch.autocast(z.device.type, enabled=False):
            w: Tensor = self.mapping(z, labels)
            if isinstance(truncation, Tensor) or truncation != 1:
                w = self.w_mean + (w - self.w_mean) * truncation
        return w[:, None].expand(-1, self.layers, -1)

    def style_weights(self) -> list[Tensor]:
        """The weights (channels, w_dim) by which each layer takes its scales from its row of w."""
        convs = [module.conv for module in self.modules() if isinstance(module, StyledConv)]
        *_, drawing = [module.conv for module in self.modules() if isinstance(module, Drawing)]
        return [conv.affine.weight for conv in (*convs, drawing)]

    def synthesize(self, w: Tensor, *, noise: Noise | None = None, latent: Tensor | None = None) -> Tensor:
        """Images from w (N, layers, w_dim).

        Args:
            w: a row for each layer; rows of several latents mix their styles.
            noise: as for `forward`.
            latent: numbers (N, ...) on which random noise depends; by default w.

        Returns:
            (N, channels, image_size, image_size).

        Raises:
            ConfigError: there is no such noise.
        """
        noise = noise_of(noise, training=self.training)
        seeds = seeds_of(w if latent is None else latent) if noise == "random" else None
        x: Tensor | None = None
        image: Tensor | None = None
        for block in self.blocks:
            x, image = block(x, image, w, noise, seeds)
        return image  # type: ignore[return-value]  # the last block always draws

    def forward(
        self, z: Tensor, labels: Tensor | None = None, *, truncation: float | Tensor = 1.0, noise: Noise | None = None
    ) -> Tensor:
        """Images from latents.

        Args:
            z: (N, z_dim).
            labels: (N,), for a conditional generator.
            truncation: 1: none; towards 0, w moves to its mean, and images get better and more alike (the truncation
                trick, Karras et al. 2019, https://arxiv.org/abs/1812.04948, appendix B).
            noise: "random": noise that depends on z; "const": the same for all images, which belongs to the weights;
                "none"; None: "random" in training and "const" in evaluation.

        Raises:
            ConfigError: there is no such noise.
        """
        return self.synthesize(self.style(z, labels, truncation=truncation), noise=noise, latent=z)

    def estimate(self, z: Tensor, labels: Tensor | None = None) -> None:
        """Set the mean of w, which truncation moves towards, to that of these latents."""
        self.w_mean.copy_(self.style(z, labels)[:, 0].mean(0))

    from_foreign = staticmethod(generator_from_foreign)


class Analysis(nn.Module):
    """One resolution of the discriminator, at the end of which the feature map has half of it.

    Args:
        inputs: channels of the feature map; 0: this is the image's resolution.
        width: channels at this resolution.
        outputs: channels at half of it.
        channels: of the image, if it is read here; 0: it is not.
        residual: whether the input is added to the output.
        clamp: as for `activate`.
    """

    def __init__(
        self, inputs: int, width: int, outputs: int, channels: int, residual: bool, clamp: float | None
    ) -> None:
        super().__init__()
        self.read = Conv(channels, width, 1, clamp=clamp) if channels else None
        self.filter = Filter() if channels and inputs else None
        self.same = Conv(width, width, 3, clamp=clamp)
        self.down = Conv(width, outputs, 3, resample="down", clamp=clamp)
        self.shortcut = Conv(width, outputs, 1, resample="down", active=False) if residual else None

    def forward(self, x: Tensor | None, image: Tensor) -> tuple[Tensor, Tensor]:
        if self.read is not None:
            image = image if self.filter is None else self.filter.reduce(image)
            x = self.read(image) if x is None else x + self.read(image)
        gain = 1.0 if self.shortcut is None else HALF
        y = self.down(self.same(x), gain)
        return (y if self.shortcut is None else self.shortcut(x, gain) + y), image


class Discriminator(nn.Module):
    """Images (N, channels, image_size, image_size) to logits (N,).

    Args:
        image_size: 4, 5, 6 or 7 times 2^k pixels, k >= 1.
        channels: of the images.
        channel_base: channels times resolution, as for the generator.
        channel_max: the most channels of a feature map.
        architecture: "resnet", "skip" or "orig", as in Karras et al. 2020, figure 7.
        conv_clamp: the largest absolute value after each layer, which low precision needs; None: any.
        group: images over which the standard deviation is taken; 1: none, so that each logit depends on its image
            alone.
        strided: whether the images of a group lie apart in the batch, as in the published code. Side by side they
            stay together if several processes share a batch.
        mapping: fully connected layers of the classes' embedding.
        num_classes: number of classes of a class-conditional discriminator, which is also called with labels (N,): the
            logit is the inner product of the features with an embedding of the class.

    Raises:
        ConfigError: a size that is not of that form, or an unknown architecture.
    """

    def __init__(
        self,
        image_size: int = 64,
        channels: int = 3,
        channel_base: int = 16384,
        channel_max: int = 512,
        architecture: str = "resnet",
        conv_clamp: float | None = None,
        group: int = 4,
        strided: bool = False,
        mapping: int = 8,
        num_classes: int | None = None,
    ) -> None:
        super().__init__()
        _check(architecture)
        if group < 1:
            raise ConfigError(f"group must be at least 1, not {group}")
        sizes = widths(image_size, channel_base, channel_max)
        base, *larger = sizes
        skip = architecture == "skip"
        blocks, before = [], 0
        for size in reversed(larger):
            read = channels if skip or not before else 0
            blocks.append(
                Analysis(before, sizes[size], sizes[size // 2], read, architecture == "resnet", conv_clamp)
            )  # fmt: skip
            before = sizes[size // 2]
        self.blocks = nn.ModuleList(blocks)
        self.read = Conv(channels, before, 1, clamp=conv_clamp) if skip else None
        self.filter = Filter() if skip else None
        self.group, self.strided = group, strided
        self.conv = Conv(before + (group > 1), before, 3, clamp=conv_clamp)
        self.dense = Dense(before * base**2, before, active=True)
        self.score = Dense(before, 1 if num_classes is None else before)
        self.mapping = None if num_classes is None else MappingNetwork(0, before, mapping, num_classes)

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        x: Tensor | None = None
        for block in self.blocks:
            x, images = block(x, images)
        if self.read is not None and self.filter is not None:
            x = x + self.read(self.filter.reduce(images))
        if self.group > 1:
            x = spread(x, self.group, self.strided)  # type: ignore[arg-type]  # there is at least one block
        x = self.dense(self.conv(x).flatten(1))
        logits: Tensor = self.score(x)
        if self.mapping is None:
            return logits.squeeze(1)
        with torch.autocast(images.device.type, enabled=False):
            embedded: Tensor = self.mapping(None, labels)
        return (logits * embedded).sum(1) / math.sqrt(embedded.shape[1])

    def keeps_groups(self, n: int) -> bool:
        """Whether n images and n others have the same groups in one batch as in two, and so the same logits."""
        return self.group == 1 or (not self.strided and n % self.group == 0)

    from_foreign = staticmethod(discriminator_from_foreign)
