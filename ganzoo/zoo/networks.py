"""The names in the registry, and networks with random weights. Imports no torch by itself."""

import fnmatch
import importlib
import inspect
import json
from collections.abc import Mapping
from types import NoneType
from typing import Any, Literal

from ganzoo.errors import ConfigError, GanzooError, PluginError, SampleError, did_you_mean
from ganzoo.zoo.hookspecs import Target
from ganzoo.zoo.plugins import registry


def create(
    name: str,
    *,
    generator: Mapping[str, Any] | None = None,
    discriminator: Mapping[str, Any] | None = None,
    **shared: Any,
) -> tuple[Any, Any]:
    """Build both networks of an architecture with random weights. For trained ones, see `from_pretrained`.

    Args:
        name: an architecture, such as "dcgan".
        generator: settings of the generator alone, such as `{"width": 128}`.
        discriminator: settings of the discriminator alone.
        **shared: settings of both networks, such as `image_size`, `channels` and `z_dim`; each network gets those
            that it takes.

    Returns:
        `(g, d)`, two `nn.Module`s whose `.config` holds every setting, defaults included. g maps latents (N, z_dim)
        to items (N, ...) in [-1, 1], images (N, C, H, W); d maps items to raw logits (N,) or (N, ...).

    Raises:
        UnknownNameError: there is no such architecture.
        ConfigError: neither network takes one of the settings, or one refuses its value.
    """
    g = network(name, "generator", shared, generator or {})
    d = network(name, "discriminator", shared, discriminator or {})
    known = {**g.config, **d.config}
    if unknown := [key for key in shared if key not in known]:
        raise ConfigError(f"{name} has no setting {unknown[0]!r}: {did_you_mean(unknown[0], known)}")
    return g, d


def network(
    name: str, role: Literal["generator", "discriminator"], offered: Mapping[str, Any], explicit: Mapping[str, Any]
) -> Any:
    """Build one network of an architecture.

    Args:
        name: the architecture.
        role: which of the two.
        offered: settings to use if the network takes them.
        explicit: settings that the network must take.

    Raises:
        UnknownNameError: there is no such architecture.
        ConfigError: the network does not take an explicit setting, or refuses a value.
        PluginError: a setting cannot be stored as JSON.
    """
    target = getattr(registry().architecture(name), role)
    module, config = build(target, offered, explicit, f"the {role} of {name}")
    for key, value in config.items():
        try:
            json.dumps(value, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise PluginError(
                f"the {role} of {name} has the setting {key}={value!r}, which JSON cannot hold: settings are numbers, "
                "strings, booleans, None, and lists of these"
            ) from error
    module.config = {**config, **getattr(module, "stored", {})}
    kind = type(module)
    # A notebook asks for this method. It is the class's, so that copies and pickles of a generator stay as they are.
    if role == "generator" and not hasattr(kind, "_repr_png_") and not kind.__module__.startswith("torch."):
        kind._repr_png_ = _picture
    return module


def _picture(g: Any) -> bytes | None:
    """What a notebook shows of a generator: its first samples as a PNG; None if they cannot be drawn."""
    from ganzoo.sampling.notebook import draw, png

    try:
        return png(draw(g))
    except SampleError:
        return None


def list_architectures(pattern: str = "*") -> list[str]:
    """The names of the registered architectures that match a shell pattern, sorted."""
    return sorted(fnmatch.filter(registry().architectures, pattern))


def list_losses(pattern: str = "*") -> list[str]:
    """The names of the registered losses that match a shell pattern, sorted."""
    return sorted(fnmatch.filter(registry().losses, pattern))


def list_penalties(pattern: str = "*") -> list[str]:
    """The names of the registered penalties that match a shell pattern, sorted."""
    return sorted(fnmatch.filter(registry().penalties, pattern))


def list_data(pattern: str = "*") -> list[str]:
    """The names of the registered data sets that match a shell pattern, sorted."""
    return sorted(fnmatch.filter(registry().data, pattern))


def list_pretrained(pattern: str = "*") -> list[str]:
    """The names of the registered weights ("arch.tag") that match a shell pattern, sorted."""
    return sorted(fnmatch.filter(registry().weights, pattern))


def list_trackers(pattern: str = "*") -> list[str]:
    """The names of the registered trackers that match a shell pattern, sorted."""
    return sorted(fnmatch.filter(registry().trackers, pattern))


def resolve(target: Target) -> Any:
    """The callable behind `target`, imported if it is a string.

    Raises:
        PluginError: the module cannot be imported or lacks the attribute, or the attribute is not callable.
    """
    if not isinstance(target, str):
        return target
    module_name, _, path = target.partition(":")
    try:
        attribute: Any = importlib.import_module(module_name)
        for part in path.split("."):
            attribute = getattr(attribute, part)
    except Exception as error:  # a plugin's module may raise anything at import
        raise PluginError(f"{target!r} cannot be loaded: {type(error).__name__}: {error}") from error
    if not callable(attribute):
        raise PluginError(f"{target!r} is a {type(attribute).__name__}, not a callable")
    return attribute


REFUSALS = (TypeError, ValueError, RuntimeError, AttributeError, ArithmeticError, LookupError)
"""What code raises that is given a setting which it does not expect."""


KINDS: dict[str, tuple[type | tuple[type, ...], str]] = {
    "bool": (bool, "true or false"),
    "int": (int, "a whole number"),
    "float": ((int, float), "a number"),
    "None": (NoneType, "none"),
}
"""Types, as signatures write them, by which the values of settings are checked."""


def build(
    target: Target, offered: Mapping[str, Any], explicit: Mapping[str, Any], what: str
) -> tuple[Any, dict[str, Any]]:
    """Call `target` with those keywords that its signature accepts.

    Args:
        target: a callable, or a string to import it by.
        offered: keywords from the core; those that the signature lacks are left out.
        explicit: keywords that the user has set; the signature must accept each of them.
        what: the name of the result in messages, such as "the generator of dcgan".

    Returns:
        The result of the call, and its configuration: every keyword with its value, defaults included.

    Raises:
        ConfigError: a keyword is unknown, or a value is not what the signature asks for or is refused by the callable.
        PluginError: the target cannot be loaded, or cannot be called with keywords alone.
    """
    factory = resolve(target)
    signature = inspect.signature(factory).parameters
    parameters = signature.values()
    names = {p.name for p in parameters if p.kind in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD)}
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        names |= offered.keys() | explicit.keys()
    for key in explicit:
        if key not in names:
            raise ConfigError(f"{what} has no setting {key!r}: {did_you_mean(key, names)}")
    keywords = {key: value for key, value in {**offered, **explicit}.items() if key in names}
    for key, value in keywords.items():
        if key in signature and (key in explicit or value is not None):  # None is offered for what is not set
            _check_kind(signature[key], value, what)
    defaults = {p.name: p.default for p in parameters if p.name in names and p.default is not p.empty}
    missing = [p.name for p in parameters if p.name in names and p.default is p.empty and p.name not in keywords]
    if missing:
        raise PluginError(f"{what} takes {missing[0]!r} without a default: give every setting a default")
    try:
        return factory(**keywords), {**defaults, **keywords}
    except REFUSALS as error:
        if isinstance(error, GanzooError):
            raise
        raise ConfigError(f"{what} cannot be built with {keywords}: {error}") from error


def _check_kind(parameter: inspect.Parameter, value: Any, what: str) -> None:
    """Refuse a value of another kind where the signature asks for a bool or a number. The code that takes it would fail
    with a message about its own insides, or take any word for true."""
    hint = parameter.annotation
    names = (hint if isinstance(hint, str) else inspect.formatannotation(hint)).split(" | ")
    if value is parameter.default or not KINDS.keys() >= set(names):
        return
    kinds = [KINDS[name] for name in names]
    if not any(isinstance(value, kind) and (kind is bool or not isinstance(value, bool)) for kind, _ in kinds):
        wanted = " or ".join(text for _, text in kinds)
        raise ConfigError(f"{parameter.name} of {what} must be {wanted}, not {value!r}")
