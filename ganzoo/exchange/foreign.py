"""Import of foreign checkpoints: reading their tensors without running any code, and building the networks.

The plugin of an architecture knows the names that others give its tensors: see `from_foreign` of its networks.
"""

import inspect
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from ganzoo.errors import GanzooError, WeightsError
from ganzoo.exchange.pickles import Record
from ganzoo.exchange.records import Module, networks
from ganzoo.exchange.torch_files import read_file
from ganzoo.rng import preserve_torch
from ganzoo.zoo.networks import network, resolve
from ganzoo.zoo.plugins import registry

PLAIN = (Tensor, dict, list, tuple, int, float, str, bool, type(None))
"""The types that a checkpoint may hold."""
WRAPPERS = ("module.", "_orig_mod.")
"""The prefixes that DataParallel and torch.compile add to every name."""
ROLES = {
    **dict.fromkeys(("g", "netg", "modelg", "gen", "generator"), "generator"),
    **dict.fromkeys(("d", "netd", "modeld", "dis", "disc", "discriminator", "critic"), "discriminator"),
}
"""The network that a word in a key stands for."""


TOLERATED = ("argparse.Namespace",)
"""Records that training checkpoints hold beside their tensors. Nothing is taken from them."""

ADVICE = "Save the network's state_dict() alone, and import that"

Role = Literal["generator", "discriminator"]


@dataclass(frozen=True)
class Checkpoint:
    """The tensors of one network in a foreign file, and what else the file says of it.

    Attributes:
        tensors: on the CPU by name, without the prefixes of DataParallel and torch.compile.
        role: which network they are.
        modules: in a pickle of NVIDIA's, the class and the settings of each submodule, by its dotted name.
        beside: the tensors that lie beside the network's state dict.
        key: the dotted key of the state dict in the file; empty if it is the file's whole content.
    """

    tensors: dict[str, Tensor]
    role: Role = "generator"
    modules: Mapping[str, Module] = field(default_factory=dict)
    beside: Mapping[str, Tensor] = field(default_factory=dict)
    key: str = ""


def read_tensors(path: Path, key: str | None = None) -> dict[str, Tensor]:
    """The tensors of the generator in a foreign checkpoint: see `read_checkpoint`."""
    return read_checkpoint(path, key).tensors


def read_checkpoint(path: Path, key: str | None = None, role: Role = "generator") -> Checkpoint:
    """Read the tensors of one network from a foreign checkpoint.

    Args:
        path: a .safetensors file, a file of torch.save, or a network pickle of NVIDIA's. Of a pickle nothing runs: see
            `ganzoo.exchange.pickles`.
        key: the dotted key of the state dict ("models.netG"), or a prefix of the names in one; None: the only state
            dict that can be this network's, or the only averaged one ("G_ema") of several.
        role: the network to look for.

    Raises:
        WeightsError: the file cannot be read, or holds more than tensors, numbers and strings; there is no state dict
            under that key, or without a key there is none or more than one.
    """
    path = Path(path)
    if not path.is_file():
        raise WeightsError(f"{path} {'is a folder' if path.is_dir() else 'does not exist'}: name a checkpoint file")
    tree, modules = networks(_load(path))
    for where, node in _walk(tree):
        if not isinstance(node, PLAIN):
            _refuse(node, where, tree, str(path))
    key, state = _choose(tree, key, role, str(path))
    beside = {} if state is tree else {str(k): v for k, v in _items(tree) if isinstance(v, Tensor)}
    own_modules = modules.get(id(state), {})
    while prefix := next((w for w in WRAPPERS if all(n.startswith(w) and n != w for n in state)), None):
        state = {name.removeprefix(prefix): tensor for name, tensor in state.items()}
    return Checkpoint({name: tensor.detach() for name, tensor in state.items()}, role, own_modules, beside, key)


def _refuse(node: Any, where: str, tree: Any, path: str) -> None:
    """Refuse what is neither a tensor nor plain, unless it lies beside the networks of a training checkpoint."""
    name = node.name if isinstance(node, Record) else f"{type(node).__module__}.{type(node).__qualname__}"
    if name in TOLERATED:
        if isinstance(tree, dict) and any(node is value for value in tree.values()):
            return
        raise WeightsError(f"{path} holds more than tensors ({name}); it was not executed. {ADVICE}")
    if name.startswith("torch._utils._rebuild"):
        raise WeightsError(f"{path}: {where!r} is not a plain dense tensor: save it .to_dense() or .contiguous()")
    raise WeightsError(
        f"{path} holds a {name} under {where!r}, which is more than tensors, numbers and strings. {ADVICE}"
    )


def _choose(tree: Any, key: str | None, role: Role, path: str) -> tuple[str, dict[str, Tensor]]:
    """The key and the state dict under it, or the only one of that role."""
    candidates = _candidates(tree, role)
    hint = f"--key can be {', '.join(map(repr, list(candidates)[:10]))}" if any(candidates) else "leave --key out"
    if key is not None:
        state = _follow(tree, key)
        if not _is_state(state):
            raise WeightsError(f"{path} has no tensors under the key {key!r}: {hint}")
        return key, state
    averaged = [where for where in candidates if where.lower().endswith("_ema")]
    if len(averaged) == 1 and all(where in (averaged[0], averaged[0][:-4]) for where in candidates):
        return averaged[0], candidates[averaged[0]]  # of one network and its average
    if len(candidates) == 1:
        return next(iter(candidates.items()))
    if candidates:
        raise WeightsError(f"{path} holds {len(candidates)} state dicts that may be the {role}'s: {hint}")
    raise WeightsError(f"{path} holds no {role}'s state dict: name its --key, or save its state_dict() anew")


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
    left = _in_order(_under(tensors, prefix))
    if empty := [name for name in tensors if not tensors[name].numel()]:
        raise WeightsError(f"{_some(empty)} holds no numbers: fetch the checkpoint again")
    under = f" (names under {prefix!r})" if prefix else ""
    more = {"modules": checkpoint.modules, "beside": checkpoint.beside}
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
                f"{what} has {name}={settings[name]!r} according to its weights, not {value!r}: leave it out"
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


def _load(path: Path) -> Any:
    """The content of a file."""
    try:
        if path.suffix.lower() == ".safetensors":
            return load_file(path)
        return read_file(path)
    except WeightsError as error:
        raise WeightsError(f"{path} {error}. {ADVICE}, or fetch the file again") from error
    except (OSError, SafetensorError) as error:
        raise WeightsError(f"{path} cannot be read or is damaged: {error}. Fetch it again") from error


def _items(node: Any) -> list[tuple[str, Any]]:
    if isinstance(node, dict):
        return [(str(key), value) for key, value in node.items()]
    return [(str(i), value) for i, value in enumerate(node)] if isinstance(node, list | tuple) else []


def _walk(tree: Any) -> Iterator[tuple[str, Any]]:
    """Every value in nested containers with its dotted path. A container that occurs twice is walked once."""
    stack, visited = [("", tree)], set()
    while stack:
        path, node = stack.pop()
        if id(node) not in visited:
            yield path, node
            if children := _items(node):
                visited.add(id(node))
                stack += [(f"{path}.{key}" if path else key, child) for key, child in reversed(children)]


def _is_state(node: Any) -> bool:
    named = isinstance(node, dict) and all(isinstance(name, str) for name in node)
    return named and bool(node) and all(isinstance(value, Tensor) for value in node.values())


def _under(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}


def _role(path: str) -> str | None:
    """The network that a key belongs to, by the last word in `ROLES`: "netG_state_dict" is the generator's."""
    return next((ROLES[word] for word in reversed(re.findall("[a-z]+", path.lower())) if word in ROLES), None)


def _candidates(tree: Any, role: Role) -> dict[str, dict[str, Tensor]]:
    """The state dicts in a file that may be of that network, by dotted path: a generator's need not say so."""
    states: dict[str, dict[str, Tensor]] = {}
    for path, node in _walk(tree):
        if _is_state(node):
            tops = dict.fromkeys(name.partition(".")[0] for name in node)
            if {"generator", "discriminator"} <= {_role(top) for top in tops}:  # one state dict for a whole GAN
                states |= {f"{path}.{top}" if path else top: _under(node, f"{top}.") for top in tops}
            else:
                states[path] = node
    # A nested dict of tensors without a weight is the state of an optimizer, a random state, or the like.
    return {
        path: state
        for path, state in states.items()
        if (not path or any(n.rpartition(".")[2] == "weight" for n in state))
        and (_role(path) == "discriminator") == (role == "discriminator")
    }


def _follow(node: Any, key: str) -> Any:
    """The value under a dotted key, or None. A key may contain dots itself, or be a prefix of names in a state dict."""
    for name, child in _items(node):
        if name == key:
            return child
        if key.startswith(f"{name}.") and (value := _follow(child, key.removeprefix(f"{name}."))) is not None:
            return value
    return _under(node, f"{key}.") if _is_state(node) else None


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
