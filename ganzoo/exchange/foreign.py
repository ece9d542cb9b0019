"""Import of foreign checkpoints: reading their tensors without running any code, and building the generator.

The plugin of an architecture knows the names that others give its tensors: see `from_foreign` of its generator.
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
"""The types that a checkpoint may hold."""
WRAPPERS = ("module.", "_orig_mod.")
"""The prefixes that DataParallel and torch.compile add to every name."""
ROLES = {
    **dict.fromkeys(("g", "netg", "modelg", "gen", "generator"), "generator"),
    **dict.fromkeys(("d", "netd", "modeld", "dis", "disc", "discriminator", "critic"), "discriminator"),
}
"""The network that a word in a key stands for."""


def read_tensors(path: Path, key: str | None = None) -> dict[str, Tensor]:
    """Read the generator's tensors from a foreign checkpoint.

    Args:
        path: a .safetensors file, or a file of torch.save, which is read with `weights_only`, so that no code in it
            runs.
        key: the dotted key of the state dict ("models.netG"), or a prefix of the names in one; None: the only state
            dict that can be a generator's.

    Returns:
        Tensors on the CPU by name, without the prefixes of DataParallel and torch.compile.

    Raises:
        WeightsError: the file cannot be read, or holds more than tensors, numbers and strings; there is no state dict
            under that key, or without a key there is none or more than one.
    """
    path = Path(path)
    if not path.is_file():
        raise WeightsError(f"{path} {'is a folder' if path.is_dir() else 'does not exist'}: name a checkpoint file")
    tree = _load(path)
    for where, node in _walk(tree):
        if not isinstance(node, PLAIN):
            kind = f"{type(node).__module__}.{type(node).__qualname__}"
            raise WeightsError(
                f"{path} holds a {kind} under {where!r}, which is more than tensors, numbers and strings: "
                "save the generator's state_dict() alone and import that"
            )
    candidates = _candidates(tree)
    hint = f"--key can be {', '.join(map(repr, list(candidates)[:10]))}" if any(candidates) else "leave --key out"
    if key is not None:
        state = _follow(tree, key)
        if not _is_state(state):
            raise WeightsError(f"{path} has no tensors under the key {key!r}: {hint}")
    elif len(candidates) == 1:
        (state,) = candidates.values()
    elif candidates:
        raise WeightsError(f"{path} holds {len(candidates)} state dicts that may be the generator's: {hint}")
    else:
        raise WeightsError(f"{path} holds no generator's state dict: name its --key, or save g.state_dict() anew")
    for name, tensor in state.items():
        dense = tensor.layout is torch.strided and tensor.device.type == "cpu" and not tensor.is_quantized
        # A view that repeats a few bytes could claim any size.
        if not dense or tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
            raise WeightsError(f"{path}: {name!r} is not a plain dense tensor: save it .to_dense() or .contiguous()")
    while prefix := next((w for w in WRAPPERS if all(n.startswith(w) and n != w for n in state)), None):
        state = {name.removeprefix(prefix): tensor for name, tensor in state.items()}
    return {name: tensor.detach() for name, tensor in state.items()}


def convert(architecture: str, tensors: Mapping[str, Tensor], **options: Any) -> nn.Module:
    """Build the generator whose weights are these foreign tensors.

    Every tensor must be used, and every tensor of the network must be filled.

    Args:
        architecture: a registered one. If its generator has `from_foreign`, that method infers the sizes from the
            tensors and renames them; else the names must be the network's own, and `options` its settings.
        tensors: the result of `read_tensors`.
        **options: settings that cannot be inferred from tensors, such as `activation="relu"` or `output="sigmoid"`.

    Returns:
        The generator in evaluation mode, fp32, on the CPU, with its settings as `.config`.

    Raises:
        UnknownNameError: there is no such architecture.
        ConfigError: the generator lacks an option or refuses its value.
        WeightsError: a tensor is left over, missing, of another shape or type, or not finite.
    """
    factory = resolve(registry().architecture(architecture).generator)
    what = f"the generator of {architecture}"
    unused: list[str] = []
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
        except Exception as error:  # a plugin's code on foreign tensors may raise anything
            raise WeightsError(f"{what} cannot read these weights: {type(error).__name__}: {error}{under}") from error
        unused = [prefix + name for name in left]
        for name, value in options.items():
            if name in settings and _plain(settings[name]) != _plain(value):
                raise WeightsError(
                    f"{what} has {name}={settings[name]!r} according to its weights, not {value!r}: leave it out"
                )
    with preserve_torch(torch.device("cpu")):  # building draws initial weights, which are replaced below
        g: nn.Module = network(architecture, "generator", {}, {**settings, **options}).float()
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
    """The content of a file. Those of torch are read by the unpickler that builds only tensors and plain containers."""
    try:
        if path.suffix.lower() == ".safetensors":
            return load_file(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, SafetensorError) as error:
        raise WeightsError(f"{path} cannot be read or is damaged: {error}. Fetch it again") from error
    except Exception as error:  # the errors for damaged bytes are not documented
        # torch's own message advises the user to unpickle the file, so it is not repeated.
        if match := re.search(r"GLOBAL ([\w.]+)", str(error)):
            raise WeightsError(
                f"{path} holds more than tensors ({match[1]}); it was not executed. If you trust it, save its "
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


def _candidates(tree: Any) -> dict[str, dict[str, Tensor]]:
    """The state dicts in a file that are not a discriminator's, by dotted path."""
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
        if not path or (_role(path) != "discriminator" and any(n.rpartition(".")[2] == "weight" for n in state))
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
