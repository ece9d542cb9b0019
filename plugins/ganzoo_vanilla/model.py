"""Multilayer perceptrons as generator and discriminator (Goodfellow et al. 2014, https://arxiv.org/abs/1406.2661), by
default in the form that today's textbooks give them."""

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from ganzoo import ConfigError
from ganzoo_vanilla.foreign import read

PIECES = 5
"""Linear functions whose maximum a maxout unit takes, as in Goodfellow et al. 2014."""


class Maxout(nn.Module):
    """(N, PIECES * F) to (N, F): the maximum of each group (Goodfellow et al. 2013, https://arxiv.org/abs/1302.4389)."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.unflatten(x, 1, (-1, PIECES)).amax(2)


ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "leaky_relu": lambda: nn.LeakyReLU(0.2),
    "tanh": nn.Tanh,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "maxout": Maxout,
}
OUTPUTS = ("tanh", "sigmoid")


def _perceptron(sizes: Sequence[int], activation: str, norm: bool = False, dropout: float = 0.0) -> nn.Sequential:
    if activation not in ACTIVATIONS:
        raise ConfigError(f"activation must be one of {', '.join(ACTIVATIONS)}, not {activation!r}")
    layers: list[nn.Module] = []
    for inputs, units in pairwise(sizes[:-1]):
        outputs = units * PIECES if activation == "maxout" else units
        layers += [nn.Linear(inputs, outputs), *([nn.BatchNorm1d(outputs)] if norm else []), ACTIVATIONS[activation]()]
        layers += [nn.Dropout(dropout)] if dropout else []
    return nn.Sequential(*layers, nn.Linear(sizes[-2], sizes[-1]))


def _hidden(hidden: int | Sequence[int]) -> list[int]:
    return [hidden] if isinstance(hidden, int) else list(hidden)


class Generator(nn.Module):
    """Latents (N, z_dim) to images (N, channels, image_size, image_size) in [-1, 1].

    Args:
        z_dim: size of the latent.
        image_size: height and width in pixels, any.
        channels: of the images.
        hidden: units of each hidden layer; a single number stands for one layer.
        activation: after each hidden layer: relu, leaky_relu (0.2), tanh, gelu, silu or maxout (of 5 pieces).
        output: "tanh", or "sigmoid", which is mapped to [-1, 1].
        norm: "batch", between each hidden layer and its activation, or None.

    Raises:
        ConfigError: an unknown activation, output or norm.
    """

    def __init__(
        self,
        z_dim: int = 100,
        image_size: int = 28,
        channels: int = 1,
        hidden: int | Sequence[int] = (256, 512, 1024),
        activation: str = "leaky_relu",
        output: str = "tanh",
        norm: str | None = None,
    ) -> None:
        super().__init__()
        if output not in OUTPUTS:
            raise ConfigError(f"output must be tanh or sigmoid, not {output!r}")
        if norm not in ("batch", None):
            raise ConfigError(f"norm must be batch or none, not {norm!r}")
        self.output = output
        self.shape = (channels, image_size, image_size)
        self.layers = _perceptron([z_dim, *_hidden(hidden), channels * image_size**2], activation, norm == "batch")

    def forward(self, z: Tensor) -> Tensor:
        x: Tensor = self.layers(z)
        x = x.tanh() if self.output == "tanh" else 2 * x.sigmoid() - 1
        return torch.unflatten(x, 1, self.shape)

    @staticmethod
    def from_foreign(
        tensors: dict[str, Tensor], options: Mapping[str, Any]
    ) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """Takes the linear layers of an nn.Sequential, or of attributes whose sizes chain in one order, with BatchNorm
        after each hidden layer or after none. The activations between them cannot be read off the tensors: they are
        options.

        Raises:
            ConfigError: other layers, an order that is not certain, or outputs that are not a square image.
        """
        return read(tensors, options)


class Discriminator(nn.Module):
    """Images (N, channels, image_size, image_size) to logits (N,).

    Args:
        image_size: height and width in pixels.
        channels: of the images.
        hidden: units of each hidden layer; a single number stands for one layer.
        activation: after each hidden layer, as in the generator.
        dropout: probability that a hidden unit is dropped in training, in [0, 1).

    Raises:
        ConfigError: an unknown activation, or a dropout outside [0, 1).
    """

    independent = True

    def __init__(
        self,
        image_size: int = 28,
        channels: int = 1,
        hidden: int | Sequence[int] = (512, 256),
        activation: str = "leaky_relu",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if not 0 <= dropout < 1:
            raise ConfigError(f"dropout must be in [0, 1), not {dropout!r}")
        self.layers = _perceptron([channels * image_size**2, *_hidden(hidden), 1], activation, dropout=dropout)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.layers(images.flatten(1)).squeeze(1)
        return logits
