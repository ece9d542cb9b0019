"""The networks of Radford et al. 2015. At 64x64 with the defaults they are the published ones layer for layer."""

from itertools import pairwise

from torch import Tensor, nn

from ganzoo import ConfigError

WIDEST = 16
"""The channel count doubles at each halving of the resolution, up to this many times `width`."""


def stages(image_size: int) -> tuple[int, int]:
    """Base resolution and number of doublings: image_size = base * 2^k with base 4 or 7, k >= 1.

    Raises:
        ConfigError: a size that is not of that form.
    """
    for base in (4, 7):
        k = (image_size // base).bit_length() - 1
        if k >= 1 and base << k == image_size:
            return base, k
    sizes = sorted(base << k for base in (4, 7) for k in range(1, 10))
    near = min(sizes, key=lambda size: abs(size - image_size))
    raise ConfigError(
        f"DCGAN makes images of 8, 14, 16, 28, 32, 56, 64, ... pixels (4*2^k or 7*2^k), not {image_size}: "
        f"the nearest is --image-size {near}"
    )


def _initialise(module: nn.Module) -> None:
    """Section 4: all weights from N(0, 0.02); BatchNorm's scale around 1."""
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        nn.init.normal_(module.weight, 0.0, 0.02)
    elif isinstance(module, nn.BatchNorm2d):
        nn.init.normal_(module.weight, 1.0, 0.02)


class _Project(nn.ConvTranspose2d):
    """A transposed convolution of 1x1 inputs, as the matrix product it is: several times faster on a CPU."""

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        k = self.kernel_size[0]
        weight = self.weight.permute(0, 2, 3, 1).reshape(self.in_channels, -1)  # no copy in channels_last
        return (x.flatten(1) @ weight).view(-1, k, k, self.out_channels).permute(0, 3, 1, 2)


class _Score(nn.Conv2d):
    """A convolution to one 1x1 output, as the matrix product it is."""

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight.permute(0, 2, 3, 1).flatten()
        return x.permute(0, 2, 3, 1).flatten(1) @ weight


class Generator(nn.Module):
    """Latents (N, z_dim) to images (N, channels, image_size, image_size) in [-1, 1].

    Args:
        z_dim: size of the latent.
        image_size: 4*2^k or 7*2^k pixels, k >= 1.
        channels: of the images.
        width: channels of the last hidden layer; each layer before it has twice as many, up to 16 * width.

    Raises:
        ConfigError: a size that is not of that form.
    """

    def __init__(self, z_dim: int = 100, image_size: int = 64, channels: int = 3, width: int = 64) -> None:
        super().__init__()
        base, k = stages(image_size)
        widths = [width * min(2**i, WIDEST) for i in reversed(range(k))]
        layers: list[nn.Module] = [_Project(z_dim, widths[0], base, bias=False)]
        for before, after in zip(widths, [*widths[1:], channels], strict=True):
            layers += [nn.BatchNorm2d(before), nn.ReLU(inplace=True)]
            layers += [nn.ConvTranspose2d(before, after, 4, stride=2, padding=1, bias=False)]
        self.layers = nn.Sequential(*layers, nn.Tanh())
        self.apply(_initialise)

    def forward(self, z: Tensor) -> Tensor:
        return self.layers(z[:, :, None, None])


class Discriminator(nn.Module):
    """Images (N, channels, image_size, image_size) to logits (N,).

    Args:
        image_size: 4*2^k or 7*2^k pixels, k >= 1.
        channels: of the images.
        width: channels of the first layer; each later one has twice as many, up to 16 * width.

    Raises:
        ConfigError: a size that is not of that form.
    """

    def __init__(self, image_size: int = 64, channels: int = 3, width: int = 64) -> None:
        super().__init__()
        base, k = stages(image_size)
        widths = [width * min(2**i, WIDEST) for i in range(k)]
        layers: list[nn.Module] = [nn.Conv2d(channels, width, 4, stride=2, padding=1, bias=False)]
        for before, after in pairwise(widths):
            layers += [nn.LeakyReLU(0.2, inplace=True), nn.Conv2d(before, after, 4, stride=2, padding=1, bias=False)]
            layers += [nn.BatchNorm2d(after)]
        layers += [nn.LeakyReLU(0.2, inplace=True), _Score(widths[-1], 1, base, bias=False)]
        self.layers = nn.Sequential(*layers)
        self.apply(_initialise)

    def forward(self, images: Tensor) -> Tensor:
        return self.layers(images)
