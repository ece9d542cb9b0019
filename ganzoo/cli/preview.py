"""The pictures of a training in the terminal."""

import logging
import os
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ganzoo.errors import ConfigError
from ganzoo.progress import Progress

logger = logging.getLogger("ganzoo")

COLUMNS = 80
"""The most columns that a picture takes."""


class Preview:
    """Shows pictures in a terminal that can: by sixel, by kitty's protocol, or in coloured half blocks. Elsewhere, it
    shows nothing. Meant as the `on_picture` of `train`.

    Raises:
        ConfigError: the package for it is not installed.
    """

    def __init__(self) -> None:
        if find_spec("textual_image") is None:
            raise ConfigError("--preview needs the package textual-image: pip install 'ganzoo[preview]'")
        self.image: Any = None
        if _terminal():
            # Asks the terminal what it can show, and so must come before anything else reads or writes there.
            from textual_image.renderable import Image

            self.image = Image

    def __call__(self, step: int, path: Path) -> None:
        if self.image is None:
            return
        from PIL import Image
        from rich.console import Console

        console = Progress.shown.console if Progress.shown else Console(stderr=True)
        try:
            with Image.open(path) as picture:
                ratio = picture.width / picture.height
            rows = max(1, console.height - 4)
            # Cells are about twice as high as wide.
            width = max(1, min(COLUMNS, console.width, int(2 * rows * ratio)))
            console.print(f"step {step}", highlight=False)
            console.print(self.image(path, width=width, height="auto"))
        except (OSError, ValueError) as error:  # of a terminal that is gone, which is not worth the run
            self.image = None
            logger.warning("no more pictures are shown: %s", error)


def _terminal() -> bool:
    """Whether this process talks to a terminal that it may ask what it can show."""
    streams = (sys.__stdin__, sys.__stdout__, sys.__stderr__)
    if os.environ.get("TERM") == "dumb" or not all(stream is not None and stream.isatty() for stream in streams):
        return False
    # A job in the background would be stopped for changing the terminal's mode.
    return not hasattr(os, "tcgetpgrp") or os.tcgetpgrp(0) == os.getpgrp()
