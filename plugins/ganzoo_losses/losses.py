"""Adversarial losses on raw logits r = D(x) of real and f = D(G(z)) of generated items. Each gives one value per logit.
sigma is the logistic function, so that -log sigma(t) = softplus(-t)."""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import relu, softplus

from ganzoo import Loss


class Minimax(Loss):
    """Goodfellow et al. 2014, equation 1: D maximises log sigma(r) + log(1 - sigma(f)), G minimises its second term.

    G's gradient vanishes where D is sure that an item is fake; `NonSaturating` avoids that.
    """

    boundary = 0.0

    def discriminator(self, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
        return softplus(-real_logits) + softplus(fake_logits)

    def generator(self, fake_logits: Tensor, real_logits: Tensor | None = None) -> Tensor:
        return -softplus(fake_logits)


class NonSaturating(Minimax):
    """Goodfellow et al. 2014, section 3: D minimises the same loss as in minimax, G minimises -log sigma(f)."""

    def generator(self, fake_logits: Tensor, real_logits: Tensor | None = None) -> Tensor:
        return softplus(-fake_logits)


class LeastSquares(Loss):
    """Mao et al. 2016, equation 9 (a = 0, b = c = 1): D minimises ((r - 1)^2 + f^2) / 2, G (f - 1)^2 / 2."""

    boundary = 0.5

    def discriminator(self, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
        return ((real_logits - 1).square() + fake_logits.square()) / 2

    def generator(self, fake_logits: Tensor, real_logits: Tensor | None = None) -> Tensor:
        return (fake_logits - 1).square() / 2


class Hinge(Loss):
    """Lim & Ye 2017: D minimises max(0, 1 - r) + max(0, 1 + f), G -f."""

    boundary = 0.0

    def discriminator(self, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
        return relu(1 - real_logits) + relu(1 + fake_logits)

    def generator(self, fake_logits: Tensor, real_logits: Tensor | None = None) -> Tensor:
        return -fake_logits


class Wasserstein(Loss):
    """Arjovsky et al. 2017, equations 2 and 3: the critic minimises f - r, G -f.

    Args:
        clip: after each update the critic's weights are clipped to [-clip, clip]; None: they are not; "auto": 0.01 as
            in the paper, or None if a penalty already bounds the critic's gradient.
        penalized: whether there is such a penalty; set by the trainer.

    Raises:
        ValueError: a clip that is not positive.
    """

    def __init__(self, clip: float | Literal["auto"] | None = "auto", penalized: bool = False) -> None:
        if clip == "auto":
            clip = None if penalized else 0.01
        if isinstance(clip, str) or (clip is not None and clip <= 0):
            raise ValueError(f"clip must be 'auto', none or a number above 0, not {clip!r}")
        self.clip = clip

    def discriminator(self, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
        return fake_logits - real_logits

    def generator(self, fake_logits: Tensor, real_logits: Tensor | None = None) -> Tensor:
        return -fake_logits

    @torch.no_grad()
    def after_discriminator_step(self, d: nn.Module) -> None:
        if self.clip is not None:
            weights: list[Tensor] = list(d.parameters())
            torch._foreach_clamp_min_(weights, -self.clip)
            torch._foreach_clamp_max_(weights, self.clip)


class RelativisticPairing(Loss):
    """Jolicoeur-Martineau 2018, as used by Huang et al. 2024 (R3GAN), equation 2, on pairs of a real and a generated
    item: D minimises -log sigma(r - f), G -log sigma(f - r)."""

    needs_real = True

    def discriminator(self, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
        return softplus(fake_logits - real_logits)

    def generator(self, fake_logits: Tensor, real_logits: Tensor | None = None) -> Tensor:
        if real_logits is None:
            raise TypeError("the relativistic loss needs the real logits too")
        return softplus(real_logits - fake_logits)
