"""Multilayer perceptrons as generator and discriminator (Goodfellow et al. 2014), in the form of today's textbooks."""

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from math import isqrt
from typing import Any

from torch import Tensor, nn

from ganzoo import ConfigError

PIECES = 5
"""Linear pieces that a maxout unit is the largest of, as in Goodfellow et al. 2014."""


class Maxout(nn.Module):
    """(N, PIECES * F) to (N, F): the largest of each group (Goodfellow et al. 2013, https://arxiv.org/abs/1302.4389)."""

    def forward(self, x: Tensor) -> Tensor:
        return x.unflatten(1, (-1, PIECES)).amax(2)


ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "leaky_relu": lambda: nn.LeakyReLU(0.2),
    "tanh": nn.Tanh,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "maxout": Maxout,
}
OUTPUTS = ("tanh", "sigmoid")
LINEAR = ("weight", "bias")
NORM = (*LINEAR, "running_mean", "running_var", "num_batches_tracked")


def _perceptron(sizes: Sequence[int], activation: str, norm: bool = False, dropout: float = 0.0) -> nn.Sequential:
    if activation not in ACTIVATIONS:
        raise ConfigError(f"activation must be one of {', '.join(ACTIVATIONS)}, not {activation!r}")
    layers: list[nn.Module] = []
    for inputs, units in pairwise(sizes[:-1]):
        outputs = units * PIECES if activation == "maxout" else units
        layers += [nn.Linear(inputs, outputs), *([nn.BatchNorm1d(outputs)] if norm else []), ACTIVATIONS[activation]()]
        layers += [nn.Dropout(dropout)] if dropout else []
    return nn.Sequential(*layers, nn.Linear(*sizes[-2:]))


def _hidden(hidden: int | Sequence[int]) -> list[int]:
    return [hidden] if isinstance(hidden, int) else list(hidden)


class Generator(nn.Module):
    """Latents (N, z_dim) to images (N, channels, image_size, image_size) in [-1, 1].

    Args:
        z_dim: size of the latent.
        image_size: height and width in pixels, any.
        channels: of the images.
        hidden: units of each hidden layer; a number is one layer.
        activation: after each hidden layer: relu, leaky_relu (0.2), tanh, gelu, silu or maxout (of 5 pieces).
        output: "tanh", or "sigmoid", which is mapped to [-1, 1].
        norm: "batch", on each hidden layer before its activation; or None.

    Raises:
        ConfigError: an activation, output or norm that there is not.
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
        x = self.layers(z)
        x = x.tanh() if self.output == "tanh" else 2 * x.sigmoid() - 1
        return x.unflatten(1, self.shape)

    @staticmethod
    def from_foreign(
        tensors: dict[str, Tensor], options: Mapping[str, Any]
    ) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """The linear layers of any nn.Sequential, with BatchNorm after each hidden one or none; the activations
        between them are options.

        Raises:
            ConfigError: other layers than that, or an output that is no square image.
        """
        names = list(dict.fromkeys(key.rpartition(".")[0] for key in tensors))
        normed = any(f"{name}.running_mean" in tensors for name in names)
        sizes: list[int] = []
        renamed = {}
        for i, name in enumerate(names):
            norm = normed and i % 2 == 1
            shape = tuple(tensors[f"{name}.weight"].shape) if f"{name}.weight" in tensors else ()
            if not name.replace(".", "").isdecimal() or len(shape) != (1 if norm else 2):
                wanted = "a BatchNorm, as after each hidden layer," if norm else "an nn.Linear"
                raise ConfigError(f"layer {name!r} with weights {shape} should be {wanted} in an nn.Sequential")
            if not norm:
                if sizes and sizes[-1] != shape[1]:
                    raise ConfigError(f"layer {name!r} takes {shape[1]} numbers where the one before gives {sizes[-1]}")
                sizes += [shape[0]] if sizes else [shape[1], shape[0]]
            place = i // 2 * 3 + i % 2 if normed else 2 * i
            for part in NORM if norm else LINEAR:
                if f"{name}.{part}" in tensors:
                    renamed[f"layers.{place}.{part}"] = tensors.pop(f"{name}.{part}")
        if not sizes:
            raise ConfigError("there are no layers")
        if normed and len(names) % 2 == 0:
            raise ConfigError(f"layer {names[-1]!r} is a BatchNorm after the last layer, which vanilla has none of")
        norms = {"norm": "batch"} if normed else {}
        return {"z_dim": sizes[0], "hidden": sizes[1:-1], **norms, **_image(sizes[-1], options)}, renamed


def _image(numbers: int, options: Mapping[str, Any]) -> dict[str, int]:
    """The square image of so many numbers, with 1 or 3 channels unless the options tell.

    Raises:
        ConfigError: there is none.
    """
    channels, size = options.get("channels"), options.get("image_size")
    if size is not None:
        shapes = [(channels or numbers // max(size**2, 1), size)]
    else:
        shapes = [(c, isqrt(numbers // c)) for c in ((channels,) if channels else (1, 3))]
    for c, side in shapes:
        if c * side**2 == numbers and side > 0:
            return {"channels": c, "image_size": side}
    asked = ", ".join(f"{key}={options[key]}" for key in ("channels", "image_size") if key in options)
    raise ConfigError(
        f"{numbers} outputs are no square image {f'with {asked}' if asked else 'of 1 or 3 channels'}: "
        "say which channels and image_size it has"
    )


class Discriminator(nn.Module):
    """Images (N, channels, image_size, image_size) to logits (N,).

    Args:
        image_size: height and width in pixels.
        channels: of the images.
        hidden: units of each hidden layer; a number is one layer.
        activation: after each hidden layer, as the generator's.
        dropout: share of each hidden layer's units that are dropped in training.

    Raises:
        ConfigError: an activation that there is not, or a dropout outside [0, 1).
    """

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
        return self.layers(images.flatten(1)).squeeze(1)
