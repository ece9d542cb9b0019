"""What people ask the zoo for: the names in it, and networks with random weights. Imports no torch by itself."""

import fnmatch
import importlib
import inspect
import json
from collections.abc import Mapping
from typing import Any, Literal

from ganzoo.errors import ConfigError, PluginError, did_you_mean
from ganzoo.zoo.hookspecs import Target
from ganzoo.zoo.plugins import registry


def create(
    name: str,
    *,
    generator: Mapping[str, Any] | None = None,
    discriminator: Mapping[str, Any] | None = None,
    **shared: Any,
) -> tuple[Any, Any]:
    """Both networks of an architecture, with random weights (for trained ones: `from_pretrained`).

    Args:
        name: an architecture, such as "dcgan".
        generator, discriminator: settings of one network alone, such as `{"width": 128}`.
        **shared: settings for whichever network takes them: `image_size`, `channels`, `z_dim`, ...

    Returns:
        `(g, d)`, two `nn.Module`s whose `.config` holds every setting, defaults included. g maps latents (N, z_dim)
        to items (N, ...) in [-1, 1], images (N, C, H, W); d maps items to raw logits (N,) or (N, ...).

    Raises:
        UnknownNameError: no such architecture.
        ConfigError: a setting neither network takes, or one it refuses.
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
    """One network of an architecture: `offered` settings where it takes them, `explicit` ones in any case.

    Raises:
        UnknownNameError: no such architecture.
        ConfigError: an explicit setting it does not take, or one it refuses.
        PluginError: a setting that could not be stored.
    """
    target = getattr(registry().architecture(name), role)
    module, config = build(target, offered, explicit, f"the {role} of {name}")
    for key, value in config.items():
        try:
            json.dumps(value, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise PluginError(
                f"the {role} of {name} has the setting {key}={value!r}, which JSON cannot hold: settings are numbers, "
                "words, true or false, none, and lists of these"
            ) from error
    module.config = {**config, **getattr(module, "stored", {})}
    return module


def list_architectures(pattern: str = "*") -> list[str]:
    """Names of the registered architectures that match a shell pattern, sorted."""
    return sorted(fnmatch.filter(registry().architectures, pattern))


def list_losses(pattern: str = "*") -> list[str]:
    """Names of the registered losses that match a shell pattern, sorted."""
    return sorted(fnmatch.filter(registry().losses, pattern))


def list_penalties(pattern: str = "*") -> list[str]:
    """Names of the registered penalties that match a shell pattern, sorted."""
    return sorted(fnmatch.filter(registry().penalties, pattern))


def list_data(pattern: str = "*") -> list[str]:
    """Names of the registered data sets that match a shell pattern, sorted."""
    return sorted(fnmatch.filter(registry().data, pattern))


def list_pretrained(pattern: str = "*") -> list[str]:
    """Names of the registered weights ("arch.tag") that match a shell pattern, sorted."""
    return sorted(fnmatch.filter(registry().weights, pattern))


def resolve(target: Target) -> Any:
    """The callable behind `target`, imported if it is a string.

    Raises:
        PluginError: the module fails to import or lacks the attribute.
    """
    if not isinstance(target, str):
        return target
    module_name, _, path = target.partition(":")
    try:
        found: Any = importlib.import_module(module_name)
        for part in path.split("."):
            found = getattr(found, part)
    except Exception as error:  # a stranger's module may raise anything at import
        raise PluginError(f"{target!r} cannot be loaded: {type(error).__name__}: {error}") from error
    if not callable(found):
        raise PluginError(f"{target!r} is a {type(found).__name__}, not a callable")
    return found


def build(
    target: Target, offered: Mapping[str, Any], explicit: Mapping[str, Any], what: str
) -> tuple[Any, dict[str, Any]]:
    """Call `target` with keywords chosen by its signature.

    Args:
        offered: keywords the core knows; those the signature lacks are left out.
        explicit: keywords a person asked for; each must be accepted.
        what: the thing's name in errors, such as "generator of dcgan".

    Returns:
        What the call gave, and every keyword it was configured with, defaults included.

    Raises:
        ConfigError: an unknown keyword, or values that the callable refuses.
        PluginError: the target cannot be loaded or called with keywords alone.
    """
    factory = resolve(target)
    parameters = inspect.signature(factory).parameters.values()
    names = {p.name for p in parameters if p.kind in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD)}
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        names |= offered.keys() | explicit.keys()
    for key in explicit:
        if key not in names:
            raise ConfigError(f"{what} has no setting {key!r}: {did_you_mean(key, names)}")
    chosen = {key: value for key, value in {**offered, **explicit}.items() if key in names}
    defaults = {p.name: p.default for p in parameters if p.name in names and p.default is not p.empty}
    missing = [p.name for p in parameters if p.name in names and p.default is p.empty and p.name not in chosen]
    if missing:
        raise PluginError(f"{what} takes {missing[0]!r} without a default; every setting needs one")
    try:
        return factory(**chosen), {**defaults, **chosen}
    except (TypeError, ValueError, RuntimeError) as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(f"{what} cannot be built with {chosen}: {error}") from error
