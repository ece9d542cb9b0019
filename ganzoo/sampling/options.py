"""What a generator takes besides latents and classes: inputs, and call options such as StyleGAN2's truncation."""

import inspect
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, Literal, get_args, get_origin, get_type_hints

from torch import Tensor, nn

from ganzoo.errors import SampleError, did_you_mean


def call_options(g: nn.Module) -> dict[str, Any]:
    """The keyword-only arguments of a generator's forward that have defaults, by name, with these defaults."""
    return options_of(g.forward)


def options_of(function: Callable[..., Any]) -> dict[str, Any]:
    """The keyword-only arguments of a function that have defaults, by name, with these defaults."""
    parameters = inspect.signature(function).parameters.values()
    named = {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY and p.default is not p.empty}
    named.pop("inputs", None)
    return named


def option_choices(g: nn.Module, name: str) -> list[Any]:
    """The values that a call option can have, if its annotation in the generator's forward is a `Literal`, possibly
    beside None; empty for all others."""
    try:
        hint = get_type_hints(g.forward).get(name)
    except (NameError, TypeError):  # an annotation that names something that is only imported for type checkers
        return []
    literals = [part for part in (hint, *get_args(hint)) if get_origin(part) is Literal]
    return [value for part in literals for value in get_args(part)]


def takes_inputs(network: Callable[..., Any]) -> bool:
    """Whether the forward pass of a network, or a bound method of it, has an argument `inputs`."""
    module = getattr(network, "__self__", network)
    forward = getattr(module, "forward", module)
    return _names_inputs(getattr(forward, "__func__", forward))


@cache
def _names_inputs(function: Callable[..., Any]) -> bool:
    return "inputs" in inspect.signature(function).parameters


def input_channels(g: nn.Module, options: Mapping[str, Any]) -> int | None:
    """The channels of the inputs that a generator takes under these call options: its setting, unless it says by
    `input_channels_for(**options)`; None if they are not known.

    Raises:
        ConfigError: the generator refuses the value of an option.
    """
    own: Callable[..., int] | None = getattr(g, "input_channels_for", None)
    if own is not None:
        return own(**options)
    channels: int | None = getattr(g, "config", {}).get("input_channels")
    return channels


def check_options(g: nn.Module, options: Mapping[str, Any]) -> None:
    """Check the names of call options, and that numbers are numbers. Everything else is up to the generator.

    Raises:
        SampleError: the generator has no such option, or its value is no number where the default is one.
    """
    known = call_options(g)
    for name, value in options.items():
        if name not in known:
            hint = did_you_mean(name, known) if known else "it has none"
            raise SampleError(f"this generator has no option {name!r}: {hint}")
        number = isinstance(value, int | float | Tensor) and not isinstance(value, bool)
        if isinstance(known[name], float) and not number:
            raise SampleError(f"the option {name} is a number, such as {known[name]}, not {value!r}")
