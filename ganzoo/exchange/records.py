"""The networks in NVIDIA's pickles, whose classes are recorded by `torch_utils.persistence`.

A record holds the name of a class, the text of its source, which is never looked at, the arguments of its constructor,
and its state, in which an nn.Module keeps its parameters, buffers and submodules.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ganzoo.errors import WeightsError
from ganzoo.exchange.pickles import Record

NETWORK = "torch_utils.persistence._reconstruct_persistent_obj"
DEEPEST = 32
"""Submodules within each other."""
MOST = 10_000
"""Submodules of one network."""


@dataclass(frozen=True)
class Module:
    """What a pickle says of one module.

    Attributes:
        kind: the name of its class.
        settings: the keyword arguments of its constructor.
    """

    kind: str
    settings: Mapping[str, Any]


def networks(tree: Any) -> tuple[Any, dict[int, dict[str, Module]]]:
    """Replace the network records of a file by state dicts.

    Returns:
        The tree with state dicts in the place of records, at its top or directly below; and for the id of each such
        state dict the modules by dotted name, "" for the network itself.

    Raises:
        WeightsError: a record is not of that form, or holds itself.
    """
    modules: dict[int, dict[str, Module]] = {}

    def replaced(node: Any) -> Any:
        if not isinstance(node, Record) or node.name != NETWORK:
            return node
        tensors: dict[str, Tensor] = {}
        own: dict[str, Module] = {}
        _flatten(node, "", tensors, own, DEEPEST)
        modules[id(tensors)] = own
        return tensors

    if isinstance(tree, dict):
        return {key: replaced(value) for key, value in tree.items()}, modules
    return replaced(tree), modules


def _flatten(record: Any, prefix: str, tensors: dict[str, Tensor], modules: dict[str, Module], depth: int) -> None:
    """Collect the tensors and modules of a record and of those in it."""
    meta = record.arguments[0] if isinstance(record, Record) and len(record.arguments) == 1 else None
    state = meta.get("state") if isinstance(meta, dict) else None
    if not isinstance(meta, dict) or not isinstance(state, dict) or not isinstance(meta.get("class_name"), str):
        raise WeightsError(f"has a network whose record {prefix.rstrip('.')!r} cannot be read")
    if depth < 0 or len(modules) >= MOST:
        raise WeightsError("has a network of too many modules within each other")
    settings = state.get("_init_kwargs")
    modules[prefix.rstrip(".")] = Module(meta["class_name"], settings if isinstance(settings, dict) else {})
    for part in ("_parameters", "_buffers"):
        for name, tensor in _named(state, part):
            if isinstance(tensor, Tensor):
                tensors[prefix + name] = tensor
    for name, child in _named(state, "_modules"):
        if child is not None:
            _flatten(child, f"{prefix}{name}.", tensors, modules, depth - 1)


def _named(state: Mapping[str, Any], part: str) -> list[tuple[str, Any]]:
    values = state.get(part)
    if not isinstance(values, dict):
        return []
    return [(name, value) for name, value in values.items() if isinstance(name, str)]
