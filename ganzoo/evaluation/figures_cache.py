"""The cache of references and results: a file for each, named by a hash of everything that it depends on."""

import hashlib
import json
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from ganzoo.files import cache_folder, read_json, reason, replacing

logger = logging.getLogger("ganzoo")


def cache_path(kind: str, key: Any, suffix: str) -> Path:
    """The path of the entry of that kind for `key`, a JSON value that holds everything the entry depends on."""
    name = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:32]
    return cache_folder() / "eval" / f"{kind}-{name}.{suffix}"


def read_figures(path: Path) -> dict[str, float] | None:
    """Figures by name; None if there are none, or the file is damaged."""
    try:
        figures = read_json(path)
        if not all(isinstance(value, int | float) for value in figures.values()):
            raise ValueError("it does not hold figures")
        return figures  # type: ignore[no-any-return]
    except FileNotFoundError:
        return None
    except (OSError, ValueError, AttributeError) as error:
        logger.warning("%s is damaged and is computed again: %s", path, error)
        return None


def write_figures(path: Path, figures: Mapping[str, float]) -> None:
    write_entry(path, lambda temporary: temporary.write_text(json.dumps(figures), encoding="utf-8"))


def write_entry(path: Path, write: Callable[[Path], Any]) -> None:
    """Call `write` with a temporary path and move the file into place. A failure is only a warning."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path, shared=True) as temporary:
            write(temporary)
    except (OSError, SafetensorError) as error:
        logger.warning("%s cannot be written, so it will be computed again next time: %s", path, reason(error))
