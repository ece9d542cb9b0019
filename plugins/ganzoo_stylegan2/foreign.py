"""The tensors of published StyleGAN2 checkpoints under ganzoo's names.

NVIDIA's are those of stylegan2-ada-pytorch, and of the StyleGAN2 configurations of the repository of StyleGAN3;
rosinality's are those of stylegan2-pytorch.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ganzoo import ConfigError
from ganzoo_stylegan2.layers import MappingNetwork

Tensors = dict[str, Tensor]
Answer = tuple[dict[str, Any], Tensors]
Rule = tuple[str, Callable[..., str]]
"""A pattern of foreign names, and what gives ganzoo's name for the groups of a match."""

PARTS = {"conv0": "up", "conv1": "same", "torgb": "draw"}
D_PARTS = {"fromrgb": "read", "conv0": "same", "conv1": "down", "skip": "shortcut"}


def generator_from_foreign(
    tensors: Tensors,
    options: Mapping[str, Any],
    *,
    modules: Mapping[str, Any] | None = None,
    beside: Mapping[str, Tensor] | None = None,
) -> Answer:
    """The settings and the tensors of NVIDIA's or rosinality's generator.

    Args:
        tensors: by foreign name; those that are used are taken out.
        options: settings that the user gives; none is needed.
        modules: what the file says of each network in a pickle of NVIDIA's, by name.
        beside: tensors beside the generator's, of which `latent_avg` is the mean of w.

    Raises:
        ConfigError: other layers or settings.
    """
    if "convs.0.conv.modulation.weight" in tensors:
        return _rosinality(tensors, beside or {})
    if "initial_conv.weight" in tensors:
        raise ConfigError("it is lucidrains' stylegan2-pytorch, which is another network: import it as stylegan2_lucid")
    if modules:
        _check_modules(modules)
    sizes = numbers(tensors, r"synthesis\.b(\d+)\.")
    if not sizes:
        raise ConfigError("there is no synthesis.b4, as NVIDIA's networks have it, and no convs.0, as rosinality's")
    _drop_filters(tensors)
    block, largest = {size: i for i, size in enumerate(sizes)}, f"synthesis.b{sizes[-1]}"
    widths = {size: len(get(tensors, f"synthesis.b{size}.conv1.bias")) for size in sizes}
    settings = {
        "z_dim": _z_dim(tensors),
        "image_size": sizes[-1],
        "channels": len(get(tensors, f"{largest}.torgb.bias")),
        "w_dim": get(tensors, f"{largest}.torgb.affine.weight").shape[1],
        "mapping": len(numbers(tensors, r"mapping\.fc(\d+)\.")),
        **_bases(widths),
        "architecture": _architecture(tensors, f"{largest}.skip.", f"synthesis.b{sizes[0]}.torgb."),
        "conv_clamp": _clamp(modules),
        "num_classes": tensors["mapping.embed.weight"].shape[1] if "mapping.embed.weight" in tensors else None,
    }
    rules: list[Rule] = [
        (r"mapping\.w_avg", lambda: "w_mean"),
        (r"mapping\.embed\.(weight|bias)", "mapping.embed.{}".format),
        (r"mapping\.fc(\d+)\.(weight|bias)", "mapping.layers.{}.{}".format),
        (r"synthesis\.b(\d+)\.const", lambda size: f"blocks.{block[int(size)]}.const"),
        (
            r"synthesis\.b(\d+)\.(conv0|conv1|torgb)\.(weight|affine\.weight|affine\.bias)",
            lambda size, part, name: f"blocks.{block[int(size)]}.{PARTS[part]}.conv.{name}",
        ),
        (
            r"synthesis\.b(\d+)\.(conv0|conv1|torgb)\.(bias|noise_const|noise_strength)",
            lambda size, part, name: f"blocks.{block[int(size)]}.{PARTS[part]}.{name}",
        ),
        (r"synthesis\.b(\d+)\.skip\.weight", lambda size: f"blocks.{block[int(size)]}.shortcut.weight"),
    ]
    return settings, renamed_by(tensors, rules)


def discriminator_from_foreign(
    tensors: Tensors, options: Mapping[str, Any], *, modules: Mapping[str, Any] | None = None
) -> Answer:
    """The settings and the tensors of NVIDIA's or rosinality's discriminator. The arguments and errors are those of
    `generator_from_foreign`."""
    if "final_conv.0.weight" in tensors:
        return _rosinality_discriminator(tensors)
    sizes = numbers(tensors, r"b(\d+)\.")
    if len(sizes) < 2 or f"b{sizes[0]}.out.weight" not in tensors:
        raise ConfigError("there is no b4.out, as NVIDIA's discriminators have it, and no final_conv, as rosinality's")
    base, *larger = sizes
    block = {size: i for i, size in enumerate(reversed(larger))}
    _drop_filters(tensors)
    largest = sizes[-1]
    widths = {base: len(get(tensors, f"b{base}.conv.bias"))}
    widths |= {size: len(get(tensors, f"b{size}.conv0.bias")) for size in larger}
    group = _only(modules, "MinibatchStdLayer", "group_size", 4)
    spread = get(tensors, f"b{base}.conv.weight").shape[1] - widths[base]
    if spread not in (0, 1) or not isinstance(group, int):
        raise ConfigError(f"its minibatch standard deviation has {spread} channels over groups of {group}")
    settings = {
        "image_size": largest,
        "channels": get(tensors, f"b{largest}.fromrgb.weight").shape[1],
        **_bases(widths),
        "architecture": _architecture(tensors, f"b{largest}.skip.", f"b{base}.fromrgb."),
        "conv_clamp": _clamp(modules),
        "group": group if spread else 1,
        "strided": True,
        "mapping": len(numbers(tensors, r"mapping\.fc(\d+)\.")) or 8,
        "num_classes": tensors["mapping.embed.weight"].shape[1] if "mapping.embed.weight" in tensors else None,
    }
    ends = {"conv": "conv", "fc": "dense", "out": "score", "fromrgb": "read"}
    rules: list[Rule] = [
        (r"mapping\.embed\.(weight|bias)", "mapping.embed.{}".format),
        (r"mapping\.fc(\d+)\.(weight|bias)", "mapping.layers.{}.{}".format),
        (rf"b{base}\.(conv|fc|out|fromrgb)\.(weight|bias)", lambda part, name: f"{ends[part]}.{name}"),
        (
            r"b(\d+)\.(fromrgb|conv0|conv1|skip)\.(weight|bias)",
            lambda size, part, name: f"blocks.{block[int(size)]}.{D_PARTS[part]}.{name}",
        ),
    ]
    return settings, renamed_by(tensors, rules)


def _rosinality(tensors: Tensors, beside: Mapping[str, Tensor]) -> Answer:
    """The generator of stylegan2-pytorch, whose convolutions and noise are numbered through all resolutions."""
    layers = numbers(tensors, r"convs\.(\d+)\.")
    draws = numbers(tensors, r"to_rgbs\.(\d+)\.")
    size = 4 << len(draws)
    for name in [name for name in tensors if name.endswith((".blur.kernel", ".upsample.kernel"))]:
        _check_filter(name, tensors.pop(name))
    convs = {"conv1": "blocks.0.same", **{f"convs.{i}": f"blocks.{i // 2 + 1}.{('up', 'same')[i % 2]}" for i in layers}}
    images = {"to_rgb1": "blocks.0.draw", **{f"to_rgbs.{i}": f"blocks.{i + 1}.draw" for i in draws}}
    widths = {4: get(tensors, "conv1.activate.bias")}
    widths |= {8 << i: get(tensors, f"convs.{2 * i + 1}.activate.bias") for i in range(len(draws))}
    renamed = {"blocks.0.const": get(tensors, "input.input", pop=True)[0]}
    for i, name in enumerate(convs):
        renamed[f"{convs[name]}.noise_const"] = get(tensors, f"noises.noise_{i}", pop=True)[0, 0]
        renamed[f"{convs[name]}.noise_strength"] = get(tensors, f"{name}.noise.weight", pop=True).reshape(())
        renamed[f"{convs[name]}.bias"] = get(tensors, f"{name}.activate.bias", pop=True)
    for name, own in images.items():
        renamed[f"{own}.bias"] = get(tensors, f"{name}.bias", pop=True).reshape(-1)
    for name, own in {**convs, **images}.items():
        renamed[f"{own}.conv.weight"] = get(tensors, f"{name}.conv.weight", pop=True)[0]
        for part in ("weight", "bias"):
            renamed[f"{own}.conv.affine.{part}"] = get(tensors, f"{name}.conv.modulation.{part}", pop=True)
    first = get(tensors, "style.1.weight")
    settings = {
        "z_dim": first.shape[1],
        "image_size": size,
        "channels": len(renamed["blocks.0.draw.bias"]),
        "w_dim": len(first),
        "mapping": len(numbers(tensors, r"style\.(\d+)\.")),
        **_bases({size: len(bias) for size, bias in widths.items()}),
        "architecture": "skip",
        "conv_clamp": None,
        "num_classes": None,
    }
    rules: list[Rule] = [(r"style\.(\d+)\.(weight|bias)", lambda i, name: f"mapping.layers.{int(i) - 1}.{name}")]
    renamed |= renamed_by(tensors, rules)
    if "latent_avg" in beside:
        renamed["w_mean"] = beside["latent_avg"].reshape(-1)
    else:
        renamed["w_mean"] = _mean_of_w(settings, renamed)
    return settings, renamed


def _mean_of_w(settings: Mapping[str, Any], tensors: Tensors) -> Tensor:
    """The mean of w over 10,000 latents: rosinality's training checkpoints do not hold it."""
    mapping = MappingNetwork(settings["z_dim"], settings["w_dim"], settings["mapping"], None)
    own = {name.removeprefix("mapping."): t.float() for name, t in tensors.items() if name.startswith("mapping.")}
    mapping.load_state_dict(own)
    with torch.no_grad():
        z = torch.randn(10_000, settings["z_dim"], generator=torch.Generator().manual_seed(0))
        mean: Tensor = mapping(z).mean(0)
    return mean


def _rosinality_discriminator(tensors: Tensors) -> Answer:
    """The discriminator of stylegan2-pytorch: `convs.0` reads the image, each of the others halves it."""
    blocks = [i for i in numbers(tensors, r"convs\.(\d+)\.") if i]
    for name in [name for name in tensors if name.endswith(".kernel")]:
        _check_filter(name, tensors.pop(name))
    size = 4 << len(blocks)
    widths = {size >> i: len(get(tensors, f"convs.{i + 1}.conv1.1.bias")) for i in range(len(blocks))}
    widths[4] = len(get(tensors, "final_conv.1.bias"))
    settings = {
        "image_size": size,
        "channels": get(tensors, "convs.0.0.weight").shape[1],
        **_bases(widths),
        "architecture": "resnet",
        "conv_clamp": None,
        "group": 4,
        "strided": True,
        "mapping": 8,
        "num_classes": None,
    }
    ends = {"final_conv.0": "conv", "final_conv.1": "conv", "final_linear.0": "dense", "final_linear.1": "score"}
    parts = {"conv1": "same", "conv2": "down", "skip": "shortcut"}
    rules: list[Rule] = [
        (r"convs\.0\.[01]\.(weight|bias)", "blocks.0.read.{}".format),
        (
            r"convs\.(\d+)\.(conv1|conv2|skip)\.\d\.(weight|bias)",
            lambda i, part, name: f"blocks.{int(i) - 1}.{parts[part]}.{name}",
        ),
        (r"(final_(?:conv|linear)\.\d)\.(weight|bias)", lambda part, name: f"{ends[part]}.{name}"),
    ]
    return settings, renamed_by(tensors, rules)


def renamed_by(tensors: Tensors, rules: Sequence[Rule]) -> Tensors:
    """Take out the tensors whose names match a rule, under the names that it gives."""
    renamed = {}
    for name in list(tensors):
        for pattern, rename in rules:
            if match := re.fullmatch(pattern, name):
                renamed[rename(*match.groups())] = tensors.pop(name)
                break
    return renamed


def get(tensors: Tensors, name: str, *, pop: bool = False) -> Tensor:
    """A tensor that has to be there, and that has at least one dimension."""
    if name not in tensors:
        raise ConfigError(f"there is no {name}")
    tensor = tensors.pop(name) if pop else tensors[name]
    return tensor if tensor.dim() else tensor.reshape(1)


def numbers(tensors: Iterable[str], pattern: str) -> list[int]:
    """The numbers at one place of the names, sorted."""
    return sorted({int(match[1]) for name in tensors if (match := re.match(pattern, name)) and len(match[1]) < 6})


def _z_dim(tensors: Tensors) -> int:
    inputs = get(tensors, "mapping.fc0.weight").shape[1]
    return inputs - (len(tensors["mapping.embed.weight"]) if "mapping.embed.weight" in tensors else 0)


def _bases(widths: Mapping[int, int]) -> dict[str, int]:
    """`channel_base` and `channel_max` of networks with these numbers of channels at each resolution."""
    most = max(widths.values())
    base = max([size * width for size, width in widths.items() if width < most] or [most * max(widths)])
    if any(max(1, min(base // size, most)) != width for size, width in widths.items()):
        raise ConfigError(f"no channel_base gives these channels at each resolution: {widths}")
    return {"channel_base": base, "channel_max": most}


def _architecture(names: Iterable[str], shortcut: str, lowest: str) -> str:
    """By which paths there are: past the convolutions, or to the image at the lowest resolution."""
    if any(name.startswith(shortcut) for name in names):
        return "resnet"
    return "skip" if any(name.startswith(lowest) for name in names) else "orig"


def _drop_filters(tensors: Tensors) -> None:
    for name in [name for name in tensors if name.endswith("resample_filter")]:
        _check_filter(name, tensors.pop(name))


def _check_filter(name: str, kernel: Tensor) -> None:
    """All published checkpoints have the same low-pass filter, some times 4 where they enlarge."""
    taps = torch.tensor([1.0, 3.0, 3.0, 1.0])
    expected = (taps[:, None] * taps / 64).to(kernel.dtype)
    if kernel.shape != expected.shape or not any(torch.allclose(kernel, gain * expected) for gain in (1, 4)):
        raise ConfigError(f"{name} is not the filter [1, 3, 3, 1], which is the only one here")


def _values(modules: Mapping[str, Any] | None, kind: str, setting: str, default: Any) -> dict[str, Any]:
    """A setting of all modules of a class, by their names."""
    found = {name: module for name, module in (modules or {}).items() if module.kind == kind}
    return {name: module.settings.get(setting, default) for name, module in found.items()}


def _only(modules: Mapping[str, Any] | None, kind: str, setting: str, default: Any) -> Any:
    """A setting that is the same in all modules of a class."""
    values = list(_values(modules, kind, setting, default).values())
    if any(value != values[0] for value in values):
        raise ConfigError(f"{setting} differs between its layers: {values}")
    return values[0] if values else default


def _clamp(modules: Mapping[str, Any] | None) -> float | None:
    kinds = [_values(modules, kind, "conv_clamp", None) for kind in ("SynthesisLayer", "Conv2dLayer")]
    values = {value for by_name in kinds for name, value in by_name.items() if not name.endswith(".skip")}
    if len(values) > 1 or not all(value is None or isinstance(value, int | float) for value in values):
        raise ConfigError(f"conv_clamp differs between its layers: {sorted(map(str, values))}")
    return next(iter(values), None)


def _require(modules: Mapping[str, Any], kind: str, setting: str, allows: Callable[[Any, str], bool]) -> None:
    """Refuse a setting that these layers do not have here. One that a layer does not name is the usual one."""
    for name, module in modules.items():
        if module.kind == kind and setting in module.settings and not allows(module.settings[setting], name):
            raise ConfigError(f"{name} has {setting}={module.settings[setting]!r}, which is not supported")


def _check_modules(modules: Mapping[str, Any]) -> None:
    """Refuse generators of NVIDIA's with settings that no tensor shows and that ganzoo's has not."""
    if any(module.kind == "SynthesisInput" for module in modules.values()):
        raise ConfigError("it is a StyleGAN3 (it has a SynthesisInput), which is another network")
    _require(modules, "FullyConnectedLayer", "lr_multiplier", lambda value, name: value == 0.01 or ".fc" not in name)
    _require(modules, "SynthesisLayer", "activation", lambda value, _: value == "lrelu")
    _require(modules, "SynthesisLayer", "use_noise", lambda value, _: value is True)
