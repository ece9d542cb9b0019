"""The tensors of published DCGAN generators under ganzoo's names: those of PyTorch's example, and StudioGAN's
`deep_conv`."""

import re
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

from torch import Tensor

from ganzoo import ConfigError

BASES = range(4, 8)
"""Widths and heights of the smallest feature map."""
WIDEST = 16
"""The number of channels doubles at each halving of the resolution, up to this many times `width`."""
NORM = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
BROADER = 1e-4 - 1e-5
"""What StudioGAN's BatchNorms add to the variance, beyond what torch's add by default."""


def generator_from_foreign(
    tensors: dict[str, Tensor], options: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The settings and the tensors of the generator of PyTorch's DCGAN example, of any other that has the same layers
    in an nn.Sequential, or of StudioGAN's `deep_conv`; those that are used are taken out.

    Raises:
        ConfigError: other layers or widths; it names the first one that differs.
    """
    if any(name.startswith("linear0.") for name in tensors):
        return _deep_conv(tensors)
    names = list(dict.fromkeys(key.rpartition(".")[0] for key in tensors))
    shapes = [tuple(tensors[f"{name}.weight"].shape) if f"{name}.weight" in tensors else () for name in names]
    for i, (name, shape) in enumerate(zip(names, shapes, strict=True)):
        if not name.replace(".", "").isdecimal() or len(shape) != (1 if i % 2 else 4):
            kind = "BatchNorm" if i % 2 else "transposed convolution"
            raise ConfigError(f"layer {name!r} with weights {shape} should be a {kind} in an nn.Sequential")
    convolutions = shapes[::2]
    if len(names) % 2 == 0 or len(names) < 3:
        raise ConfigError(
            f"the {len(names)} layers do not alternate as convolution, BatchNorm, ..., BatchNorm, convolution"
        )
    base, k, (width, channels, *_) = convolutions[0][-1], len(convolutions) - 1, convolutions[-1]
    if base not in BASES:
        raise ConfigError(f"layer {names[0]!r} with weights {convolutions[0]} should have a kernel of 4x4 to 7x7")
    settings = {"z_dim": convolutions[0][0], "image_size": base << k, "channels": channels, "width": width}
    widths = [settings["z_dim"], *(width * min(2**i, WIDEST) for i in reversed(range(k))), channels]
    for i, (sizes, shape) in enumerate(zip(pairwise(widths), convolutions, strict=True)):
        expected = (*sizes, 4, 4) if i else (*sizes, base, base)
        if shape != expected:
            raise ConfigError(
                f"layer {names[2 * i]!r} with weights {shape} should have {expected}: the last layer has {width} "
                f"input channels, and each layer before it twice as many, up to {WIDEST} times that"
            )
    renamed = {}
    for i, name in enumerate(names):
        for part in NORM if i % 2 else ("weight",):
            if f"{name}.{part}" in tensors:
                renamed[f"layers.{i // 2 * 3 + i % 2}.{part}"] = tensors.pop(f"{name}.{part}")
    return settings, renamed


def _deep_conv(tensors: dict[str, Tensor]) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """StudioGAN's: a linear layer, blocks of a transposed convolution, BatchNorm and ReLU, and a convolution."""
    refuse_variants(tensors)
    if "conv2d5.weight" in tensors:
        raise ConfigError("it is StudioGAN's resnet: import it as sngan")
    if any(".bn0.bn." in name for name in tensors):
        raise ConfigError("its BatchNorms depend on the class, and those of dcgan do not")
    blocks = len({match[1] for name in tensors if (match := re.match(r"blocks\.(\d+)\.0\.deconv0\.", name))})
    needed = ["linear0.weight", "linear0.bias", "conv4.weight"]
    for i in range(max(blocks, 1)):
        needed += [
            f"blocks.{i}.0.{part}" for part in ("deconv0.weight", "deconv0.bias", "bn0.running_mean", "bn0.running_var")
        ]
    if missing := [name for name in needed if name not in tensors]:
        raise ConfigError(f"there is no {missing[0]}, as StudioGAN's deep_conv has it")
    outputs, z_dim = tensors["linear0.weight"].shape
    settings = {
        "z_dim": z_dim,
        "image_size": 4 << blocks,
        "channels": tensors["conv4.weight"].shape[0],
        "width": tensors[f"blocks.{blocks - 1}.0.deconv0.weight"].shape[0],
        "fine": tensors["conv4.weight"].shape[1],
        "affine": True,
    }
    renamed = {
        "layers.0.weight": tensors.pop("linear0.weight").T.reshape(z_dim, outputs // 16, 4, 4),
        "layers.0.offset": tensors.pop("linear0.bias").reshape(-1, 4, 4),
    }
    for i in range(blocks):
        norm = f"layers.{3 * i + 2}"
        renamed[f"layers.{3 * i + 1}.weight"] = tensors.pop(f"blocks.{i}.0.deconv0.weight")
        for part in NORM:
            if f"blocks.{i}.0.bn0.{part}" in tensors:
                renamed[f"{norm}.{part}"] = tensors.pop(f"blocks.{i}.0.bn0.{part}")
        # A bias before a BatchNorm shifts its mean alone.
        renamed[f"{norm}.running_mean"] = renamed[f"{norm}.running_mean"] - tensors.pop(f"blocks.{i}.0.deconv0.bias")
        renamed[f"{norm}.running_var"] = renamed[f"{norm}.running_var"] + BROADER
    for part in ("weight", "bias"):
        if f"conv4.{part}" in tensors:
            renamed[f"layers.{3 * blocks + 1}.{part}"] = tensors.pop(f"conv4.{part}")
    return settings, renamed


def refuse_variants(tensors: Mapping[str, Tensor]) -> None:
    """Refuse generators of StudioGAN's with layers that ganzoo's have not.

    Raises:
        ConfigError: self-attention, or spectral normalisation.
    """
    if any(".conv1x1_theta." in name for name in tensors):
        raise ConfigError("it has self-attention, which this architecture lacks")
    if any(name.endswith(".weight_orig") for name in tensors):
        raise ConfigError("it has spectral normalisation, which generators here do not have")
