"""Pictures and tables that a notebook displays."""

import base64
import html
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image
from torch import Tensor, nn

from ganzoo.errors import CheckpointError, SampleError
from ganzoo.files import reason
from ganzoo.report.record import read_record
from ganzoo.sampling.notebook import draw, png
from ganzoo.sampling.pictures import grid, to_uint8
from ganzoo.store.results import Result
from ganzoo.store.runs import TRAINING
from ganzoo.store.source import find, from_pretrained


class Shown:
    """A picture or a table, which a notebook displays where it is the value of a cell.

    Attributes:
        picture: the picture; None for a table.
        html: the table; empty for a picture.
    """

    def __init__(self, picture: Image.Image | None = None, html: str = "") -> None:
        self.picture, self.html = picture, html

    def _repr_png_(self) -> bytes | None:
        return None if self.picture is None else png(self.picture)

    def _repr_html_(self) -> str | None:
        return self.html or None

    def __repr__(self) -> str:
        size = "a table" if self.picture is None else f"{self.picture.width} x {self.picture.height} pixels"
        return f"<ganzoo.Shown: {size}>"

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the picture to a file, of the kind that its name ends in, or the table to an .html file.

        Raises:
            SampleError: it cannot be written, or not as this kind of file.
        """
        path = Path(path)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if self.picture is not None:
                self.picture.save(path)
            else:
                path.write_text(self.html, encoding="utf-8", errors="replace")  # names of files may hold any bytes
        except (OSError, ValueError) as error:
            cause = reason(error) if isinstance(error, OSError) else error
            raise SampleError(f"{path} cannot be written: {cause}") from error
        return path


def show(what: Any, *, columns: int | None = None) -> Shown:
    """A grid or a table to look at in a notebook. Nothing is displayed unless it is the value of a cell.

    Args:
        what: images (N, C, H, W) in [-1, 1]; a run or the folder of one, of which the newest picture is shown; a
            generator; the name of registered weights, or any other source of `from_pretrained`; a result of `evaluate`,
            or several in a list.
        columns: images in a row of the grid, if `what` is images; by default as square as possible.

    Raises:
        SampleError: there is nothing to show of this.
        UnknownNameError, HubError, WeightsError, CheckpointError: a source cannot be loaded.
    """
    if isinstance(what, Tensor):
        if what.dim() != 4:
            raise SampleError(f"a tensor of shape {tuple(what.shape)} is not a batch of images (N, C, H, W)")
        return Shown(grid(to_uint8(what), columns))
    if isinstance(what, Result):
        return Shown(html=what._repr_html_())
    if isinstance(what, nn.Module):
        return Shown(draw(what))
    if isinstance(what, list | tuple) and what and all(isinstance(one, Result) for one in what):
        return Shown(html="".join(one._repr_html_() for one in what))
    source = getattr(what, "folder", what)
    if not isinstance(source, str | os.PathLike):
        raise SampleError(f"a {type(what).__name__} cannot be shown: give images, a run, a generator or a result")
    folder = find(source) if isinstance(source, str) else Path(source)
    if not ((folder / TRAINING).is_file() and (folder / "samples").is_dir()):  # no run folder
        return Shown(draw(from_pretrained(source if isinstance(source, str) else str(folder.absolute()))))
    picture = newest_picture(folder)
    if picture is None:
        raise SampleError(f"{folder} has no pictures yet: let it train to the first ones (sample_every)")
    return Shown(picture)


def newest_picture(folder: Path) -> Image.Image | None:
    """The newest whole picture of samples of a run; None if it has none."""
    for _, path in reversed(read_record(folder).pictures):
        try:
            with Image.open(path, formats=("PNG",)) as opened:
                return opened.copy()
        except (OSError, ValueError, SyntaxError):  # a damaged one
            continue
    return None


def run_html(folder: Path, title: str, facts: Mapping[str, Any]) -> str:
    """A run as a notebook shows it: its newest picture over a line of facts, with nothing in them taken for HTML."""
    lines = (f"{name} {value:.4g}" for name, value in facts.items() if isinstance(value, int | float))
    caption = f"<b>{html.escape(title)}</b><br>{html.escape(', '.join(lines))}"
    try:
        picture = newest_picture(folder)
    except CheckpointError:  # the folder has been moved or deleted since
        picture = None
    image = ""
    if picture is not None:
        data = base64.b64encode(png(picture)).decode()
        image = f'<img src="data:image/png;base64,{data}" alt="the newest samples of the run"><br>'
    return f"<div>{image}{caption}</div>"
