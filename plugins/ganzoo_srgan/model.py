"""The networks and the objective of SRGAN: Ledig et al. 2017, https://arxiv.org/abs/1609.04802."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from ganzoo import Batch, ConfigError, Loss, Objective, Penalty, perceptual_distance

FACTOR = 4
"""How many times larger images are than inputs, where no size of inputs is given."""
LARGEST = 7
"""The discriminator halves maps that are larger than this."""
WIDEST = 8
"""Its number of channels doubles at each halving, up to this many times `width`."""


def _conv(inputs: int, outputs: int, size: int = 3, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, size, stride=stride, padding=size // 2)


class _Block(nn.Module):
    """A residual block: convolution, BatchNorm, PReLU, convolution, BatchNorm, and the sum with the input."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            _conv(width, width), nn.BatchNorm2d(width), nn.PReLU(), _conv(width, width), nn.BatchNorm2d(width)
        )

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layers(x)
        return x + y


class Generator(nn.Module):
    """Inputs (N, channels, H, W) in [-1, 1] to images (N, channels, factor * H, factor * W), by the network that the
    paper calls SRResNet (figure 4). The factor is image_size / input_size. Values may leave [-1, 1].

    Latents have no effect, and by default no numbers: (N, 0). Inputs may have any size.

    Args:
        z_dim: size of the latent.
        image_size: of the images in training.
        channels: of the images.
        input_size: of the inputs in training; None: a quarter of the images'.
        input_channels: of the inputs.
        width: channels of all feature maps.
        blocks: number of residual blocks.

    Raises:
        ConfigError: the factor is no power of two above 1, or there are no blocks.
    """

    unbounded = True

    def __init__(
        self,
        z_dim: int = 0,
        image_size: int = 96,
        channels: int = 3,
        input_size: int | None = None,
        input_channels: int = 3,
        width: int = 64,
        blocks: int = 16,
    ) -> None:
        super().__init__()
        factor = image_size // input_size if input_size else FACTOR
        if factor < 2 or factor & (factor - 1) or (input_size and factor * input_size != image_size):
            raise ConfigError(
                f"srgan enlarges inputs 2, 4, 8, ... times, and these have {input_size} pixels a side for images of "
                f"{image_size}: take --inputs smaller=4, or set data.input_size"
            )
        if blocks < 1:
            raise ConfigError(f"generator.blocks must be at least 1, not {blocks}")
        self.start = nn.Sequential(_conv(input_channels, width, 9), nn.PReLU())
        self.blocks = nn.Sequential(*(_Block(width) for _ in range(blocks)), _conv(width, width), nn.BatchNorm2d(width))
        doublings = []
        for _ in range(factor.bit_length() - 1):
            doublings += [_conv(width, 4 * width), nn.PixelShuffle(2), nn.PReLU()]
        self.enlarge = nn.Sequential(*doublings, _conv(width, channels, 9))

    def forward(self, z: Tensor, *, inputs: Tensor) -> Tensor:
        x = self.start(inputs)
        images: Tensor = self.enlarge(x + self.blocks(x))
        return images


class Discriminator(nn.Module):
    """Images (N, channels, image_size, image_size) to logits (N,): pairs of convolutions of 3x3, of which the second
    has stride 2, down to 4 to 7 pixels, and two fully connected layers (figure 4). With the defaults it is the
    published one.

    Args:
        image_size: any.
        channels: of the images.
        width: channels of the first pair; each later one has twice as many, up to 8 * width.
        hidden: units of the first fully connected layer.
    """

    def __init__(self, image_size: int = 96, channels: int = 3, width: int = 64, hidden: int = 1024) -> None:
        super().__init__()
        layers: list[nn.Module] = [_conv(channels, width), nn.LeakyReLU(0.2, inplace=True)]
        side, before, after = image_size, width, width
        while side > LARGEST:
            if side < image_size:
                layers += self._normed(before, after)
            layers += self._normed(after, after, stride=2)
            side, before, after = -(-side // 2), after, min(2 * after, WIDEST * width)
        layers += [nn.Flatten(), nn.Linear(before * side**2, hidden), nn.LeakyReLU(0.2, inplace=True)]
        self.layers = nn.Sequential(*layers, nn.Linear(hidden, 1), nn.Flatten(0))

    @staticmethod
    def _normed(inputs: int, outputs: int, stride: int = 1) -> list[nn.Module]:
        return [_conv(inputs, outputs, stride=stride), nn.BatchNorm2d(outputs), nn.LeakyReLU(0.2, inplace=True)]

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.layers(images)
        return logits


class SRGAN(Objective):
    """Equation 3 of the paper: a content loss and the adversarial loss. The content loss is the mean squared difference
    of pixels, a perceptual distance, or both.

    Args:
        loss, penalties, pack, augment, joint: as in the standard objective.
        pixel: weight of the mean squared difference of pixels, on [-1, 1].
        adversarial: weight of the adversarial loss.
        perceptual: weight of the perceptual distance; 0: there is none, and its features are not loaded.
        features: what it is computed by: "mnist" for digits, "auto[=FILE]" or "timm:NAME[=FILE]".

    Raises:
        ConfigError: a weight below 0, or all of them 0.
        EvaluationError: the weights of the features cannot be loaded.
    """

    needs_pairs = True

    def __init__(
        self,
        loss: Loss,
        penalties: Sequence[Penalty] = (),
        pack: int = 1,
        augment: Sequence[str] = (),
        joint: bool = False,
        pixel: float = 1.0,
        adversarial: float = 1e-3,
        perceptual: float = 0.0,
        features: str = "auto",
    ) -> None:
        weights = {"pixel": pixel, "adversarial": adversarial, "perceptual": perceptual}
        for name, weight in weights.items():
            if not weight >= 0:
                raise ConfigError(f"objective.{name} must be at least 0, not {weight}")
        if not any(weights.values()):
            raise ConfigError("objective.pixel, adversarial and perceptual are all 0: set one of them above 0")
        super().__init__(loss, penalties, pack, augment, joint)
        self.pixel, self.adversarial, self.perceptual = pixel, adversarial, perceptual
        self.distance = perceptual_distance(features) if perceptual else None

    def generator_loss(self, g: nn.Module, d: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of the generator. It logs `g_loss`, `pixel` and `perceptual` without their weights."""
        fake = batch.fake(g).to(batch.real.dtype)
        difference = mse_loss(fake, batch.real)
        total, logs = self.pixel * difference, {"pixel": difference}
        if self.adversarial:
            value, own = super().generator_loss(g, d, batch)
            total, logs = total + self.adversarial * value, {**own, **logs}
        if self.distance is not None:
            with torch.autocast(fake.device.type, enabled=False):
                distance = self.distance.to(fake.device)(fake, batch.real).mean()
            total, logs = total + self.perceptual * distance, {**logs, "perceptual": distance}
        return total, logs
