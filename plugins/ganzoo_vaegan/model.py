"""VAE/GAN (Larsen et al. 2016, https://arxiv.org/abs/1512.09300) on DCGAN's networks. The encoder is part of the
generator, so that it is averaged, published and loaded with it."""

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
    """The decoder: latents (N, z_dim) to images (N, channels, image_size, image_size) in [-1, 1]. `encode` maps images
    back to latents.

    Args:
        z_dim: size of the latent.
        image_size: 4, 5, 6 or 7 times 2^k pixels, k >= 1.
        channels: of the images.
        width: channels at the largest resolution, of the decoder and of the encoder.
        hidden: units of a fully connected layer after the latent; 0: none.
        skip: whether an image is drawn at each resolution, and added to the next one.
        modulated: whether the latent scales and shifts what each normalisation gives.
        fine: channels of a feature map of the full size, from which the image is drawn; 0: none.

    Raises:
        ConfigError: a size that is not of that form.
    """

    def __init__(
        self,
        z_dim: int = 64,
        image_size: int = 64,
        channels: int = 3,
        width: int = 64,
        hidden: int = 0,
        skip: bool = False,
        modulated: bool = False,
        fine: int = 0,
    ) -> None:
        super().__init__(z_dim, image_size, channels, width, hidden, skip, modulated, fine)
        # BatchNorm would learn the statistics of latents from N(0, I), and those of encoded images differ a little.
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
        """Mean and log-variance, each (N, z_dim), of the approximate posterior over the latents of images (N, C, H, W)
        in [-1, 1]."""
        mean, log_variance = self.encoder(images).to(images.dtype).chunk(2, 1)
        return mean, log_variance.clamp(-10, 10)


class Discriminator(DCGANDiscriminator):
    """Images (N, channels, image_size, image_size) to logits (N,). `features` gives the activations on which
    reconstructions are compared with the originals.

    Args:
        image_size: 4, 5, 6 or 7 times 2^k pixels, k >= 1.
        channels: of the images.
        width: channels of the first layer.
        norm: "batch", "spectral" or None.
        hidden: units of a fully connected layer before the logit; 0: none.

    Raises:
        ConfigError: a size that is not of that form, or an unknown norm.
    """

    def __init__(
        self,
        image_size: int = 64,
        channels: int = 3,
        width: int = 64,
        norm: str | None = "batch",
        hidden: int = 0,
    ) -> None:
        super().__init__(image_size, channels, width, norm, hidden)

    def features(self, images: Tensor) -> Tensor:
        """(N, C, H, W): the activations of the last convolution whose output is still a feature map."""
        for layer in self.layers:
            if isinstance(layer, Gather):
                break
            images = layer(images)
        return images


class VAEGAN(Objective):
    """Algorithm 1 of the paper. The encoder minimises the divergence of its latents from the prior and the difference
    of reconstructions from the originals, measured on D's features (L_prior and L_llike); the decoder minimises that
    difference and the adversarial loss. Half of the fakes that D sees are reconstructions and half are samples from the
    prior. The adversarial loss does not reach the encoder.

    Args:
        loss, penalties, joint: as in the standard objective.
        mode: "vaegan"; "vae", which compares pixels and leaves the adversarial loss out; or "autoencoder", which leaves
            out noise and prior as well: it reconstructs best, but latents from N(0, I) give no useful samples.
        likeness: weight of the mean squared difference of reconstructions, which is divided by that of the batch's
            mean, so that 1 is no better than a constant. It is the paper's gamma for the decoder; for the encoder the
            ratio to `beta` decides.
        beta: weight of the Kullback-Leibler divergence of the latents from N(0, I), in nats an image.

    Raises:
        ConfigError: an unknown mode.
    """

    def __init__(
        self,
        loss: Loss,
        penalties: Sequence[Penalty] = (),
        mode: Literal["vaegan", "vae", "autoencoder"] = "vaegan",
        likeness: float = 1.0,
        beta: float = 0.2,
        joint: bool = False,
    ) -> None:
        if mode not in ("vaegan", "vae", "autoencoder"):
            raise ConfigError(f"objective.mode must be vaegan, vae or autoencoder, not {mode!r}")
        super().__init__(loss, penalties, joint=joint)
        self.mode, self.likeness, self.beta = mode, likeness, beta

    def latents(self, g: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
        """Latents (N, z_dim) of the real images, drawn from the encoder's posterior (its mean in the mode
        "autoencoder"), and the posterior's divergence from N(0, I), a scalar."""
        mean, log_variance = g.encode(batch.real)  # type: ignore[operator]
        divergence = (mean.square() + log_variance.exp() - log_variance - 1).sum(1).mean() / 2
        if self.mode != "autoencoder":
            mean = mean + batch.rng.randn(*mean.shape) * (log_variance / 2).exp()
        return mean, divergence

    def discriminator_loss(self, g: nn.Module, d: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        with torch.no_grad():
            latents, _ = self.latents(g, batch)
            mixed = _mixed(g, batch.fake(g, graph=False), latents)
        return super().discriminator_loss(g, d, dataclasses.replace(batch, fakes=mixed))

    def generator_loss(self, g: nn.Module, d: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of encoder and decoder. It also logs `likeness`, the mean squared difference of reconstructions
        relative to that of the batch's mean, and `divergence`."""
        latents, divergence = self.latents(g, batch)
        features = d.features if self.mode == "vaegan" else nn.Identity()
        with torch.no_grad():
            real = features(batch.real)  # type: ignore[operator]
            whole = real if batch.whole is None else features(batch.whole_real())  # type: ignore[operator]
            spread = mse_loss(whole, whole.mean(0).expand_as(whole))
        likeness = mse_loss(features(g(latents)), real) / spread  # type: ignore[operator]
        if self.mode == "vaegan":
            # Decoded a second time from detached latents, so that the adversarial loss stops at the decoder.
            mixed = _mixed(g, batch.fake(g), latents.detach())
            total, logs = super().generator_loss(g, d, dataclasses.replace(batch, fakes=mixed))
        else:
            total, logs = torch.zeros_like(likeness), {}
        total = total + self.likeness * likeness
        if self.mode != "autoencoder":
            total = total + self.beta * divergence
        return total, {**logs, "likeness": likeness, "divergence": divergence}


def _mixed(g: nn.Module, samples: Tensor, latents: Tensor) -> Tensor:
    """`samples` with every second one, from the second on, replaced by the image that `g` decodes from its latent. The
    two kinds alternate so that every process has as many of each."""
    if len(latents) < 2:
        return samples
    mixed = samples.clone()
    mixed[1::2] = g(latents[1::2])
    return mixed
