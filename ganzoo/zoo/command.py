"""Settings as the command line spells them: parsing one assignment, and writing a configuration as its command.

The second is the inverse of the `train` command. It lies here, below the command line, for the model cards.
"""

import json
import shlex
from collections.abc import Mapping
from typing import Any

from ganzoo.errors import ConfigError
from ganzoo.zoo.config import DOTTED, TrainConfig
from ganzoo.zoo.plugins import registry
from ganzoo.zoo.spelling import parse_value

FLAGS = ("data", "inputs", "steps", "batch_size", "image_size", "channels", "loss", "lr", "seed", "pack", "eval_every")
"""Settings whose flag has the same name and takes a value."""
SWITCHES = ("flip", "conditional")
"""Settings whose flag has the same name and takes no value."""
LOCAL = ("precision", "device", "data_dir", "track")
"""Settings of one machine, which the command leaves out."""


def parse_assignment(text: str) -> tuple[str, Any]:
    """The key and the value of `--set KEY=VALUE`. The value is JSON, a comma-separated list of JSON, or else a string.

    Raises:
        ConfigError: there is no equals sign, or nothing before it.
    """
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise ConfigError(f"--set takes KEY=VALUE, such as generator.width=128, not {text!r}")
    return key, parse_value(value)


def assignment(key: str, value: Any) -> str:
    """KEY=VALUE as `--set` takes it."""
    return f"{key}={value if isinstance(value, str) else json.dumps(value, separators=(',', ':'))}"


def train_command(config: Mapping[str, Any]) -> str:
    """The `ganzoo train` command that gives a configuration.

    Args:
        config: the result of `TrainConfig.to_dict`.
    """
    name, base = _base(config)
    words = ["ganzoo", "train", config["architecture"]]
    if name != "default":
        words += ["--recipe", name]
    prefixes = {field: prefix for prefix, field in DOTTED.items()}
    for key, value in config.items():
        if value == base.get(key) or value is None or key in LOCAL or key == "recipe":
            continue
        if key == "eval_samples" and config.get("eval_every") is None:
            continue
        if key == "penalties":
            words += [word for spec in value or ["none"] for word in ("--penalty", spec)]
        elif key == "augment":
            words += ["--augment", ",".join(value) or "none"]
        elif key in prefixes:
            for inner, setting in value.items():
                if base[key].get(inner) != setting:
                    words += ["--set", assignment(f"{prefixes[key]}.{inner}", setting)]
        elif value is True and key in SWITCHES:
            words += [f"--{key}"]
        elif key in FLAGS:
            words += [f"--{key.replace('_', '-')}", str(value)]
        else:
            words += ["--set", assignment(key, value)]
    return shlex.join(words)


def _base(config: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """The recipe to start from, and all its settings. It is the configuration's own, unless that has changed since and
    now has options which the configuration lacks: a command can add an option to a recipe, but not take one away."""
    recipes = registry().architecture(config["architecture"]).recipes or {}
    names = list(dict.fromkeys([config["recipe"], *recipes]))
    bases = [(name, TrainConfig(config["architecture"], recipe=name).to_dict()) for name in names]
    for name, base in bases:
        if all(base[field].keys() <= config.get(field, {}).keys() for field in DOTTED.values()):
            return name, base
    return bases[0]
