"""The networks of lucidrains' stylegan2-pytorch, https://github.com/lucidrains/stylegan2-pytorch, a simpler form of
StyleGAN2 (Karras et al. 2020, https://arxiv.org/abs/1912.04958): bilinear resampling, one noise image for all layers,
styles that are added to 1, and attention at chosen resolutions. Checkpoints of that program can be imported."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from ganzoo import ConfigError, seeds_of, uniform_of
from ganzoo_dcgan.model import stages
from ganzoo_stylegan2.layers import Noise, noise_of
from ganzoo_stylegan2.lucid_foreign import discriminator_from_foreign, generator_from_foreign
from ganzoo_stylegan2.lucid_layers import Analysis, Mapping, Synthesis, initialise

MEAN = 0.5
"""Of the noise, which is uniform from 0 to 1."""


def _check(attention: Sequence[int], blocks: int) -> None:
    if not all(isinstance(place, int) and 0 <= place < blocks for place in attention):
        raise ConfigError(f"attention must be a list of numbers from 0 to {blocks - 1}, not {list(attention)}")


class Generator(nn.Module):
    """Latents (N, z_dim) to images (N, channels, image_size, image_size). Their values may leave [-1, 1].

    Args:
        z_dim: size of the latent and of w.
        image_size: 4, 5, 6 or 7 times 2^k pixels, k >= 1.
        channels: of the images.
        width: channels at the largest resolution; each smaller one has twice as many, up to `widest`.
        widest: the largest number of channels.
        mapping: fully connected layers from z to w.
        rate: the factor of their learning rate (`lr_mlp` of the published program).
        attention: the numbers of the resolutions, 0 the smallest, before which there is an attention.
        constant: whether the first feature map is a learnt constant; if not, it is linear in w (`no_const`).

    Raises:
        ConfigError: a size that is not of that form, a rate that is not positive, or no such resolution.
    """

    unbounded = True
    w_mean: Tensor
    noise_const: Tensor

    def __init__(
        self,
        z_dim: int = 512,
        image_size: int = 64,
        channels: int = 3,
        width: int = 32,
        widest: int = 512,
        mapping: int = 8,
        rate: float = 0.1,
        attention: Sequence[int] = (),
        constant: bool = True,
    ) -> None:
        super().__init__()
        base, k = stages(image_size)
        _check(attention, k + 1)
        widths = [min(width * 2**i, widest) for i in reversed(range(k + 1))]
        self.mapping = Mapping(z_dim, mapping, rate)
        self.register_buffer("w_mean", torch.zeros(z_dim))
        self.register_buffer("noise_const", torch.rand(image_size, image_size))
        self.const = nn.Parameter(torch.randn(widths[0], base, base)) if constant else None
        self.project = None if constant else nn.ConvTranspose2d(z_dim, widths[0], base, bias=False)
        self.start = nn.Conv2d(widths[0], widths[0], 3, padding=1)
        self.blocks = nn.ModuleList(
            Synthesis(z_dim, before, after, channels, i == 0, i == k, i in attention)
            for i, (before, after) in enumerate(pairwise([widths[0], *widths]))
        )
        self.layers = len(self.blocks)
        """Rows of w: one for each resolution."""
        self.apply(initialise)

    def style(self, z: Tensor, labels: Tensor | None = None, *, truncation: float | Tensor = 1.0) -> Tensor:
        """Latents (N, z_dim) to w (N, layers, z_dim), a row for each resolution, all alike. There are no labels, and
        the options are `forward`'s."""
        with torch.autocast(z.device.type, enabled=False):
            w: Tensor = self.mapping(z)
            if isinstance(truncation, Tensor) or truncation != 1:
                w = self.w_mean + (w - self.w_mean) * truncation
        return w[:, None].expand(-1, self.layers, -1)

    def style_weights(self) -> list[Tensor]:
        """The weights (channels, z_dim) by which each resolution takes its scales from its row of w."""
        return [block.style_weights() for block in self.blocks]  # type: ignore[operator]

    def synthesize(self, w: Tensor, *, noise: Noise | None = None, latent: Tensor | None = None) -> Tensor:
        """Images from w (N, layers, z_dim).

        Args:
            w: a row for each resolution; rows of several latents mix their styles.
            noise: as for `forward`.
            latent: numbers (N, ...) on which random noise depends; by default w.

        Returns:
            (N, channels, image_size, image_size).

        Raises:
            ConfigError: there is no such noise.
        """
        noise = noise_of(noise, training=self.training)
        size = len(self.noise_const)
        field = self.noise_const[None, None]
        if noise == "random":
            seeds = seeds_of(w if latent is None else latent)
            field = uniform_of(seeds, 0, size * size).reshape(-1, 1, size, size)
        elif noise == "none":
            field = torch.full_like(field, MEAN)
        if self.const is not None:
            x = self.const.expand(len(w), -1, -1, -1)
        else:
            x = self.project(w.mean(1)[:, :, None, None])  # type: ignore[misc]
        x = self.start(x.contiguous(memory_format=torch.channels_last))  # faster on a CPU
        image: Tensor | None = None
        for block, row in zip(self.blocks, w.unbind(1), strict=True):
            x, image = block(x, image, row, field)
        # Published images lie in [0, 1].
        return 2 * image - 1  # type: ignore[operator,return-value]  # each block draws

    def forward(self, z: Tensor, *, truncation: float | Tensor = 1.0, noise: Noise | None = None) -> Tensor:
        """Images from latents.

        Args:
            z: (N, z_dim).
            truncation: 1: none; towards 0, w moves to its mean, and images get better and more alike (the truncation
                trick, Karras et al. 2019, https://arxiv.org/abs/1812.04948, appendix B).
            noise: "random": noise that depends on z; "const": the same for all images, which belongs to the weights;
                "none": the mean of the noise everywhere; None: "random" in training and "const" in evaluation.

        Raises:
            ConfigError: there is no such noise.
        """
        return self.synthesize(self.style(z, truncation=truncation), noise=noise, latent=z)

    def estimate(self, z: Tensor) -> None:
        """Set the mean of w, which truncation moves towards, to that of these latents."""
        self.w_mean.copy_(self.style(z)[:, 0].mean(0))

    from_foreign = staticmethod(generator_from_foreign)


class Discriminator(nn.Module):
    """Images (N, channels, image_size, image_size) to logits (N,).

    Args:
        image_size: 4, 5, 6 or 7 times 2^k pixels, k >= 1.
        channels: of the images.
        width: channels of the first block; each later one has twice as many, up to `widest`.
        widest: the largest number of channels.
        attention: the numbers of the blocks, 0 the first, after which there is an attention.

    Raises:
        ConfigError: a size that is not of that form, or no such block.
    """

    def __init__(
        self, image_size: int = 64, channels: int = 3, width: int = 64, widest: int = 512, attention: Sequence[int] = ()
    ) -> None:
        super().__init__()
        base, k = stages(image_size)
        _check(attention, k + 2)
        widths = [channels, *(min(width * 2**i, widest) for i in range(k + 2))]
        self.blocks = nn.Sequential(
            *(Analysis(a, b, i <= k, i in attention) for i, (a, b) in enumerate(pairwise(widths)))
        )
        self.conv = nn.Conv2d(widths[-1], widths[-1], 3, padding=1)
        self.score = nn.Linear(widths[-1] * (-(-base // 2)) ** 2, 1)
        self.apply(initialise)

    def forward(self, images: Tensor) -> Tensor:
        x = self.conv(self.blocks(images / 2 + 0.5))  # published images lie in [0, 1]
        logits: Tensor = self.score(x.flatten(1))
        return logits.squeeze(1)

    from_foreign = staticmethod(discriminator_from_foreign)
