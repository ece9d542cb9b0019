"""The tensors of lucidrains' stylegan2-pytorch under ganzoo's names.

One state dict holds the whole GAN: the mapping network `S` and the generator `G`, their averages `SE` and `GE`, and the
discriminator `D`.
"""

import re
from collections.abc import Mapping as Map
from typing import Any

import torch
from torch import Tensor

from ganzoo import ConfigError
from ganzoo_stylegan2.foreign import Answer, Rule, Tensors, get, numbers, renamed_by
from ganzoo_stylegan2.lucid_layers import Mapping

ATTENTION = {
    "0.fn.norm.g": "norm.weight",
    "0.fn.norm.b": "norm.bias",
    "0.fn.fn.to_q.weight": "query.weight",
    "0.fn.fn.to_kv.net.0.weight": "key_value.0.weight",
    "0.fn.fn.to_kv.net.1.weight": "key_value.1.weight",
    "0.fn.fn.to_out.weight": "out.weight",
    "0.fn.fn.to_out.bias": "out.bias",
    "1.fn.norm.g": "second_norm.weight",
    "1.fn.norm.b": "second_norm.bias",
    **{f"1.fn.fn.{i}.{part}": f"dense.{i}.{part}" for i in (0, 2) for part in ("weight", "bias")},
}
"""ganzoo's names of the tensors of an attention."""
GENERATOR: list[Rule] = [
    (r"initial_conv\.(weight|bias)", "start.{}".format),
    (r"to_initial_block\.weight", lambda: "project.weight"),
    (r"blocks\.(\d+)\.conv([12])\.weight", lambda i, j: f"blocks.{i}.layers.{int(j) - 1}.conv.weight"),
    (
        r"blocks\.(\d+)\.to_style([12])\.(weight|bias)",
        lambda i, j, part: f"blocks.{i}.layers.{int(j) - 1}.conv.style.{part}",
    ),
    (r"blocks\.(\d+)\.to_noise([12])\.bias", lambda i, j: f"blocks.{i}.layers.{int(j) - 1}.bias"),
    (r"blocks\.(\d+)\.to_noise([12])\.weight", lambda i, j: f"blocks.{i}.layers.{int(j) - 1}.noise_scale"),
    (r"blocks\.(\d+)\.to_rgb\.conv\.weight", "blocks.{}.draw.weight".format),
    (r"blocks\.(\d+)\.to_rgb\.to_style\.(weight|bias)", "blocks.{}.draw.style.{}".format),
]
"""The tensors of a generator without attention."""
RATE = 0.1
"""The published program's factor of the mapping network's learning rate, which no tensor shows."""
MOST = 10
"""Blocks of a generator; the last of 10 is that of 2048 pixels."""
DRAWN = 10_000
"""Latents from which the mean of w is estimated: files do not hold it."""


def generator_from_foreign(
    tensors: Tensors, options: Map[str, Any], *, beside: Map[str, Tensor] | None = None, key: str = ""
) -> Answer:
    """The settings and the tensors of a generator and of its mapping network.

    Args:
        tensors: of `G` or `GE` by foreign name; those that are used are taken out.
        options: settings that the user gives, of which `rate` decides what the mapping network computes.
        beside: the tensors beside the generator's, of which those of `S` or `SE` are the mapping network's.
        key: the generator's key, which ends with E if it is averaged.

    Raises:
        ConfigError: other layers, or settings that are not supported.
    """
    blocks = numbers(tensors, r"blocks\.(\d+)\.")
    if blocks != [*range(len(blocks))] or len(blocks) > MOST:
        raise ConfigError(f"its {len(blocks)} blocks are not numbered from 0 on, or are more than {MOST}")
    _check_version(tensors, [f"blocks.{i}.to_rgb.upsample.1.f" for i in blocks[:-1]])
    mapping = f"S{'E' if key.endswith('E') else ''}.net."
    tensors |= {name: tensor for name, tensor in (beside or {}).items() if name.startswith(mapping)}
    depth = len(numbers(tensors, rf"{mapping}(\d+)\.weight"))
    if not depth:
        raise ConfigError(f"there is no mapping network {mapping} beside the generator: import the whole model_N.pt")
    widths = [get(tensors, f"blocks.{i}.conv2.weight").shape[0] for i in blocks]
    width, widest = widths[-1], max(widths)
    if widths != [min(width * 2**i, widest) for i in reversed(range(len(widths)))]:
        raise ConfigError(f"{widths} channels at the resolutions from 4 pixels on do not halve up to the last")
    channels = len(get(tensors, f"blocks.{blocks[-1]}.to_rgb.conv.weight"))
    if channels == 4:
        raise ConfigError("its images are transparent, and pictures here have 1 or 3 channels")
    settings = {
        "z_dim": len(get(tensors, f"{mapping}0.weight")),
        "image_size": 2 << len(blocks),
        "channels": channels,
        "width": width,
        "widest": widest,
        "mapping": depth,
        "rate": options.get("rate", RATE),
        "attention": numbers(tensors, r"attns\.(\d+)\."),
        "constant": "initial_block" in tensors,
    }
    renamed = renamed_by(tensors, [*GENERATOR, *_attentions("attns")])
    renamed = {name: _flat(name, tensor) for name, tensor in renamed.items()}
    if "initial_block" in tensors:
        renamed["const"] = tensors.pop("initial_block")[0]
    own = {}
    for i in range(depth):  # a leaky ReLU has each second number
        own[f"weights.{i}"] = get(tensors, f"{mapping}{2 * i}.weight", pop=True)
        own[f"biases.{i}"] = get(tensors, f"{mapping}{2 * i}.bias", pop=True)
    renamed |= {f"mapping.{name}": tensor for name, tensor in own.items()}
    renamed["w_mean"] = _mean_of_w(settings, own)
    seeded = torch.Generator().manual_seed(0)  # files hold no noise image: each batch draws its own
    renamed["noise_const"] = torch.rand(settings["image_size"], settings["image_size"], generator=seeded)
    return settings, renamed


def discriminator_from_foreign(tensors: Tensors, options: Map[str, Any]) -> Answer:
    """The settings and the tensors of a discriminator, whose logit changes its sign: the published one is high for
    generated images. The arguments and errors are those of `generator_from_foreign`."""
    blocks = numbers(tensors, r"blocks\.(\d+)\.")
    if any(name.startswith("quantize_blocks.") for name in tensors):
        raise ConfigError("it quantises feature maps (fq_layers), which is not supported")
    _check_version(tensors, [f"blocks.{i}.downsample.0.f" for i in blocks[:-1]], "final_conv")
    widths = [get(tensors, f"blocks.{i}.net.2.weight").shape[0] for i in blocks]
    if widths != [min(widths[0] * 2**i, max(widths)) for i in range(len(widths))]:
        raise ConfigError(f"blocks of {widths} channels do not double up to the last")
    settings = {
        "image_size": 1 << len(blocks),
        "channels": get(tensors, "blocks.0.net.0.weight").shape[1],
        "width": widths[0],
        "widest": max(widths),
        "attention": numbers(tensors, r"attn_blocks\.(\d+)\."),
    }
    rules: list[Rule] = [
        (r"blocks\.(\d+)\.conv_res\.(weight|bias)", "blocks.{}.shortcut.{}".format),
        (r"blocks\.(\d+)\.net\.([02])\.(weight|bias)", "blocks.{}.convs.{}.{}".format),
        (r"blocks\.(\d+)\.downsample\.1\.(weight|bias)", "blocks.{}.down.{}".format),
        (r"final_conv\.(weight|bias)", "conv.{}".format),
        (r"to_logit\.(weight|bias)", "score.{}".format),
        *_attentions("attn_blocks"),
    ]
    renamed = {name: _flat(name, tensor) for name, tensor in renamed_by(tensors, rules).items()}
    return settings, {name: -tensor if name.startswith("score.") else tensor for name, tensor in renamed.items()}


def _check_version(tensors: Tensors, filters: list[str], conv: str = "initial_conv") -> None:
    """Take out the filters, and refuse networks of other versions of the program.

    Raises:
        ConfigError: there are other layers.
    """
    if not filters or f"{conv}.weight" not in tensors:
        raise ConfigError(f"there is no {conv}, as stylegan2-pytorch of lucidrains has it")
    if any(".fn.to_k." in name for name in tensors):
        raise ConfigError("its attention is that of an early version of stylegan2-pytorch, which is not supported")
    if missing := [name for name in filters if name not in tensors]:
        raise ConfigError(f"there is no {missing[0]}: early versions of stylegan2-pytorch, without blur, are not read")
    for name in filters:
        if tensors.pop(name).tolist() != [1, 2, 1]:
            raise ConfigError(f"{name} is not the filter [1, 2, 1], which is the only one here")


def _attentions(name: str) -> list[Rule]:
    parts = "|".join(map(re.escape, ATTENTION))
    return [(rf"{name}\.(\d+)\.({parts})", lambda i, part: f"blocks.{i}.attention.{ATTENTION[part]}")]


def _flat(name: str, tensor: Tensor) -> Tensor:
    """Numbers of channels, which some layers of the file hold in more dimensions."""
    return tensor.flatten() if name.endswith(("noise_scale", "norm.weight", "norm.bias")) else tensor


def _mean_of_w(settings: Map[str, Any], tensors: Tensors) -> Tensor:
    mapping = Mapping(settings["z_dim"], settings["mapping"], settings["rate"])
    mapping.load_state_dict({name: tensor.float() for name, tensor in tensors.items()})
    with torch.no_grad():
        z = torch.randn(DRAWN, settings["z_dim"], generator=torch.Generator().manual_seed(0))
        mean: Tensor = mapping(z).mean(0)
    return mean
