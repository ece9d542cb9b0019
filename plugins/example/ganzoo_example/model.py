"""The networks of `example`. Every keyword argument has a default; their values are stored with the weights."""

from torch import Tensor, nn

from ganzoo import ConfigError


def quarter(image_size: int) -> int:
    """The side of the smallest feature map.

    Raises:
        ConfigError: a size that is not a multiple of 4.
    """
    if image_size < 4 or image_size % 4:
        raise ConfigError(f"example makes images of 4, 8, 12, ... pixels, not {image_size}: change --image-size")
    return image_size // 4


class Generator(nn.Module):
    """Latents (N, z_dim) from N(0, I) to images (N, channels, image_size, image_size) in [-1, 1]."""

    def __init__(self, z_dim: int = 64, image_size: int = 28, channels: int = 1, width: int = 32) -> None:
        super().__init__()
        side = quarter(image_size)
        self.layers = nn.Sequential(
            nn.Linear(z_dim, 4 * width * side**2),
            nn.Unflatten(1, (4 * width, side, side)),
            nn.BatchNorm2d(4 * width),
            nn.ReLU(),
            nn.ConvTranspose2d(4 * width, 2 * width, 4, stride=2, padding=1),
            nn.BatchNorm2d(2 * width),
            nn.ReLU(),
            nn.ConvTranspose2d(2 * width, channels, 4, stride=2, padding=1),
            nn.Tanh(),
        )

    def forward(self, z: Tensor) -> Tensor:
        images: Tensor = self.layers(z)
        return images


class Discriminator(nn.Module):
    """Images (N, channels, image_size, image_size) to logits (N,). There is no sigmoid: the loss applies it."""

    def __init__(self, image_size: int = 28, channels: int = 1, width: int = 32) -> None:
        super().__init__()
        side = quarter(image_size)
        self.layers = nn.Sequential(
            nn.Conv2d(channels, 2 * width, 4, stride=2, padding=1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(2 * width, 4 * width, 4, stride=2, padding=1),
            nn.LeakyReLU(0.2),
            nn.Flatten(),
            nn.Linear(4 * width * side**2, 1),
        )

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.layers(images).squeeze(1)
        return logits
