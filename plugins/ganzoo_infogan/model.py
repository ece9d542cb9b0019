"""InfoGAN (Chen et al. 2016, https://arxiv.org/abs/1606.03657) on DCGAN's networks: part of the latent is a code, and a
second head of the discriminator recovers it from the image."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, mse_loss, one_hot

from ganzoo import Batch, ConfigError, Loss, Objective, Penalty, Rng
from ganzoo_dcgan.model import Discriminator as DCGANDiscriminator
from ganzoo_dcgan.model import Generator as DCGANGenerator


class Generator(DCGANGenerator):
    """Latents (N, z_dim + categories + continuous) to images (N, channels, image_size, image_size) in [-1, 1].

    A latent is the concatenation of noise from N(0, I), a one-hot category, and continuous codes that are uniform on
    [-1, 1].

    Args:
        z_dim: size of the noise.
        image_size: 4, 5, 6 or 7 times 2^k pixels, k >= 1.
        channels: of the images.
        width: channels of the last hidden layer.
        hidden: units of a fully connected layer after the latent; 0: none.
        skip: whether an image is drawn at each resolution, and added to the next one.
        modulated: whether the latent scales and shifts what each normalisation gives.
        fine: channels of a feature map of the full size, from which the image is drawn; 0: none.
        palette: number of colours of which each pixel is a mixture; 0: colours are drawn as they are.
        categories: number of values of the categorical code, at least 2.
        continuous: number of continuous codes, at least 0.

    Raises:
        ConfigError: too few categories or codes, or a size that is not of that form.
    """

    def __init__(
        self,
        z_dim: int = 62,
        image_size: int = 64,
        channels: int = 3,
        width: int = 64,
        hidden: int = 0,
        skip: bool = False,
        modulated: bool = False,
        fine: int = 0,
        palette: int = 0,
        categories: int = 10,
        continuous: int = 2,
    ) -> None:
        if categories < 2 or continuous < 0:
            raise ConfigError(
                f"a code needs at least 2 categories and 0 continuous codes, not {categories} and {continuous}"
            )
        super().__init__(
            z_dim + categories + continuous, image_size, channels, width, hidden, skip, modulated, fine, palette
        )
        self.sizes = [z_dim, categories, continuous]

    def draw_latent(self, n: int, rng: Rng) -> Tensor:
        """Random latents (n, z_dim + categories + continuous)."""
        noise, categories, continuous = self.sizes
        category = one_hot(rng.randint(categories, n), categories)
        return torch.cat([rng.randn(n, noise), category, 2 * rng.rand(n, continuous) - 1], 1)

    def code(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """The code in latents (N, ...): category (N,) and continuous codes (N, continuous)."""
        _, category, values = torch.split(z, self.sizes, 1)
        return category.argmax(1), values

    def along(self, z: Tensor, turn: float) -> Tensor:
        """The latents of a walk at a fraction `turn` of its way, in [0, 1]: the first continuous code goes from 1 to -1
        and back, or, where there is none, the category takes all its values."""
        noise, category, values = torch.split(z, self.sizes, 1)
        if self.sizes[2]:
            first = torch.full_like(values[:, :1], math.cos(2 * math.pi * turn))
            values = torch.cat([first, values[:, 1:]], 1)
        else:
            shifted = (category.argmax(1) + int(turn * self.sizes[1])) % self.sizes[1]
            category = one_hot(shifted, self.sizes[1]).to(z)
        return torch.cat([noise, category, values], 1)


class Discriminator(DCGANDiscriminator):
    """Images (N, channels, image_size, image_size) to logits (N,). `recover` estimates their codes from the same
    features.

    Args:
        image_size: 4, 5, 6 or 7 times 2^k pixels, k >= 1.
        channels: of the images.
        width: channels of the first layer.
        norm: "batch", "spectral" or None.
        hidden: units of a fully connected layer before the logit; 0: none.
        categories, continuous: of the code, as in the generator.

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
        categories: int = 10,
        continuous: int = 2,
    ) -> None:
        super().__init__(image_size, channels, width, norm, hidden)
        self.categories = categories
        self.recogniser = nn.Sequential(
            nn.Linear(self.num_features, 128), nn.LeakyReLU(0.2), nn.Linear(128, categories + continuous)
        )

    def recover(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (N, categories) of the category and estimates (N, continuous) of the continuous codes."""
        estimates = self.recogniser(self.layers[:-1](images).flatten(1))
        return estimates[:, : self.categories], estimates[:, self.categories :]


class InfoGAN(Objective):
    """The adversarial loss, and a lower bound on the mutual information of image and code (equations 5 and 6) that both
    networks maximise: the log-likelihood of the code under the distribution that D recovers, which is categorical for
    the category and a Gaussian of standard deviation 1 for each continuous code.

    Args:
        loss, penalties, augment, joint: as in the standard objective.
        weight: lambda, the weight of the information.
    """

    def __init__(
        self,
        loss: Loss,
        penalties: Sequence[Penalty] = (),
        augment: Sequence[str] = (),
        weight: float = 1.0,
        joint: bool = False,
    ) -> None:
        super().__init__(loss, penalties, augment=augment, joint=joint)
        self.weight = weight

    def information(self, g: nn.Module, d: nn.Module, fake: Tensor, batch: Batch) -> Tensor:
        """The negative log-likelihood of the code of `fake` (N, C, H, W), a scalar, without its constant term."""
        category, values = g.code(batch.z)  # type: ignore[operator]
        logits, estimates = d.recover(self.present(fake, batch))  # type: ignore[operator]
        # One-hot targets, as the loss of class indices is not deterministic on CUDA.
        loss = cross_entropy(logits, one_hot(category, logits.shape[1]).to(logits.dtype))
        return loss + mse_loss(estimates, values) / 2 * values.shape[1] if values.shape[1] else loss

    def discriminator_loss(self, g: nn.Module, d: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        total, logs = super().discriminator_loss(g, d, batch)
        code = self.information(g, d, batch.fake(g, graph=False), batch)
        return total + self.weight * code, logs

    def generator_loss(self, g: nn.Module, d: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """As in the standard objective. It also logs `code`, the negative log-likelihood of the code."""
        total, logs = super().generator_loss(g, d, batch)
        code = self.information(g, d, batch.fake(g), batch)
        return total + self.weight * code, {**logs, "code": code}
