"""Values and trackers as the command line spells them."""

import json
import re
from dataclasses import dataclass
from typing import Any

from ganzoo.errors import ConfigError
from ganzoo.files import parse_json


def parse_value(text: str) -> Any:
    """The value of a setting: JSON, a comma-separated list of JSON, None for `none`, or else a string."""
    for attempt in (text, f"[{text}]") if "," in text else (text,):
        try:
            return parse_json(attempt)
        except json.JSONDecodeError:
            continue
        except ValueError as error:
            raise ConfigError(f"{text[:40]!r}... is no value of a setting: {error}") from error
    return None if text == "none" else text


@dataclass(frozen=True)
class TrackerSpec:
    """A tracker and its options as `NAME[:KEY=VALUE[,KEY=VALUE...]]` spells them, such as `wandb:project=faces`."""

    name: str
    options: dict[str, Any]

    @classmethod
    def parse(cls, text: str) -> "TrackerSpec":
        """The specification in `text`. Whether the tracker exists is not checked.

        Raises:
            ConfigError: `text` is not of that form.
        """
        name, colon, rest = text.partition(":")
        # A comma also stands inside a value, as in tags=a,b: only one before KEY= begins the next option.
        parts = re.split(r",(?=\w+=)", rest) if colon else []
        pairs = [part.partition("=") for part in parts]
        if not name or any(not (key and equals) for key, equals, _ in pairs):
            raise ConfigError(
                f"tracker {text!r} is not of the form NAME[:KEY=VALUE,KEY=VALUE], such as wandb:project=faces"
            )
        return cls(name, {key: parse_value(value) for key, _, value in pairs})
