"""The networks of `example_inputs`. A forward pass that names `inputs` is called with them."""

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from ganzoo import Batch, Objective


class Generator(nn.Module):
    """Latents (N, z_dim) and inputs (N, input_channels, h, w) to images (N, channels, image_size, image_size)."""

    def __init__(
        self, z_dim: int = 8, image_size: int = 28, channels: int = 1, input_channels: int = 1, width: int = 32
    ) -> None:
        super().__init__()
        self.encode = nn.Sequential(nn.Conv2d(input_channels, width, 4, stride=2, padding=1), nn.LeakyReLU(0.2))
        self.shift = nn.Linear(z_dim, width)
        self.decode = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1),
            nn.LeakyReLU(0.2),
            nn.Upsample(image_size),
            nn.Conv2d(width, channels, 3, padding=1),
            nn.Tanh(),
        )

    def forward(self, z: Tensor, *, inputs: Tensor) -> Tensor:
        images: Tensor = self.decode(self.encode(inputs) + self.shift(z)[:, :, None, None])
        return images


class Discriminator(nn.Module):
    """Images and the inputs they belong to, to a logit for each patch, (N, h, w)."""

    def __init__(self, channels: int = 1, input_channels: int = 1, width: int = 32) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(channels + input_channels, width, 4, stride=2, padding=1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(width, 1, 4, stride=2, padding=1),
        )

    def forward(self, images: Tensor, *, inputs: Tensor) -> Tensor:
        logits: Tensor = self.layers(torch.cat([images, interpolate(inputs, images.shape[2:])], 1)).squeeze(1)
        return logits


class Nearby(Objective):
    """The adversarial loss, and the mean distance from the image that the input belongs to."""

    def generator_loss(self, g: nn.Module, d: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        value, logs = super().generator_loss(g, d, batch)
        distance = (batch.fake(g) - batch.real).abs().mean()
        return value + 10 * distance, {**logs, "distance": distance}
