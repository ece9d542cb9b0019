"""Reading foreign checkpoints: which networks a file holds, and their tensors. No code in it is run."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from ganzoo.errors import WeightsError
from ganzoo.exchange.pickles import Record
from ganzoo.exchange.records import Module, networks
from ganzoo.exchange.torch_files import read_file

PLAIN = (Tensor, dict, list, tuple, int, float, str, bool, type(None))
"""The types that a checkpoint may hold."""
WRAPPERS = ("module.", "_orig_mod.")
"""The prefixes that DataParallel and torch.compile add to every name."""
ROLES = {
    **dict.fromkeys(("g", "ge", "netg", "modelg", "gen", "generator"), "generator"),
    **dict.fromkeys(("d", "netd", "modeld", "dis", "disc", "discriminator", "critic"), "discriminator"),
}
"""The network that a word in a key stands for."""
AVERAGE = re.compile(r"(?i:_ema)$|(?<=G)E$")
"""What the key of an averaged network ends with: "G_ema" and "GE" are averages of "G"."""
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
        beside: the tensors that lie beside the network's state dict, or beside its names in one state dict of a whole
            GAN.
        key: the dotted key of the state dict in the file; empty if it is the file's whole content.
    """

    tensors: dict[str, Tensor]
    role: Role = "generator"
    modules: Mapping[str, Module] = field(default_factory=dict)
    beside: Mapping[str, Tensor] = field(default_factory=dict)
    key: str = ""


@dataclass(frozen=True)
class Contents:
    """What a foreign file holds.

    Attributes:
        path: the file.
        tree: tensors, numbers and strings in plain containers.
        modules: in a pickle of NVIDIA's, what it says of the submodules of a state dict, by the id of that.
    """

    path: Path
    tree: Any = field(repr=False)
    modules: Mapping[int, dict[str, Module]] = field(repr=False)

    def checkpoint(self, key: str | None = None, role: Role = "generator") -> Checkpoint:
        """The tensors of one network.

        Args:
            key: the dotted key of the state dict ("models.netG"), or a prefix of the names in one; None: the only state
                dict that can be this network's, or the only averaged one ("G_ema") of several.
            role: the network to look for.

        Raises:
            WeightsError: there is no state dict under that key, or without a key there is none or more than one.
        """
        key, state = _choose(self.tree, key, role, str(self.path))
        own = {id(tensor) for tensor in state.values()}
        beside = {name: t for name, t in _items(self.tree) if isinstance(t, Tensor) and id(t) not in own}
        for _, node in _walk(self.tree):
            if _is_state(node) and own < {id(tensor) for tensor in node.values()}:
                beside |= {name: tensor for name, tensor in node.items() if id(tensor) not in own}
        own_modules = self.modules.get(id(state), {})
        while prefix := next((w for w in WRAPPERS if all(n.startswith(w) and n != w for n in state)), None):
            state = {name.removeprefix(prefix): tensor for name, tensor in state.items()}
        return Checkpoint({name: tensor.detach() for name, tensor in state.items()}, role, own_modules, beside, key)


def read_tensors(path: Path, key: str | None = None) -> dict[str, Tensor]:
    """The tensors of the generator in a foreign checkpoint: see `read_checkpoint`."""
    return read_checkpoint(path, key).tensors


def read_checkpoint(path: Path, key: str | None = None, role: Role = "generator") -> Checkpoint:
    """Read the tensors of one network from a foreign checkpoint: see `read_contents` and `Contents.checkpoint`."""
    return read_contents(path).checkpoint(key, role)


def read_contents(path: Path) -> Contents:
    """Read a foreign checkpoint.

    Args:
        path: a .safetensors file, a file of torch.save, or a network pickle of NVIDIA's. Of a pickle nothing runs: see
            `ganzoo.exchange.pickles`.

    Raises:
        WeightsError: the file cannot be read, or holds more than tensors, numbers and strings.
    """
    path = Path(path)
    if not path.is_file():
        raise WeightsError(f"{path} {'is a folder' if path.is_dir() else 'does not exist'}: name a checkpoint file")
    tree, modules = networks(_load(path))
    for where, node in _walk(tree):
        if not isinstance(node, PLAIN):
            _refuse(node, where, tree, str(path))
    return Contents(path, tree, modules)


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
    averaged = [where for where in candidates if AVERAGE.search(where)]
    if len(averaged) == 1 and all(where in (averaged[0], AVERAGE.sub("", averaged[0])) for where in candidates):
        return averaged[0], candidates[averaged[0]]  # of one network and its average
    if len(candidates) == 1:
        return next(iter(candidates.items()))
    advice = "name its --key, or save its state_dict() anew"
    if role == "discriminator":
        hint = advice = "save its state_dict() alone, and name that file by --discriminator-file"
    if candidates:
        raise WeightsError(f"{path} holds {len(candidates)} state dicts that may be the {role}'s: {hint}")
    raise WeightsError(f"{path} holds no {role}'s state dict: {advice}")


def _candidates(tree: Any, role: Role) -> dict[str, dict[str, Tensor]]:
    """The state dicts in a file that may be of that network, by dotted path. A generator's need not say so, nor does
    the only one in a file."""
    states: dict[str, dict[str, Tensor]] = {}
    for path, node in _walk(tree):
        if _is_state(node):
            parts = {f"{path}.{top}" if path else top: part for top, part in _split(node).items()}
            states |= parts or {path: node}
    # A nested dict of tensors without a weight is the state of an optimizer, a random state, or the like.
    weights = ("weight", "weight_orig")  # the second with spectral normalisation
    states = {
        path: state
        for path, state in states.items()
        if not path or any(name.rpartition(".")[2] in weights for name in state)
    }
    if len(states) == 1 and _role(next(iter(states))) is None:
        return states
    return {
        path: state for path, state in states.items() if (_role(path) == "discriminator") == (role == "discriminator")
    }


def _split(state: dict[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """The networks in one state dict of a whole GAN by the first part of their names; empty if it is not one.

    A module that wraps another one, and so holds its tensors a second time, is left out.
    """
    tops = {top: role for top in dict.fromkeys(name.partition(".")[0] for name in state) if (role := _role(top))}
    if len(set(tops.values())) < 2:
        return {}
    parts = {top: _under(state, f"{top}.") for top in tops}
    places = {top: {tensor.data_ptr() for tensor in part.values()} for top, part in parts.items()}
    kept: dict[str, dict[str, Tensor]] = {}
    for top in sorted(parts, key=lambda top: len(parts[top])):
        if not any(places[other] <= places[top] for other in kept):
            kept[top] = parts[top]
    return kept


def _role(path: str) -> str | None:
    """The network that a key belongs to, by the last word in `ROLES`: "netG_state_dict" is the generator's."""
    return next((ROLES[word] for word in reversed(re.findall("[a-z]+", path.lower())) if word in ROLES), None)


def _follow(node: Any, key: str) -> Any:
    """The value under a dotted key, or None. A key may contain dots itself, or be a prefix of names in a state dict."""
    for name, child in _items(node):
        if name == key:
            return child
        if key.startswith(f"{name}.") and (value := _follow(child, key.removeprefix(f"{name}."))) is not None:
            return value
    return _under(node, f"{key}.") if _is_state(node) else None


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


def _items(node: Any) -> list[tuple[str, Any]]:
    if isinstance(node, dict):
        return [(str(key), value) for key, value in node.items()]
    return [(str(i), value) for i, value in enumerate(node)] if isinstance(node, list | tuple) else []


def _is_state(node: Any) -> bool:
    named = isinstance(node, dict) and all(isinstance(name, str) for name in node)
    return named and bool(node) and all(isinstance(value, Tensor) for value in node.values())


def _under(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}
