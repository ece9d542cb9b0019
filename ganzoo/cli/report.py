"""The command that shows runs as a page or as an animation."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ganzoo.cli.latent import Force, refuse_existing
from ganzoo.errors import SampleError
from ganzoo.files import reason

if TYPE_CHECKING:
    from torch import Tensor

AT_MOST = 8
"""The most runs on a page."""


def report(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Run folders; several are compared.")],
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="A page.html. \\[default: report.html, for one run in its folder]"),
    ] = None,
    gif: Annotated[bool, typer.Option("--gif", help="Write how the pictures grew, as a .gif.")] = False,
    mp4: Annotated[bool, typer.Option("--mp4", help="The same as an .mp4 (extra: ganzoo\\[video]).")] = False,
    fps: Annotated[int, typer.Option(min=1, max=60, help="Pictures a second of an animation.")] = 8,
    force: Force = False,
) -> None:
    """Write a page with the pictures, curves, warnings and settings of a run, or of several side by side."""
    from ganzoo.report.page import REPORT, write_page

    if len(runs) > AT_MOST:
        raise SampleError(f"a page shows at most {AT_MOST} runs, not {len(runs)}")
    animation = gif or mp4
    if animation:
        if len(runs) > 1 or (gif and mp4):
            raise SampleError("an animation shows one run, as a --gif or as an --mp4")
        path = out or Path("progress.mp4" if mp4 else "progress.gif")
    else:
        path = out or (runs[0] / REPORT if len(runs) == 1 else Path(REPORT))
        if path.suffix.lower() not in (".html", ".htm"):
            raise SampleError(f"{path}: a page is an .html; for an animation say --gif or --mp4")
    own = not animation and len(runs) == 1 and path == runs[0] / REPORT  # which training rewrites too
    if not own:
        refuse_existing(path, force)
    if animation:
        _animate(runs[0], path, fps)
    else:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_page(runs, path)
        except OSError as error:
            raise SampleError(f"{path} cannot be written: {reason(error)}") from error
    print(path)


def _animate(run: Path, path: Path, fps: int) -> None:
    """Write the pictures of all steps as an animation, whose last one stays for two seconds.

    Raises:
        CheckpointError: this is no run folder.
        SampleError: it has no pictures, or the animation cannot be written.
    """
    import numpy as np
    import torch
    from PIL import Image

    from ganzoo.latent.walk import check_animation, write_animation
    from ganzoo.report.record import read_record

    check_animation(path)
    pictures = read_record(run).pictures
    if not pictures:
        raise SampleError(f"{run} has no pictures yet: let it train to the first ones (--set sample_every=N)")

    def frames() -> "Iterator[Tensor]":
        shape = None
        for _, picture in [*pictures, *[pictures[-1]] * (2 * fps - 1)]:
            try:
                with Image.open(picture, formats=("PNG",)) as opened:
                    pixels = np.array(opened.convert("RGB"))
            except (OSError, ValueError, SyntaxError):  # of a damaged picture
                continue
            shape = shape or pixels.shape
            if pixels.shape == shape:
                yield torch.from_numpy(pixels).permute(2, 0, 1)[None].float().div(127.5).sub(1)

    write_animation(frames(), path, fps)
