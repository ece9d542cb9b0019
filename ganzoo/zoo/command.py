"""Settings as a command line spells them: one assignment read, and a whole configuration written as its command.

The inverse of what the `train` command does lies here, below it, because model cards print that command too.
"""

import json
import shlex
from collections.abc import Mapping
from typing import Any

from ganzoo.errors import ConfigError
from ganzoo.zoo.config import DOTTED, TrainConfig

FLAGS = ("data", "steps", "batch_size", "image_size", "channels", "loss", "lr", "seed", "pack", "eval_every")
"""Settings that have a flag of their own name and take a value."""
SWITCHES = ("flip", "conditional")
"""Settings that have a flag of their own name and take none."""
UNSPOKEN = ("precision", "device", "data_dir")
"""Settings of the machine, which the command leaves out."""


def parse_assignment(text: str) -> tuple[str, Any]:
    """`KEY=VALUE` as `--set` takes it: the value as JSON, as a comma-separated list of JSON, else as a string.

    Raises:
        ConfigError: no equals sign, or nothing before it.
    """
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise ConfigError(f"--set takes KEY=VALUE, such as generator.width=128, not {text!r}")
    for attempt in (value, f"[{value}]") if "," in value else (value,):
        try:
            return key, json.loads(attempt)
        except json.JSONDecodeError:
            continue
    return key, None if value == "none" else value


def train_command(config: Mapping[str, Any]) -> str:
    """The `ganzoo train` command that gives the configuration which `TrainConfig.to_dict` wrote."""
    base = TrainConfig(config["architecture"], recipe=config["recipe"]).to_dict()
    words = ["ganzoo", "train", config["architecture"]]
    if config["recipe"] != "default":
        words += ["--recipe", config["recipe"]]
    prefixes = {field: prefix for prefix, field in DOTTED.items()}
    for key, value in config.items():
        if value == base.get(key) or value is None or key in UNSPOKEN:
            continue
        if key == "penalties":
            words += [word for spec in value or ["none"] for word in ("--penalty", spec)]
        elif key in prefixes:
            for inner, setting in value.items():
                if base[key].get(inner) != setting:
                    words += ["--set", f"{prefixes[key]}.{inner}={_spelt(setting)}"]
        elif value is True and key in SWITCHES:
            words += [f"--{key}"]
        elif key in FLAGS:
            words += [f"--{key.replace('_', '-')}", str(value)]
        else:
            words += ["--set", f"{key}={_spelt(value)}"]
    return shlex.join(words)


def _spelt(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))
