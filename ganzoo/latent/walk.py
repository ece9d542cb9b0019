"""Animations: closed walks through chosen latents, and files of frames."""

from collections.abc import Iterable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ganzoo.errors import SampleError
from ganzoo.files import reason, replacing
from ganzoo.latent.latents import Latents, check, render
from ganzoo.sampling.draw import BLOCK
from ganzoo.sampling.pictures import Pixels, to_uint8

ENDINGS = (".gif", ".mp4")
LEAST_SIDE = 256
"""Pixels that a frame has at least on its shorter side, by repeating the pixels of smaller images."""


def walk(g: nn.Module, points: Latents, frames: int = 30, *, closed: bool = True, **options: Any) -> Iterator[Tensor]:
    """Images on the way through latents, one after the other.

    In w the way is straight. In z it follows the great circle from one latent to the next, because N(0, I) has most
    of its mass at one distance from 0 (White 2016, https://arxiv.org/abs/1609.04468); latents that a generator draws
    in its own way are joined by straight lines.

    Args:
        g: the generator.
        points: at least two latents, as of `ganzoo.latents(g, [1, 5, 9])`, of one class where z has classes.
        frames: images from one latent to the next.
        closed: whether the way leads back from the last latent to the first.
        **options: as for `ganzoo.render`.

    Returns:
        The images, (1, C, H, W) each: the first is that of the first latent, and a closed walk ends just before it.

    Raises:
        SampleError: there are fewer than two latents or less than one frame, or as `ganzoo.render`.
    """
    if len(points) < 2 or frames < 1:
        raise SampleError(f"a walk needs at least two latents and one frame, not {len(points)} and {frames}")
    if points.kind == "z" and points.labels is not None and len(set(points.labels.tolist())) > 1:
        raise SampleError("a walk in z stays in one class, because there is no way from one to another: choose one")
    check(g, points)
    straight = points.kind == "w" or hasattr(g, "draw_latent")
    ends = [*range(1, len(points)), *([0] if closed else [])]
    steps = [(i, end, frame / frames) for i, end in enumerate(ends) for frame in range(frames)]
    if not closed:
        steps.append((ends[-1], ends[-1], 0.0))
    for start in range(0, len(steps), BLOCK):
        block = steps[start : start + BLOCK]
        values = torch.stack([_between(points.values[i], points.values[j], t, straight) for i, j, t in block])
        labels = None if points.labels is None else points.labels[[i for i, _, _ in block]]
        images = render(g, Latents(values, points.kind, labels), **options)
        yield from torch.split(images, 1)


def _between(a: Tensor, b: Tensor, t: float, straight: bool) -> Tensor:
    """The point after a share t of the way from a to b."""
    if straight or torch.equal(a, b):
        return torch.lerp(a, b, t)
    cosine = torch.nn.functional.cosine_similarity(a.flatten(), b.flatten(), dim=0).clamp(-1, 1)
    angle = torch.arccos(cosine)
    if angle < 1e-4 or angle > torch.pi - 1e-4:  # every way is as short
        return torch.lerp(a, b, t)
    return (torch.sin((1 - t) * angle) * a + torch.sin(t * angle) * b) / torch.sin(angle)


def write_animation(frames: Iterable[Tensor], path: Path, fps: int = 30) -> None:
    """Write images (1, C, H, W) as an animation: an endless .gif, or an .mp4 by PyAV (the extra `video`).

    Small images are enlarged by repeating their pixels.

    Raises:
        SampleError: the ending is another one, PyAV is not installed, or the file cannot be written.
    """
    check_animation(path)
    pixels = (_enlarged(to_uint8(frame)[0]) for frame in frames)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path, shared=True) as temporary:
            (_write_gif if path.suffix.lower() == ".gif" else _write_mp4)(pixels, temporary, fps)
    except OSError as error:
        raise SampleError(f"{path} cannot be written: {reason(error)}") from error


def check_animation(path: Path) -> None:
    """Check that an animation can be written to a file of this name.

    Raises:
        SampleError: the ending is another one, or PyAV is not installed for an .mp4.
    """
    if path.suffix.lower() not in ENDINGS:
        raise SampleError(f"{path}: an animation is a {' or '.join(ENDINGS)}")
    if path.suffix.lower() == ".mp4":
        try:
            import_module("av")
        except ImportError as error:
            raise SampleError(f"an .mp4 needs PyAV ({error}): pip install 'ganzoo[video]', or write a .gif") from error


def _enlarged(image: Pixels) -> Pixels:
    """(H, W, C) in colour, with the pixels of small images repeated."""
    factor = max(1, LEAST_SIDE // min(image.shape[:2]))
    image = np.repeat(image, 3, 2) if image.shape[2] == 1 else image
    return image.repeat(factor, 0).repeat(factor, 1)


def _write_gif(frames: Iterator[Pixels], path: Path, fps: int) -> None:
    from PIL import Image

    first, *others = [Image.fromarray(frame) for frame in frames]
    first.save(path, "GIF", save_all=True, append_images=others, duration=round(1000 / fps), loop=0)


def _write_mp4(frames: Iterator[Pixels], path: Path, fps: int) -> None:
    import av

    with av.open(str(path), "w", format="mp4") as container:
        stream = None
        for frame in frames:
            even = frame[: frame.shape[0] // 2 * 2, : frame.shape[1] // 2 * 2]  # as the format wants
            if stream is None:
                stream = container.add_stream("libx264", rate=fps)
                stream.height, stream.width, stream.pix_fmt = *even.shape[:2], "yuv420p"
                stream.options = {"crf": "17"}
            for packet in stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(even), format="rgb24")):
                container.mux(packet)
        if stream is not None:
            for packet in stream.encode():
                container.mux(packet)
