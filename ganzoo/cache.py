"""Where ganzoo keeps what it can compute again."""

import os
from pathlib import Path


def root() -> Path:
    """`GANZOO_CACHE`, else `$XDG_CACHE_HOME/ganzoo`, else `~/.cache/ganzoo`. It may not exist yet."""
    if folder := os.environ.get("GANZOO_CACHE"):
        return Path(folder).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ganzoo"
