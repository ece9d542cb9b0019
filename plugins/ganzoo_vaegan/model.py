"""VAE/GAN (Larsen et al. 2016) on DCGAN's networks. The encoder is part of the generator, so that it is averaged,
published and loaded with it."""

import dataclasses
from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from ganzoo import Batch, ConfigError, Loss, Objective, Penalty
from ganzoo_dcgan.model import WIDEST, Gather, stages
from ganzoo_dcgan.model import Discriminator as DCGANDiscriminator
from ganzoo_dcgan.model import Generator as DCGANGenerator


class Generator(DCGANGenerator):
    """Latents (N, z_dim) to images (N, channels, image_size, image_size) in [-1, 1], and by `encode` back.

    Args:
        z_dim: size of the latent.
        image_size: 4*2^k or 7*2^k pixels, k >= 1.
        channels: of the images.
        width: channels at the largest resolution, of the encoder too.
        hidden: units of a fully connected layer after the latent; 0: none.

    Raises:
        ConfigError: a size that is not of that form.
    """

    def __init__(
        self, z_dim: int = 64, image_size: int = 64, channels: int = 3, width: int = 64, hidden: int = 0
    ) -> None:
        super().__init__(z_dim, image_size, channels, width, hidden)
        # BatchNorm's statistics are those of latents from N(0, I); what the encoder gives is not quite that.
        for i, layer in enumerate(self.layers):
            if isinstance(layer, nn.BatchNorm2d):
                self.layers[i] = nn.GroupNorm(1, layer.num_features)
        base, k = stages(image_size)
        widths = [channels, *(width * min(2**i, WIDEST) for i in range(k))]
        layers: list[nn.Module] = []
        for before, after in pairwise(widths):
            layers += [nn.Conv2d(before, after, 4, stride=2, padding=1), nn.LeakyReLU(0.2, inplace=True)]
        self.encoder = nn.Sequential(*layers, nn.Flatten(), nn.Linear(widths[-1] * base**2, 2 * z_dim))

    def encode(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance (N, z_dim) of the latents that images (N, C, H, W) in [-1, 1] may have come from."""
        mean, log_variance = self.encoder(images).to(images.dtype).chunk(2, 1)
        return mean, log_variance.clamp(-10, 10)


class Discriminator(DCGANDiscriminator):
    """Images (N, channels, image_size, image_size) to logits (N,); `features` gives what likeness is measured on.

    Args:
        image_size: 4*2^k or 7*2^k pixels, k >= 1.
        channels: of the images.
        width: channels of the first layer.
        norm: "batch", "spectral" or None.
        hidden: units of a fully connected layer before the logit; 0: none.

    Raises:
        ConfigError: a size that is not of that form, or another norm.
    """

    def __init__(
        self, image_size: int = 64, channels: int = 3, width: int = 64, norm: str | None = "batch", hidden: int = 0
    ) -> None:
        super().__init__(image_size, channels, width, norm, hidden)

    def features(self, images: Tensor) -> Tensor:
        """(N, C, H, W), the activations of the last convolution that leaves a map."""
        for layer in self.layers:
            if isinstance(layer, Gather):
                break
            images = layer(images)
        return images


class VAEGAN(Objective):
    """Algorithm 1: the generator decodes latents that the encoder drew for real images, and D's features judge how like
    these the result is. Half of the fakes that D sees are such reconstructions, half are samples.

    Args:
        loss, penalties: as the standard objective has them.
        mode: "vaegan"; "vae", which compares pixels instead and leaves D's judgement out; or "autoencoder", which does
            not ask latents to be N(0, I) either, so it reconstructs best and its samples mean nothing.
        likeness: weight of the mean squared difference, as a part of what the batch's mean would leave.
        beta: weight of the Kullback-Leibler divergence of the latents from N(0, I), in nats an image.

    Raises:
        ConfigError: another mode.
    """

    def __init__(
        self,
        loss: Loss,
        penalties: Sequence[Penalty] = (),
        mode: Literal["vaegan", "vae", "autoencoder"] = "vaegan",
        likeness: float = 1.0,
        beta: float = 0.2,
    ) -> None:
        if mode not in ("vaegan", "vae", "autoencoder"):
            raise ConfigError(f"objective.mode must be vaegan, vae or autoencoder, not {mode!r}")
        super().__init__(loss, penalties)
        self.mode, self.likeness, self.beta = mode, likeness, beta

    def rebuilt(self, g: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
        """The real images encoded and decoded, and the divergence of their latents."""
        mean, log_variance = g.encode(batch.real)  # type: ignore[operator]
        divergence = (mean.square() + log_variance.exp() - log_variance - 1).sum(1).mean() / 2
        if self.mode != "autoencoder":
            mean = mean + batch.rng.randn(*mean.shape) * (log_variance / 2).exp()
        return g(mean), divergence

    def discriminator_loss(self, g: nn.Module, d: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        with torch.no_grad():
            rebuilt, _ = self.rebuilt(g, batch)
        return super().discriminator_loss(g, d, _half(batch, batch.fake(g, graph=False), rebuilt))

    def generator_loss(self, g: nn.Module, d: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Logged besides: `likeness`, the mean squared difference as a part of what the batch's mean would leave, and
        `divergence`."""
        rebuilt, divergence = self.rebuilt(g, batch)
        describe = d.features if self.mode == "vaegan" else lambda images: images
        with torch.no_grad():
            wanted = describe(batch.real)  # type: ignore[operator]
            whole = wanted if batch.whole is None else describe(batch.whole_real())  # type: ignore[operator]
            left = mse_loss(whole, whole.mean(0).expand_as(whole))
        likeness = mse_loss(describe(rebuilt), wanted) / left  # type: ignore[operator]
        if self.mode == "vaegan":
            total, logs = super().generator_loss(g, d, _half(batch, batch.fake(g), rebuilt))
        else:
            total, logs = torch.zeros_like(likeness), {}
        total = total + self.likeness * likeness
        if self.mode != "autoencoder":
            total = total + self.beta * divergence
        return total, {**logs, "likeness": likeness, "divergence": divergence}


def _half(batch: Batch, samples: Tensor, rebuilt: Tensor) -> Batch:
    """The batch with fakes of both kinds in turn, so that each process has as many of each."""
    odd = torch.arange(len(samples), device=samples.device) % 2 == 1
    return dataclasses.replace(batch, fakes=torch.where(odd[:, None, None, None], rebuilt.to(samples.dtype), samples))
