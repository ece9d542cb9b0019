"""What people ask the zoo for: the names in it, and networks with random weights. Imports no torch by itself."""

import fnmatch
import json
from collections.abc import Mapping
from typing import Any, Literal

from ganzoo.errors import ConfigError, PluginError, did_you_mean
from ganzoo.plugins import registry
from ganzoo.registry import build


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
