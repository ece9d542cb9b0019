"""The networks of Donahue et al. 2019 (WaveGAN, https://arxiv.org/abs/1802.04208), appendix D: those of DCGAN in one
dimension, with filters of width 25 and strides of 4. With the defaults they are the published ones layer for layer."""

import contextlib
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from ganzoo import Batch, ConfigError, Objective
from ganzoo_dcgan.model import ClassEmbedding

START = 16
"""Samples of the generator's first feature map, and of the critic's last one."""
WIDTH = 25
"""Samples of a filter."""
STRIDE = 4


def stages(length: int) -> int:
    """The number k of layers such that length = 16 * 4^k, from 1 to 6, the largest that the authors have.

    Raises:
        ConfigError: a length that is not of that form.
    """
    lengths = [START * STRIDE**k for k in range(1, 7)]
    if length in lengths:
        return lengths.index(length) + 1
    near = min(lengths, key=lambda other: abs(other - length))
    raise ConfigError(
        f"sounds must have {', '.join(map(str, lengths))} samples (16*4^k), not {length}: the nearest is "
        f"--set data.length={near}"
    )


def _initialise(module: nn.Module) -> None:
    """As in the authors' code: weights uniform as in Glorot & Bengio 2010, biases of 0."""
    if isinstance(module, nn.Conv1d | nn.ConvTranspose1d | nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        nn.init.zeros_(module.bias)  # type: ignore[arg-type]  # all of these have one


class Generator(nn.Module):
    """Latents (N, z_dim) to sounds (N, channels, length) in [-1, 1].

    Args:
        z_dim: size of the latent.
        length: 16*4^k samples, k from 1 to 6.
        channels: of the sounds.
        width: channels of the last hidden layer; each layer before it has twice as many.
        num_classes: number of classes of a class-conditional generator, which is also called with labels (N,): an
            embedding of the class is appended to the latent.

    Raises:
        ConfigError: a length that is not of that form.
    """

    def __init__(
        self,
        z_dim: int = 100,
        length: int = 16384,
        channels: int = 1,
        width: int = 64,
        num_classes: int | None = None,
    ) -> None:
        super().__init__()
        widths = [width << i for i in reversed(range(stages(length)))]
        self.embed = None if num_classes is None else ClassEmbedding(num_classes, z_dim)
        layers: list[nn.Module] = [
            nn.Linear(z_dim if num_classes is None else 2 * z_dim, widths[0] * START),
            nn.Unflatten(1, (widths[0], START)),
        ]
        for before, after in pairwise([*widths, channels]):
            layers += [nn.ReLU(inplace=True)]
            layers += [nn.ConvTranspose1d(before, after, WIDTH, STRIDE, padding=11, output_padding=1)]
        self.layers = nn.Sequential(*layers, nn.Tanh())
        self.apply(_initialise)

    def forward(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        if self.embed is not None:
            z = torch.cat([z, self.embed(labels)], 1)
        sounds: Tensor = self.layers(z)
        return sounds


class Critic(nn.Module):
    """Sounds (N, channels, length) to scores (N,).

    Args:
        length: 16*4^k samples, k from 1 to 6.
        channels: of the sounds.
        width: channels of the first layer; each later one has twice as many.
        shuffle: n, the largest shift of phase shuffle; 0: none.
        num_classes: number of classes of a class-conditional critic, which is also called with labels (N,): the inner
            product of the features with an embedding of the class is added to the score (Miyato & Koyama 2018,
            https://arxiv.org/abs/1802.05637).

    Raises:
        ConfigError: a length that is not of that form, or a negative shift.
    """

    def __init__(
        self,
        length: int = 16384,
        channels: int = 1,
        width: int = 64,
        shuffle: int = 2,
        num_classes: int | None = None,
    ) -> None:
        super().__init__()
        widths = [width << i for i in range(stages(length))]
        if not 0 <= shuffle < START:
            raise ConfigError(f"shuffle must be 0 to {START - 1} samples, not {shuffle}")
        self.shuffle = shuffle
        self.shifts: Tensor | None = None
        self.layers = nn.ModuleList(
            nn.Conv1d(before, after, WIDTH, STRIDE, padding=11) for before, after in pairwise([channels, *widths])
        )
        self.score = nn.Linear(widths[-1] * START, 1)
        self.apply(_initialise)
        self.embed = None if num_classes is None else ClassEmbedding(num_classes, widths[-1] * START)
        if self.embed is not None:
            nn.init.normal_(self.embed.weight, 0.0, 0.02)

    def forward(self, sounds: Tensor, labels: Tensor | None = None) -> Tensor:
        for i, layer in enumerate(self.layers):
            if i and self.shifts is not None:
                sounds = shifted(sounds, self.shifts[:, i - 1].repeat(len(sounds) // len(self.shifts)), self.shuffle)
            sounds = nn.functional.leaky_relu(layer(sounds), 0.2)
        features = sounds.flatten(1)
        scores: Tensor = self.score(features).squeeze(1)
        return scores if self.embed is None else scores + (features * self.embed(labels)).sum(1)

    @contextlib.contextmanager
    def shuffling(self, shifts: Tensor) -> Iterator[None]:
        """In the block, phase shuffle (section 3.3): what each layer but the last gives is shifted in time.

        Args:
            shifts: for each item and each of these layers, from 0 to 2 * `shuffle`, int64 (N, layers - 1). With several
                such batches in one, each has these shifts.
        """
        self.shifts = shifts
        try:
            yield
        finally:
            self.shifts = None


def shifted(x: Tensor, shifts: Tensor, most: int) -> Tensor:
    """Shift feature maps in time, each item by `most - shift` samples, and fill the gap by reflection.

    Args:
        x: (N, C, T), T > most.
        shifts: (N,), from 0 to 2 * most.
        most: the largest shift in either direction, at least 1.
    """
    padded = torch.cat([x[:, :, 1 : most + 1].flip(2), x, x[:, :, -most - 1 : -1].flip(2)], 2)
    windows: Tensor = _Windows.apply(padded, shifts, x.shape[2])
    return windows


class _Windows(torch.autograd.Function):
    """Of each item of (N, C, T) the `length` samples from its start on, `starts` (N,).

    Autograd would add the gradient of a gathering to zeros, in no fixed order on CUDA. But it is a window too, of the
    gradient with zeros around it.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, starts: Tensor, length: int) -> Tensor:
        ctx.save_for_backward(starts)
        ctx.whole = x.shape[2]
        position = starts[:, None] + torch.arange(length, device=x.device)
        return x.gather(2, position[:, None].expand(-1, x.shape[1], -1))

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (starts,) = ctx.saved_tensors
        margin = ctx.whole - gradient.shape[2]
        padded = nn.functional.pad(gradient, (margin, margin))
        return _Windows.apply(padded, margin - starts, ctx.whole), None, None


class WaveGAN(Objective):
    """The standard objective, with phase shuffle in the critic.

    The shifts are drawn from the batch's stream, for each item anew in each phase, so that a resumed run and any number
    of processes draw the same. The real item, the generated one and the one of a penalty that stand in one place of the
    batch have the same shifts. The authors' code draws one shift for a whole batch.
    """

    def discriminator_loss(self, g: nn.Module, d: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        with self._shuffling(d, batch):
            return super().discriminator_loss(g, d, batch)

    def generator_loss(self, g: nn.Module, d: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        with self._shuffling(d, batch):
            return super().generator_loss(g, d, batch)

    def _shuffling(self, d: nn.Module, batch: Batch) -> contextlib.AbstractContextManager[None]:
        critic: Critic = d  # type: ignore[assignment]  # the one of this architecture
        layers = len(critic.layers) - 1
        if not critic.shuffle or not layers:
            return contextlib.nullcontext()
        rng = batch.rng.child("shuffle")
        return critic.shuffling(rng.randint(2 * critic.shuffle + 1, len(batch.real) // self.pack, layers))
