"""The tensors of the published U-Net of pix2pix (pytorch-CycleGAN-and-pix2pix, `latest_net_G.pth`) under ganzoo's
names."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ganzoo import ConfigError

AFFINE = ("weight", "bias")
STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


def generator_from_foreign(
    tensors: dict[str, Tensor], options: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The settings and the tensors of that U-Net; those that are used are taken out.

    Each block of it lies inside the one before: `0` and `3` are the first and the last layer, `1.model` is the next
    block, and `3.model` in each of these the one after it. Its program samples with the statistics of each image by
    itself, unless it is told `--eval`, so the norm is "instance" unless `options` say "batch".

    Args:
        tensors: by foreign name.
        options: settings that the user gives, of which `norm` matters.

    Raises:
        ConfigError: other layers.
    """
    if "0.weight" not in tensors or "1.model.1.weight" not in tensors:
        raise ConfigError("there is no 0.weight or no 1.model.1.weight, as the U-Net of pix2pix has them")
    blocks = ["", "1.model."]
    while f"{blocks[-1]}3.model.1.weight" in tensors:
        blocks.append(f"{blocks[-1]}3.model.")
    depth, norm = len(blocks), options.get("norm", "instance")
    settings = {
        "image_size": 2**depth,
        "channels": _get(tensors, "3.weight").shape[1],
        "input_channels": tensors["0.weight"].shape[1],
        "width": tensors["0.weight"].shape[0],
        "depth": depth,
        "norm": norm,
        "dropped": list(range(1, depth - 4)),  # after the layers of full width, but the smallest
    }
    renamed: dict[str, Tensor] = {}
    for i, block in enumerate(blocks):
        down, up, after = ("0", "3", "") if i == 0 else ("1", "5", "6") if i < depth - 1 else ("1", "3", "4")
        _conv(tensors, block + down, renamed, f"down.{i}")
        _conv(tensors, block + up, renamed, f"up.{depth - 1 - i}")
        if 0 < i < depth - 1:
            _norm(tensors, f"{block}2", renamed, f"down.{i}", norm)
        if i:
            _norm(tensors, block + after, renamed, f"up.{depth - 1 - i}", norm)
    return settings, renamed


def _get(tensors: Mapping[str, Tensor], name: str) -> Tensor:
    if name not in tensors:
        raise ConfigError(f"there is no {name}, as the U-Net of pix2pix has it")
    return tensors[name]


def _conv(tensors: dict[str, Tensor], name: str, renamed: dict[str, Tensor], own: str) -> None:
    """Move a convolution, with a bias in any case: layers before a BatchNorm have none in that program."""
    weight = _get(tensors, f"{name}.weight")
    outputs = weight.shape[1] if own.startswith("up") else weight.shape[0]
    renamed[f"{own}.conv.weight"] = tensors.pop(f"{name}.weight")
    renamed[f"{own}.conv.bias"] = tensors.pop(f"{name}.bias", torch.zeros(outputs, dtype=weight.dtype))


def _norm(tensors: dict[str, Tensor], name: str, renamed: dict[str, Tensor], own: str, norm: str) -> None:
    """Move a norm, which takes away the bias before it. Without a scale and a shift, these are 1 and 0."""
    bias = renamed.pop(f"{own}.conv.bias")
    fill = {"weight": torch.ones_like(bias), "bias": torch.zeros_like(bias)}
    for part in AFFINE:
        renamed[f"{own}.norm.{part}"] = tensors.pop(f"{name}.{part}", fill[part])
    for part in STATISTICS:
        if f"{name}.{part}" in tensors:
            statistic = tensors.pop(f"{name}.{part}")
            if norm == "batch":
                renamed[f"{own}.norm.{part}"] = statistic
