"""The regularisation of StyleGAN2's generator: style mixing and path length."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ganzoo import Batch, ConfigError, Loss, Objective, Penalty, Rng


class StyleGAN2(Objective, nn.Module):
    """The adversarial loss, a share of images of mixed styles, and the regularisation of path lengths.

    Args:
        loss, penalties, pack, augment, joint: as in the standard objective.
        style_mixing: share of generated images whose layers take w from one latent up to a random layer, and from
            another one from there on (Karras et al. 2019, https://arxiv.org/abs/1812.04948, section 3.1).
        path_length: weight of (|J^T y| - a)^2, in which J is the derivative of the image by w, y is an image of noise
            and a is the running mean of |J^T y| (Karras et al. 2020, equation 4); 0: none.
        path_every: steps from one evaluation of that term to the next, by which it is multiplied.
        path_share: it is computed for every such latent of the batch.
        path_decay: how fast the running mean follows.

    Raises:
        ConfigError: a number is out of range.
    """

    path_mean: Tensor

    def __init__(
        self,
        loss: Loss,
        penalties: Sequence[Penalty] = (),
        pack: int = 1,
        augment: Sequence[str] = (),
        joint: bool = False,
        style_mixing: float = 0.9,
        path_length: float = 2.0,
        path_every: int = 4,
        path_share: int = 2,
        path_decay: float = 0.01,
    ) -> None:
        nn.Module.__init__(self)
        Objective.__init__(self, loss, penalties, pack, augment, joint)
        if not 0 <= style_mixing <= 1 or not 0 < path_decay <= 1 or path_length < 0:
            raise ConfigError("style_mixing lies from 0 to 1, path_decay above 0 to 1, and path_length is at least 0")
        if path_every < 1 or path_share < 1:
            raise ConfigError("path_every and path_share are at least 1")
        self.style_mixing, self.path_length = style_mixing, path_length
        self.path_every, self.path_share, self.path_decay = path_every, path_share, path_decay
        self.register_buffer("path_mean", torch.zeros(()))

    def discriminator_loss(self, g: nn.Module, d: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """As in the standard objective."""
        return super().discriminator_loss(_Mixing(self, g, batch.rng), d, batch)

    def joins(self, d: nn.Module, n: int) -> bool:
        """As in the standard objective, or where the groups of the minibatch standard deviation stay the same."""
        keeps_groups = getattr(d, "keeps_groups", lambda n: False)
        return super().joins(d, n) or keeps_groups(n)

    def generator_loss(self, g: nn.Module, d: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """As in the standard objective. It also logs `path_length`, the mean of |J^T y|, and `path`, the weighted term,
        in the steps that compute them."""
        total, logs = super().generator_loss(_Mixing(self, g, batch.rng), d, batch)
        if self.path_length and batch.step % self.path_every == 0:
            lengths = self.path_lengths(g, batch)
            term = self.path_length * (lengths - self.path_mean).square().mean()
            total = total + self.path_every * term
            logs |= {"path_length": lengths.mean(), "path": term}
        return total, logs

    def observe(self, logs: dict[str, Tensor]) -> None:
        if "path_length" in logs:
            self.path_mean.lerp_(logs["path_length"].detach(), self.path_decay)

    def path_lengths(self, g: nn.Module, batch: Batch) -> Tensor:
        """|J^T y| for every `path_share`-th latent of the batch, (n,), with a graph."""
        rng = batch.rng.child("path")
        labels = batch.fake_labels
        # A derivative of a derivative needs fp32. Rows at equal distances are the same however a batch is split.
        with torch.autocast(batch.z.device.type, enabled=False):
            w = self.mixed(g, batch.z, labels, rng)[:: self.path_share]
            images = g.synthesize(w, latent=batch.z[:: self.path_share])  # type: ignore[operator]
            y = rng.randn(len(batch.z), *images.shape[1:])[:: self.path_share]
            along = (images * y).sum() / (images.shape[2] * images.shape[3]) ** 0.5
            (gradient,) = torch.autograd.grad(along, w, create_graph=True)
            return gradient.square().sum(2).mean(1).sqrt()

    def mixed(self, g: nn.Module, z: Tensor, labels: Tensor | None, rng: Rng) -> Tensor:
        """w (N, layers, w_dim) of these latents, with another latent's from a random layer on for a share of them."""
        w: Tensor = g.style(z, labels)  # type: ignore[operator]
        if not self.style_mixing:
            return w
        rng = rng.child("mixing")
        n, layers = w.shape[:2]
        first = 1 + rng.randint(layers - 1, n)
        first = first.where(rng.rand(n) < self.style_mixing, torch.full_like(first, layers))
        other: Tensor = g.style(rng.randn(*z.shape), labels)  # type: ignore[operator]
        keep = torch.arange(layers, device=w.device) < first[:, None]
        return torch.where(keep[:, :, None], w, other)


class _Mixing(nn.Module):
    """The generator with mixed styles, as `Batch.fake` calls it."""

    def __init__(self, objective: StyleGAN2, g: nn.Module, rng: Rng) -> None:
        super().__init__()
        self.call = objective, g, rng  # in a tuple, so that they are no submodules

    def forward(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        objective, g, rng = self.call
        w = objective.mixed(g, z, labels, rng)
        images: Tensor = g.synthesize(w, latent=z)  # type: ignore[operator]
        return images
