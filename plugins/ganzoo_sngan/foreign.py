"""The tensors of published residual networks under ganzoo's names.

mimicry's generators of DCGAN, SNGAN and WGAN-GP are one network, which enlarges bilinearly; StudioGAN's `resnet`
repeats pixels. Their discriminators are one network too, but for the channels within its blocks.
"""

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from ganzoo import ConfigError
from ganzoo_dcgan.foreign import BROADER, refuse_variants

Tensors = dict[str, Tensor]

BLOCK = {
    "c1": "convs.0",
    "c2": "convs.1",
    "c_sc": "shortcut",
    **{f"b{i + 1}": f"norms.{i}.norm" for i in range(2)},
    **{f"b{i + 1}.{part}": f"norms.{i}.{part}" for i in range(2) for part in ("scale", "shift")},
}
"""ganzoo's names of the layers of mimicry's generator blocks, whose norms by class were made alike before."""
D_BLOCK = {"c1": "convs.0", "c2": "convs.2", "c_sc": "shortcut"}
SPECTRAL = {
    "bias": "bias",
    "weight_orig": "parametrizations.weight.original",
    "weight_u": "parametrizations.weight.0._u",
    "weight_v": "parametrizations.weight.0._v",
}
"""torch's names of the tensors of spectral normalisation, before and since `torch.nn.utils.parametrizations`."""
STUDIO = {"conv2d1": "c1", "conv2d2": "c2", "conv2d0": "c_sc", "bn1": "b1", "bn2": "b2"}
"""mimicry's names of the layers of StudioGAN's blocks."""
MIMICRY_SIZES = {(4, 5): (32, 2), (5, 5): (48, 1), (5, 6): (64, 0), (6, 7): (128, 1)}
"""The size of the images and the number of blocks that keep it, by the number of all blocks and of the last layer."""
STUDIO_SIZES = {(4, 5): (32, 2), (5, 6): (64, 1), (6, 7): (128, 1)}


def generator_from_foreign(tensors: Tensors, options: Mapping[str, Any]) -> tuple[dict[str, Any], Tensors]:
    """The settings and the tensors of mimicry's or StudioGAN's generator; those that are used are taken out.

    Raises:
        ConfigError: other layers, or widths that no settings give.
    """
    refuse_variants(tensors)
    upsample = "bilinear"
    if "linear0.weight" in tensors:
        upsample = "nearest"
        if "conv4.weight" in tensors:
            raise ConfigError("it is StudioGAN's deep_conv: import it as dcgan")
        _as_mimicry(tensors, {"linear0": "l1", "bn4": "b{}", "conv2d5": "c{}"}, first=2)
        for name in tensors:
            if name.endswith("running_var"):
                tensors[name] = tensors[name] + BROADER
    num_classes = _norms_by_class(tensors)
    numbers = _blocks(tensors, "weight")
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
        "num_classes": num_classes,
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


def discriminator_from_foreign(tensors: Tensors, options: Mapping[str, Any]) -> tuple[dict[str, Any], Tensors]:
    """The settings and the tensors of mimicry's or StudioGAN's discriminator with spectral normalisation, without
    classes or with a projection onto them; those that are used are taken out.

    Raises:
        ConfigError: other layers, or widths that no settings give.
    """
    sizes, inner = MIMICRY_SIZES, "inputs"
    if any(name.startswith("blocks.") for name in tensors):
        sizes, inner = STUDIO_SIZES, "outputs"
        if any(name.startswith(("linear2.", "linear_mi.")) for name in tensors):
            raise ConfigError("it classifies images besides (linear2), which sngan's discriminator does not")
        if any(".conv1x1_theta." in name for name in tensors):
            raise ConfigError("it has self-attention, which this architecture lacks")
        _as_mimicry(tensors, {"linear1": "l{}", "embedding": "l_y"}, first=1)
    numbers = _blocks(tensors, "weight_orig")
    ends = [int(match[1]) for name in tensors if (match := re.fullmatch(r"l(\d{1,3})\.weight_orig", name))]
    if numbers != [*range(1, len(numbers) + 1)] or not numbers or not ends:
        raise ConfigError(
            "there is no block1.c1.weight_orig or no last layer, as discriminators of mimicry and StudioGAN with "
            "spectral normalisation have them"
        )
    if (len(numbers), ends[0]) not in sizes:
        raise ConfigError(f"{len(numbers)} blocks before the layer l{ends[0]} are those of no published discriminator")
    image_size, flat = sizes[len(numbers), ends[0]]
    widths = [tensors[f"block{number}.c2.weight_orig"].shape[0] for number in numbers]
    expected = [min(widths[0] * 2**i, max(widths)) for i in range(len(widths))]
    if widths != expected:
        raise ConfigError(f"blocks of {widths} channels: they should be {expected}")
    settings = {
        "image_size": image_size,
        "channels": tensors["block1.c1.weight_orig"].shape[1],
        "width": widths[0],
        "widest": max(widths),
        "flat": flat,
        "inner": inner,
        "rectified": True,
        "num_classes": len(tensors["l_y.weight_orig"]) if "l_y.weight_orig" in tensors else None,
    }
    names = {f"l{ends[0]}": "score", "l_y": "embed"}
    for number in numbers:
        names |= {f"block{number}.{part}": f"blocks.{number - 1}.{own}" for part, own in D_BLOCK.items()}
    renamed = {}
    for name in list(tensors):
        layer, _, part = name.rpartition(".")
        if layer in names and part in SPECTRAL:
            renamed[f"{names[layer]}.{SPECTRAL[part]}"] = tensors.pop(name)
    return settings, renamed


def _blocks(tensors: Mapping[str, Tensor], weight: str) -> list[int]:
    """The numbers of mimicry's blocks, sorted."""
    pattern = rf"block(\d{{1,3}})\.c1\.{weight}"
    return sorted({int(match[1]) for name in tensors if (match := re.fullmatch(pattern, name))})


def _as_mimicry(tensors: Tensors, ends: Mapping[str, str], first: int) -> None:
    """Give the tensors of StudioGAN's network the names that mimicry's has for them.

    Args:
        tensors: by StudioGAN's names; they are renamed in place.
        ends: the names of layers outside of blocks, in which {} stands for the number after that of the last block.
        first: the number of the first block.
    """
    pattern = r"blocks\.(\d{1,3})\.0\.(\w+)\.(.+)"
    count = len({match[1] for name in tensors if (match := re.match(pattern, name))})
    for name in list(tensors):
        layer, _, part = name.rpartition(".")
        if match := re.fullmatch(pattern, name):
            layer, part = f"block{int(match[1]) + first}.{STUDIO.get(match[2], match[2])}", match[3]
        tensors[f"{ends.get(layer, layer).format(count + first)}.{part}"] = tensors.pop(name)


def _norms_by_class(tensors: Tensors) -> int | None:
    """Give the class-conditional BatchNorms of all layouts one form: statistics as of a plain one, and tables `scale`
    and `shift` of a row for each class. mimicry's have one table of scales and shifts, StudioGAN's two of what is added
    to a scale of 1 and of shifts, later with a column for each class.

    Returns:
        The number of classes; None if the norms do not depend on them.
    """
    count = None
    for name in list(tensors):
        if match := re.fullmatch(r"(block\d+\.b[12])\.bn\.(\w+)", name):
            tensors[f"{match[1]}.{match[2]}"] = tensors.pop(name)
        elif match := re.fullmatch(r"(block\d+\.b[12])\.(embed[01]?|gain|bias)\.weight", name):
            norm, kind, table = match[1], match[2], tensors.pop(name)
            if kind in ("gain", "bias"):
                table = table.T
            count = len(table)
            if kind == "embed":
                tensors[f"{norm}.scale.weight"], tensors[f"{norm}.shift.weight"] = table.chunk(2, 1)
            elif kind in ("embed0", "gain"):
                tensors[f"{norm}.scale.weight"] = 1 + table
            else:
                tensors[f"{norm}.shift.weight"] = table
    return count
