"""Foreign checkpoints in: their tensors, read without running any code, and the generator that they are the weights of.

What the tensors of an architecture are called elsewhere is known to its plugin: `from_foreign` of its generator.
"""

import re
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from ganzoo.errors import GanzooError, WeightsError
from ganzoo.rng import preserve_torch
from ganzoo.zoo.networks import network, resolve
from ganzoo.zoo.plugins import registry

PLAIN = (Tensor, dict, list, tuple, int, float, str, bool, type(None))
"""What a checkpoint may hold."""
WRAPPERS = ("module.", "_orig_mod.")
"""What DataParallel and torch.compile put before every name."""
ROLES = {
    **dict.fromkeys(("g", "netg", "modelg", "gen", "generator"), "generator"),
    **dict.fromkeys(("d", "netd", "modeld", "dis", "disc", "discriminator", "critic"), "discriminator"),
}
"""Which network a word of a key speaks of."""


def read_tensors(path: Path, key: str | None = None) -> dict[str, Tensor]:
    """The generator's tensors in a foreign checkpoint.

    Args:
        path: a .safetensors file, else one of torch.save, which is never unpickled: `weights_only`.
        key: where in the file the state dict lies, dotted ("models.netG"); without it, the only one that can be a
            generator's. A prefix of the names in a state dict does as well.

    Returns:
        Tensors on the CPU by name, less the "module." of DataParallel and the "_orig_mod." of torch.compile.

    Raises:
        WeightsError: no readable checkpoint, more in it than tensors, numbers and strings, nothing under that key, or
            several state dicts to choose from.
    """
    path = Path(path)
    if not path.is_file():
        raise WeightsError(f"{path} is {'a folder' if path.is_dir() else 'not there'}: name a checkpoint file")
    tree = _load(path)
    for where, node in _walk(tree):
        if not isinstance(node, PLAIN):
            kind = f"{type(node).__module__}.{type(node).__qualname__}"
            raise WeightsError(
                f"{path} holds a {kind} under {where!r}, which is more than tensors, numbers and strings: "
                "save the generator's state_dict() alone and import that"
            )
    states = _candidates(tree)
    choice = f"--key can be {', '.join(map(repr, list(states)[:10]))}" if any(states) else "leave --key out"
    if key is not None:
        found = _follow(tree, key)
        if not _is_state(found):
            raise WeightsError(f"{path} has no tensors under the key {key!r}: {choice}")
    elif len(states) == 1:
        (found,) = states.values()
    elif states:
        raise WeightsError(f"{path} holds {len(states)} state dicts that may be the generator's: {choice}")
    else:
        raise WeightsError(f"{path} holds no generator's state dict: name its --key, or save g.state_dict() anew")
    for name, tensor in found.items():
        dense = tensor.layout is torch.strided and tensor.device.type == "cpu" and not tensor.is_quantized
        # A view that repeats few bytes could claim any size.
        if not dense or tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
            raise WeightsError(f"{path}: {name!r} is not a plain dense tensor: save it .to_dense() or .contiguous()")
    while prefix := next((w for w in WRAPPERS if all(n.startswith(w) and n != w for n in found)), None):
        found = {name.removeprefix(prefix): tensor for name, tensor in found.items()}
    return {name: tensor.detach() for name, tensor in found.items()}


def convert(architecture: str, tensors: Mapping[str, Tensor], **options: Any) -> nn.Module:
    """The generator that foreign tensors are the weights of.

    Every tensor given is used and every tensor of the network is filled, or this fails.

    Args:
        architecture: a registered one. If its generator has `from_foreign`, that reads the sizes off the tensors and
            renames them; else the names must be the network's own and `options` its settings.
        tensors: as `read_tensors` gives them.
        **options: settings that tensors can't tell, such as `activation="relu"` or `output="sigmoid"`.

    Returns:
        The generator in evaluation mode, fp32, on the CPU, with its settings as `.config`.

    Raises:
        UnknownNameError: no such architecture.
        ConfigError: an option that the generator lacks or refuses.
        WeightsError: a tensor that is left over, missing, of another shape or kind, or not finite.
    """
    factory = resolve(registry().architecture(architecture).generator)
    what = f"the generator of {architecture}"
    unread: list[str] = []
    renamed, settings = dict(tensors), dict[str, Any]()
    if (from_foreign := getattr(factory, "from_foreign", None)) is not None:
        prefix = _common_prefix(tensors)
        left = _in_order(_under(tensors, prefix))
        if empty := [name for name in tensors if not tensors[name].numel()]:
            raise WeightsError(f"{_some(empty)} holds no numbers: fetch the checkpoint again")
        under = f" (names under {prefix!r})" if prefix else ""
        try:
            settings, renamed = from_foreign(left, options)
        except GanzooError as error:
            raise WeightsError(f"the weights do not fit {what}: {error}{under}") from error
        except Exception as error:  # a stranger's code on a stranger's tensors
            raise WeightsError(f"{what} cannot read these weights: {type(error).__name__}: {error}{under}") from error
        unread = [prefix + name for name in left]
        for name, value in options.items():
            if name in settings and _plain(settings[name]) != _plain(value):
                raise WeightsError(f"by its weights {what} has {name}={settings[name]!r}, not {value!r}: leave it out")
    with preserve_torch(torch.device("cpu")):  # the random weights are thrown away: leave no trace of drawing them
        g: nn.Module = network(architecture, "generator", {}, {**settings, **options}).float()
    own = {name: tensor for name, tensor in g.state_dict().items() if isinstance(tensor, Tensor)}
    for name, tensor in own.items():
        if name.endswith(".num_batches_tracked"):  # checkpoints older than PyTorch 0.4.1 lack it; it changes no image
            renamed.setdefault(name, torch.zeros_like(tensor))
    _check(what, own, renamed, unread)
    try:
        g.load_state_dict(renamed)
    except RuntimeError as error:  # a stranger's own hooks
        raise WeightsError(f"{what} refuses the weights: {' '.join(str(error).split())}") from error
    for name, tensor in g.state_dict().items():
        if isinstance(tensor, Tensor) and not tensor.isfinite().all():
            raise WeightsError(f"{name} of {what} holds infinities or NaN in fp32: take an earlier checkpoint")
    return g.eval()


def _check(what: str, own: Mapping[str, Tensor], given: Mapping[str, Tensor], unread: list[str]) -> None:
    extra = unread or [name for name in given if name not in own]
    if extra:
        raise WeightsError(
            f"{what} has no place for {_some(extra)}, and nothing is dropped unseen: take a checkpoint of the same "
            "layers, or write a plugin for these"
        )
    if missing := [name for name in own if name not in given]:
        raise WeightsError(f"nothing fills {_some(missing)} of {what}: is this a checkpoint of that architecture?")
    for name, tensor in own.items():
        if given[name].shape != tensor.shape:
            shapes = f"{tuple(tensor.shape)}, not {tuple(given[name].shape)}"
            raise WeightsError(f"{name} of {what} has shape {shapes}: are the options those it was trained with?")
        if given[name].is_floating_point() != tensor.is_floating_point() or given[name].is_complex():
            raise WeightsError(f"{name} of {what} is {tensor.dtype}, not {given[name].dtype}: save plain weights")


def _some(names: list[str]) -> str:
    return ", ".join(map(repr, names[:3])) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _load(path: Path) -> Any:
    """Everything in a file; torch's by the unpickler that builds tensors and plain containers alone."""
    try:
        if path.suffix.lower() == ".safetensors":
            return load_file(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, SafetensorError) as error:
        raise WeightsError(f"{path} cannot be read or is damaged: {error}. Fetch it again") from error
    except Exception as error:  # what damaged bytes raise is not documented. torch's texts tell to unpickle: not cited
        if found := re.search(r"GLOBAL ([\w.]+)", str(error)):
            raise WeightsError(
                f"{path} holds more than tensors ({found[1]}); it was not executed. Where you trust it, save its "
                "generator's state_dict() alone and import that"
            ) from error
        raise WeightsError(
            f"{path} is damaged, not from torch.save, or holds more than tensors ({type(error).__name__}); nothing in "
            "it was executed. Fetch it again, or save the generator's state_dict() alone"
        ) from error


def _items(node: Any) -> list[tuple[str, Any]]:
    if isinstance(node, dict):
        return [(str(key), value) for key, value in node.items()]
    return [(str(i), value) for i, value in enumerate(node)] if isinstance(node, list | tuple) else []


def _walk(tree: Any) -> Iterator[tuple[str, Any]]:
    """Every value in nested containers with its dotted path; a container that is there twice, once."""
    stack, seen = [("", tree)], set()
    while stack:
        path, node = stack.pop()
        if id(node) not in seen:
            yield path, node
            if children := _items(node):
                seen.add(id(node))
                stack += [(f"{path}.{key}" if path else key, child) for key, child in reversed(children)]


def _is_state(node: Any) -> bool:
    named = isinstance(node, dict) and all(isinstance(name, str) for name in node)
    return named and bool(node) and all(isinstance(value, Tensor) for value in node.values())


def _under(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}


def _role(path: str) -> str | None:
    """The network that a key speaks of, by its last telling word: "netG_state_dict" -> "generator"."""
    return next((ROLES[word] for word in reversed(re.findall("[a-z]+", path.lower())) if word in ROLES), None)


def _candidates(tree: Any) -> dict[str, dict[str, Tensor]]:
    """The state dicts in a file that are not a discriminator's, by dotted path."""
    found: dict[str, dict[str, Tensor]] = {}
    for path, node in _walk(tree):
        if _is_state(node):
            tops = dict.fromkeys(name.partition(".")[0] for name in node)
            if {"generator", "discriminator"} <= {_role(top) for top in tops}:  # one state dict for a whole GAN
                found |= {f"{path}.{top}" if path else top: _under(node, f"{top}.") for top in tops}
            else:
                found[path] = node
    # Within a file, a dict of tensors without a weight is an optimizer's state, a random state, ...
    return {
        path: state
        for path, state in found.items()
        if not path or (_role(path) != "discriminator" and any(n.rpartition(".")[2] == "weight" for n in state))
    }


def _follow(node: Any, key: str) -> Any:
    """What lies under a dotted key, or None. A key may hold dots itself, or be a prefix of a state dict's names."""
    for name, child in _items(node):
        if name == key:
            return child
        if key.startswith(f"{name}.") and (found := _follow(child, key.removeprefix(f"{name}."))) is not None:
            return found
    return _under(node, f"{key}.") if _is_state(node) else None


def _common_prefix(names: Mapping[str, Any]) -> str:
    """The modules that all names lie in ("main."), up to the index of an nn.Sequential."""
    prefix: list[str] = []
    for parts in zip(*(name.split(".")[:-1] for name in names), strict=False):
        if len(set(parts)) > 1 or parts[0].isdecimal():
            break
        prefix.append(f"{parts[0]}.")
    return "".join(prefix)


def _in_order(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Those of an nn.Sequential by index, "2.weight" before "10.weight" (safetensors sorts otherwise); others as is."""
    places = {name: name.split(".")[:-1] for name in tensors}
    if not all(part.isdecimal() for place in places.values() for part in place):
        return dict(tensors)
    return {name: tensors[name] for name in sorted(tensors, key=lambda name: [int(part) for part in places[name]])}
