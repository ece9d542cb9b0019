"""Reads the layers of a multilayer perceptron off the tensors of a checkpoint that was not written by ganzoo."""

import re
from collections.abc import Callable, Mapping, Sequence
from math import isqrt
from typing import Any

from torch import Tensor

from ganzoo import ConfigError

LINEAR = ("weight", "bias")
NORM = (*LINEAR, "running_mean", "running_var", "num_batches_tracked")
MOST = 10_000
"""Steps of the search for an order of the layers, which can take very long where many are of one size."""


def read(tensors: dict[str, Tensor], options: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Settings of the generator and its tensors under ganzoo's names. Tensors that belong to a layer are taken out of
    `tensors`.

    Raises:
        ConfigError: layers of another kind, layers whose order is not certain, or outputs that are not a square image.
    """
    names = list(dict.fromkeys(key.rpartition(".")[0] for key in tensors))
    if not names:
        raise ConfigError("there are no layers")
    indexed = all(name.replace(".", "").isdecimal() for name in names)
    linear, norms = (_of_sequential if indexed else _of_attributes)(tensors, names)
    renamed: dict[str, Tensor] = {}
    for i, name in enumerate(linear):
        _move(tensors, name, LINEAR, renamed, f"layers.{(3 if norms else 2) * i}")
    for i, name in enumerate(norms):
        _move(tensors, name, NORM, renamed, f"layers.{3 * i + 1}")
    sizes = [renamed["layers.0.weight"].shape[1]]
    sizes += [tensor.shape[0] for tensor in renamed.values() if tensor.dim() == 2]
    norm = {"norm": "batch"} if norms else {}
    return {"z_dim": sizes[0], "hidden": sizes[1:-1], **norm, **_image(sizes[-1], options)}, renamed


def _key(name: str, part: str) -> str:
    return f"{name}.{part}" if name else part


def _shape(tensors: Mapping[str, Tensor], name: str) -> tuple[int, ...]:
    """Of a layer's weights; () if it has none."""
    weight = tensors.get(_key(name, "weight"))
    return () if weight is None else tuple(weight.shape)


def _move(tensors: dict[str, Tensor], name: str, parts: Sequence[str], to: dict[str, Tensor], new: str) -> None:
    for part in parts:
        if _key(name, part) in tensors:
            to[f"{new}.{part}"] = tensors.pop(_key(name, part))


def _of_sequential(tensors: Mapping[str, Tensor], names: list[str]) -> tuple[list[str], list[str]]:
    """The linear layers and the norms of an nn.Sequential, whose indices give the order.

    Raises:
        ConfigError: they are not linear layers that chain, with a norm after each hidden one or after none.
    """
    normed = any(_key(name, "running_mean") in tensors for name in names)
    width = None
    for i, name in enumerate(names):
        norm = normed and i % 2 == 1
        shape = _shape(tensors, name)
        if len(shape) != (1 if norm else 2):
            expected = "a BatchNorm, as after each hidden layer" if norm else "an nn.Linear"
            raise ConfigError(f"layer {name!r} with weights {shape} should be {expected}")
        if not norm:
            if width not in (None, shape[1]):
                raise ConfigError(f"layer {name!r} has {shape[1]} inputs, but the layer before it has {width} outputs")
            width = shape[0]
    if normed and len(names) % 2 == 0:
        raise ConfigError(f"layer {names[-1]!r} is a BatchNorm after the last layer, where vanilla has none")
    return (names[::2], names[1::2]) if normed else (names, [])


def _of_attributes(tensors: Mapping[str, Tensor], names: list[str]) -> tuple[list[str], list[str]]:
    """The linear layers and the norms of a module that holds them under names of their own, in the order in which their
    sizes chain.

    Raises:
        ConfigError: other layers, no such order, or several.
    """
    linear, norms = [], []
    for name in names:
        shape = _shape(tensors, name)
        if len(shape) == 1 and _key(name, "running_mean") in tensors:
            norms.append(name)
        elif len(shape) == 2:
            linear.append(name)
        else:
            raise ConfigError(f"layer {name!r} with weights {shape} should be an nn.Linear or a BatchNorm")
    shapes = {name: _shape(tensors, name) for name in names}
    linear = _ordered(linear, shapes, lambda order, name: not order or shapes[order[-1]][0] == shapes[name][1])
    widths = [shapes[name][0] for name in linear[:-1]]
    if norms and len(norms) != len(widths):
        raise ConfigError(
            f"vanilla has a BatchNorm after each hidden layer or none at all, and here the number of BatchNorms is "
            f"{len(norms)} and that of hidden layers {len(widths)}"
        )
    return linear, _ordered(norms, shapes, lambda order, name: shapes[name] == (widths[len(order)],))


Fits = Callable[[list[str], str], bool]
"""Whether a layer may come right after these."""


def _ordered(names: list[str], shapes: Mapping[str, tuple[int, ...]], fits: Fits) -> list[str]:
    """The order in which every layer fits after those before it.

    Names that differ in their numbers alone are taken in the order of the numbers. Otherwise the order in the file
    counts, unless it is alphabetical: safetensors sorts by name. What remains open is decided by the sizes, if a single
    order fits.

    Raises:
        ConfigError: no order fits, or several do.
    """
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(_unnumbered(name), []).append(name)
    for group in groups.values():
        group.sort(key=lambda name: [int(number) for number in re.findall(r"\d+", name)])
    queues = {key: iter(group) for key, group in groups.items()}
    preferred = [next(queues[_unnumbered(name)]) for name in names]
    fitting = all(fits(preferred[:i], name) for i, name in enumerate(preferred))
    if fitting and (len(groups) < 2 or names != sorted(names)):
        return preferred
    orders, complete = _orders(list(groups.values()), fits)
    if not orders:
        orders, complete = _orders([[name] for name in preferred], fits)
    if len(orders) == 1 and complete:
        return orders[0]
    layers = ", ".join(f"{name!r} {'x'.join(map(str, reversed(shapes[name])))}" for name in preferred)
    states = (
        "do not chain in any order that was tried",
        "may chain in more than one order",
        "chain in more than one order",
    )
    raise ConfigError(
        f"the layers {layers} (inputs x outputs) {states[len(orders)]}. Put them into an nn.Sequential, or number "
        "their names in order, and save them anew"
    )


def _unnumbered(name: str) -> str:
    return re.sub(r"\d+", "#", name)


def _orders(groups: list[list[str]], fits: Fits) -> tuple[list[list[str]], bool]:
    """Up to two orders that fit and keep the order within each group, as far as MOST steps of the search lead, and
    whether these steps were enough to try every order."""
    orders: list[list[str]] = []
    stack: list[tuple[list[str], list[list[str]]]] = [([], groups)]
    for _ in range(MOST):
        if not stack or len(orders) == 2:
            break
        before, rest = stack.pop()
        if not any(rest):
            orders.append(before)
        for i, group in enumerate(rest):
            if group and fits(before, group[0]):
                stack.append(([*before, group[0]], [*rest[:i], group[1:], *rest[i + 1 :]]))
    return orders, not stack


def _image(outputs: int, options: Mapping[str, Any]) -> dict[str, int]:
    """Channels and side of the square image that has this many values: 1 or 3 channels unless the options say which.

    Raises:
        ConfigError: there is no such image.
    """
    channels, size = options.get("channels"), options.get("image_size")
    if size is not None:
        shapes = [(channels or outputs // max(size**2, 1), size)]
    else:
        shapes = [(c, isqrt(outputs // c)) for c in ((channels,) if channels else (1, 3))]
    for c, side in shapes:
        if c * side**2 == outputs and side > 0:
            return {"channels": c, "image_size": side}
    given = ", ".join(f"{key}={options[key]}" for key in ("channels", "image_size") if key in options)
    raise ConfigError(
        f"{outputs} outputs do not make a square image {f'with {given}' if given else 'of 1 or 3 channels'}: "
        "give its channels and image_size"
    )
