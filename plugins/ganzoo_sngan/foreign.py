"""The tensors of published residual generators under ganzoo's names.

mimicry's generators of DCGAN, SNGAN and WGAN-GP are one network, which enlarges bilinearly; StudioGAN's `resnet`
repeats pixels.
"""

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from ganzoo import ConfigError

BLOCK = {"c1": "convs.0", "c2": "convs.1", "c_sc": "shortcut", "b1": "norms.0.norm", "b2": "norms.1.norm"}
"""ganzoo's names of the layers of mimicry's blocks."""
STUDIO = {"conv2d1": "c1", "conv2d2": "c2", "conv2d0": "c_sc", "bn1": "b1", "bn2": "b2"}
"""mimicry's names of the layers of StudioGAN's blocks."""


def generator_from_foreign(
    tensors: dict[str, Tensor], options: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The settings and the tensors of mimicry's or StudioGAN's generator; those that are used are taken out.

    Raises:
        ConfigError: other layers, or widths that no settings give.
    """
    upsample = "bilinear"
    if "linear0.weight" in tensors:
        upsample = "nearest"
        _as_mimicry(tensors)
    numbers = sorted({int(match[1]) for name in tensors if (match := re.match(r"block(\d{1,3})\.c1\.weight$", name))})
    last = numbers[-1] + 1 if numbers else 0
    for name in ("l1.weight", "l1.bias", f"b{last}.weight", f"c{last}.weight"):
        if name not in tensors:
            raise ConfigError(f"there is no {name}, as mimicry's residual generators have it, nor StudioGAN's linear0")
    widths = [tensors[f"block{numbers[0]}.c1.weight"].shape[1]]
    widths += [tensors[f"block{number}.c1.weight"].shape[0] for number in numbers]
    width, widest = widths[-1], max(widths)
    expected = [min(width * 2**i, widest) for i in reversed(range(len(widths)))]
    side = round((tensors["l1.weight"].shape[0] / widths[0]) ** 0.5)
    if widths != expected or side**2 * widths[0] != tensors["l1.weight"].shape[0]:
        raise ConfigError(f"{widths} channels at {side} pixels and above: they should be {expected}")
    settings = {
        "z_dim": tensors["l1.weight"].shape[1],
        "image_size": side << len(numbers),
        "channels": tensors[f"c{last}.weight"].shape[0],
        "width": width,
        "widest": widest,
        "upsample": upsample,
    }
    names = {"l1": "start", f"b{last}": "norm.norm", f"c{last}": "end"}
    for i, number in enumerate(numbers):
        names |= {f"block{number}.{part}": f"blocks.{i}.{own}" for part, own in BLOCK.items()}
    renamed = {}
    for name in list(tensors):
        layer, _, part = name.rpartition(".")
        if layer in names:
            renamed[f"{names[layer]}.{part}"] = tensors.pop(name)
    for part in ("weight", "bias"):  # from channels, rows and columns to rows, columns and channels
        tensor = renamed[f"start.{part}"]
        rows = tensor.reshape(widths[0], side, side, *tensor.shape[1:])
        renamed[f"start.{part}"] = rows.movedim(0, 2).flatten(0, 2)
    return settings, renamed


def _as_mimicry(tensors: dict[str, Tensor]) -> None:
    """Give the tensors of StudioGAN's network the names that mimicry's has for them."""
    pattern = r"blocks\.(\d{1,3})\.0\.(\w+)"
    count = len({match[1] for name in tensors if (match := re.match(pattern, name))})
    ends = {"linear0": "l1", "bn4": f"b{count + 2}", "conv2d5": f"c{count + 2}"}
    for name in list(tensors):
        layer, _, part = name.rpartition(".")
        if match := re.fullmatch(pattern, layer):
            layer = f"block{int(match[1]) + 2}.{STUDIO.get(match[2], match[2])}"
        tensors[f"{ends.get(layer, layer)}.{part}"] = tensors.pop(name)
