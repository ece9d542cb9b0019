"""Multilayer perceptrons as generator and discriminator (Goodfellow et al. 2014), in the form of today's textbooks."""

from collections.abc import Callable, Sequence
from itertools import pairwise

from torch import Tensor, nn

from ganzoo import ConfigError

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "leaky_relu": lambda: nn.LeakyReLU(0.2),
    "tanh": nn.Tanh,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
}
OUTPUTS = ("tanh", "sigmoid")


def _perceptron(sizes: Sequence[int], activation: str) -> nn.Sequential:
    if activation not in ACTIVATIONS:
        raise ConfigError(f"activation must be one of {', '.join(ACTIVATIONS)}, not {activation!r}")
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(sizes):
        layers += [nn.Linear(inputs, outputs), ACTIVATIONS[activation]()]
    return nn.Sequential(*layers[:-1])


def _hidden(hidden: int | Sequence[int]) -> list[int]:
    return [hidden] if isinstance(hidden, int) else list(hidden)


class Generator(nn.Module):
    """Latents (N, z_dim) to images (N, channels, image_size, image_size) in [-1, 1].

    Args:
        z_dim: size of the latent.
        image_size: height and width in pixels, any.
        channels: of the images.
        hidden: units of each hidden layer; a number is one layer.
        activation: after each hidden layer: relu, leaky_relu (0.2), tanh, gelu or silu.
        output: "tanh", or "sigmoid", which is mapped to [-1, 1].

    Raises:
        ConfigError: an activation or output that there is not.
    """

    def __init__(
        self,
        z_dim: int = 100,
        image_size: int = 28,
        channels: int = 1,
        hidden: int | Sequence[int] = (256, 512, 1024),
        activation: str = "leaky_relu",
        output: str = "tanh",
    ) -> None:
        super().__init__()
        if output not in OUTPUTS:
            raise ConfigError(f"output must be tanh or sigmoid, not {output!r}")
        self.output = output
        self.shape = (channels, image_size, image_size)
        self.layers = _perceptron([z_dim, *_hidden(hidden), channels * image_size**2], activation)

    def forward(self, z: Tensor) -> Tensor:
        x = self.layers(z)
        x = x.tanh() if self.output == "tanh" else 2 * x.sigmoid() - 1
        return x.unflatten(1, self.shape)


class Discriminator(nn.Module):
    """Images (N, channels, image_size, image_size) to logits (N,).

    Args:
        image_size: height and width in pixels.
        channels: of the images.
        hidden: units of each hidden layer; a number is one layer.
        activation: after each hidden layer.

    Raises:
        ConfigError: an activation that there is not.
    """

    def __init__(
        self,
        image_size: int = 28,
        channels: int = 1,
        hidden: int | Sequence[int] = (512, 256),
        activation: str = "leaky_relu",
    ) -> None:
        super().__init__()
        self.layers = _perceptron([channels * image_size**2, *_hidden(hidden), 1], activation)

    def forward(self, images: Tensor) -> Tensor:
        return self.layers(images.flatten(1)).squeeze(1)
