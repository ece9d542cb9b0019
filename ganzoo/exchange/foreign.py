"""Import of foreign checkpoints: building the networks whose weights they hold.

The plugin of an architecture knows the names that others give its tensors: see `from_foreign` of its networks.
"""

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ganzoo.errors import GanzooError, WeightsError
from ganzoo.exchange.checkpoints import Checkpoint
from ganzoo.rng import preserve_torch
from ganzoo.zoo.networks import network, resolve
from ganzoo.zoo.plugins import registry


def convert(architecture: str, foreign: Mapping[str, Tensor] | Checkpoint, **options: Any) -> nn.Module:
    """Build the network whose weights are these foreign tensors.

    Every tensor must be used, and every tensor of the network must be filled.

    Args:
        architecture: a registered one. If its network has `from_foreign`, that method infers the sizes from the
            tensors and renames them; else the names must be the network's own, and `options` its settings.
        foreign: the result of `read_checkpoint`, or the generator's tensors alone.
        **options: settings that cannot be inferred from tensors, such as `activation="relu"` or `output="sigmoid"`.

    Returns:
        The network in evaluation mode, fp32, on the CPU, with its settings as `.config`.

    Raises:
        UnknownNameError: there is no such architecture.
        ConfigError: the network lacks an option or refuses its value.
        WeightsError: a tensor is left over, missing, of another shape or type, or not finite.
    """
    checkpoint = foreign if isinstance(foreign, Checkpoint) else Checkpoint(dict(foreign))
    role = checkpoint.role
    what = f"the {role} of {architecture}"
    factory = resolve(getattr(registry().architecture(architecture), role))
    settings, renamed, unused = _translate(factory, what, checkpoint, options)
    with preserve_torch(torch.device("cpu")):  # building draws initial weights, which are replaced below
        g: nn.Module = network(architecture, role, {}, {**settings, **options}).float()
    own = {name: tensor for name, tensor in g.state_dict().items() if isinstance(tensor, Tensor)}
    for name, tensor in own.items():
        if name.endswith(".num_batches_tracked"):  # missing before PyTorch 0.4.1, and without effect on images
            renamed.setdefault(name, torch.zeros_like(tensor))
    _compare(what, own, renamed, unused)
    try:
        g.load_state_dict(renamed)
    except RuntimeError as error:  # from a hook of the plugin's modules
        raise WeightsError(f"{what} refuses the weights: {' '.join(str(error).split())}") from error
    for name, tensor in g.state_dict().items():
        if isinstance(tensor, Tensor) and not tensor.isfinite().all():
            raise WeightsError(f"{name} of {what} holds NaN or infinite values in fp32: take an earlier checkpoint")
    return g.eval()


def _translate(
    factory: Any, what: str, checkpoint: Checkpoint, options: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Tensor], list[str]]:
    """The settings and the tensors that a network's `from_foreign` makes of a checkpoint, and the names of those left
    over. Without that method, the tensors are the network's own."""
    tensors = checkpoint.tensors
    if (from_foreign := getattr(factory, "from_foreign", None)) is None:
        return {}, dict(tensors), []
    prefix = _common_prefix(tensors)
    left = _in_order({name.removeprefix(prefix): tensor for name, tensor in tensors.items()})
    if empty := [name for name in tensors if not tensors[name].numel()]:
        raise WeightsError(f"{_some(empty)} holds no numbers: fetch the checkpoint again")
    under = f" (names under {prefix!r})" if prefix else ""
    more = {"modules": checkpoint.modules, "beside": checkpoint.beside, "key": checkpoint.key}
    accepted = inspect.signature(from_foreign).parameters
    settings: dict[str, Any]
    try:
        settings, renamed = from_foreign(left, options, **{k: v for k, v in more.items() if k in accepted})
    except GanzooError as error:
        raise WeightsError(f"the weights do not fit {what}: {error}{under}") from error
    except Exception as error:  # a plugin's code on foreign tensors may raise anything
        cause = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise WeightsError(f"{what} cannot read these weights: {cause}{under}") from error
    for name, value in options.items():
        if name in settings and _plain(settings[name]) != _plain(value):
            raise WeightsError(
                f"{what} has {name}={settings[name]!r} according to its weights, not {value!r}: leave it "
                "out, or take the weights that belong to it"
            )
    return settings, renamed, [prefix + name for name in left]


def _compare(what: str, own: Mapping[str, Tensor], foreign: Mapping[str, Tensor], unused: list[str]) -> None:
    """Refuse foreign tensors whose names, shapes or types are not those of the network's own."""
    extra = unused or [name for name in foreign if name not in own]
    if extra:
        raise WeightsError(
            f"{what} has no place for {_some(extra)}, and no tensor may be left over: take a checkpoint of the same "
            "layers, or write a plugin for these"
        )
    if missing := [name for name in own if name not in foreign]:
        raise WeightsError(f"nothing fills {_some(missing)} of {what}: is this a checkpoint of that architecture?")
    for name, tensor in own.items():
        if foreign[name].shape != tensor.shape:
            shapes = f"{tuple(tensor.shape)}, not {tuple(foreign[name].shape)}"
            raise WeightsError(f"{name} of {what} has shape {shapes}: use the options that it was trained with")
        if foreign[name].is_floating_point() != tensor.is_floating_point() or foreign[name].is_complex():
            raise WeightsError(f"{name} of {what} is {tensor.dtype}, not {foreign[name].dtype}: save plain weights")


def _some(names: list[str]) -> str:
    """The first three names, and the number of the others."""
    return ", ".join(map(repr, names[:3])) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _common_prefix(names: Mapping[str, Any]) -> str:
    """The prefix that all names share ("main."), up to the index of an nn.Sequential."""
    prefix: list[str] = []
    for parts in zip(*(name.split(".")[:-1] for name in names), strict=False):
        if len(set(parts)) > 1 or parts[0].isdecimal():
            break
        prefix.append(f"{parts[0]}.")
    return "".join(prefix)


def _in_order(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Sort the tensors of an nn.Sequential by index, "2.weight" before "10.weight", which safetensors does not."""
    places = {name: name.split(".")[:-1] for name in tensors}
    if not all(part.isdecimal() for place in places.values() for part in place):
        return dict(tensors)
    return {name: tensors[name] for name in sorted(tensors, key=lambda name: [int(part) for part in places[name]])}
