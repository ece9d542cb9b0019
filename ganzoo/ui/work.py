"""What the workshop does, without its page: drawing, moving, walking, inverting and translating."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from ganzoo.data.decode import UNREADABLE, decode_one, open_image
from ganzoo.data.inputs import make_inputs
from ganzoo.data.source import read_file
from ganzoo.errors import DataError, SampleError
from ganzoo.latent.directions import Directions
from ganzoo.latent.invert import invert as find_latents
from ganzoo.latent.latents import Latents, preview, sampled, split_options
from ganzoo.latent.walk import walk as walk_through
from ganzoo.latent.walk import write_animation
from ganzoo.progress import counting
from ganzoo.sampling.draw import blocks
from ganzoo.sampling.examples import as_pixels, side_by_side
from ganzoo.sampling.options import input_channels
from ganzoo.sampling.pictures import grid, is_image, to_uint8
from ganzoo.sampling.sound import rate_of, sheet, write_wav
from ganzoo.sampling.translate import translate as translate_images
from ganzoo.ui.offers import settings

AT_MOST = 256
"""Pictures that are drawn at once."""
LONGEST = 1000
"""Frames of a walk."""
LARGEST = 1024
"""Pixels of the shorter side of a picture that is translated."""


@dataclass(frozen=True, eq=False)
class Drawn:
    """Samples, and what they were drawn from.

    Attributes:
        items: (N, ...), on the CPU.
        latents: their latents, in the same order; None of a generator that translates.
        options: the call options that act after the latents.
    """

    items: Tensor
    latents: Latents | None = None
    options: dict[str, Any] = field(default_factory=dict)

    def with_one(self, item: Tensor, latents: Latents) -> "Drawn":
        """With a further sample (1, ...) at the end.

        Raises:
            SampleError: its latents are of another kind.
        """
        if self.latents is None or self.latents.kind != latents.kind:
            raise SampleError("these latents cannot stand beside the drawn ones: draw pictures first")
        labels = None
        if self.latents.labels is not None and latents.labels is not None:
            labels = torch.cat([self.latents.labels, latents.labels])
        values = torch.cat([self.latents.values, latents.values])
        return Drawn(torch.cat([self.items, item]), Latents(values, latents.kind, labels), self.options)


def draw(g: nn.Module, n: int, seed: int, label: int | None, options: dict[str, Any]) -> Drawn:
    """The first n samples of a seed, as `ganzoo sample` draws them, with their latents.

    Args:
        g: a generator that starts from latents.
        n: 1 to `AT_MOST`.
        seed: of the latents.
        label: the class of all; None: the classes in turn.
        options: call options.

    Raises:
        SampleError, ConfigError: a number is out of range, or the generator refuses an option.
    """
    if not 1 <= n <= AT_MOST:
        raise SampleError(f"the number of samples must be from 1 to {AT_MOST}, not {n}: for more, use `ganzoo sample`")
    own, rest = split_options(g, options)
    items = []
    with counting(n, "samples drawn") as advance:
        for block in blocks(g, n, seed, label, **options):
            items.append(block.cpu())
            advance(len(block))
    return Drawn(torch.cat(items), sampled(g, n, seed, label, **own), rest)


def pictures(g: nn.Module, items: Tensor) -> list[Image.Image]:
    """What can be looked at: a picture for each image, or one of the waveforms and spectrograms of all sounds.

    Raises:
        SampleError: they are neither.
    """
    rate = rate_of(g)
    if rate is not None:
        return [sheet(items, rate)]
    if not is_image(items):
        raise SampleError(
            f"this generator makes samples of shape {tuple(items.shape[1:])}, neither images nor sounds, so there is "
            "nothing to look at: use `ganzoo sample -o samples.npy`"
        )
    return [Image.fromarray(one.squeeze(-1) if one.shape[-1] == 1 else one) for one in to_uint8(items)]


def write(g: nn.Module, drawn: Drawn, folder: Path) -> list[Path]:
    """Write samples as one PNG, sounds as a WAV too, and their latents. Returns the files."""
    picture, rate = folder / "samples.png", rate_of(g)
    files = [picture]
    (grid(to_uint8(drawn.items)) if rate is None else sheet(drawn.items, rate)).save(picture)
    if rate is not None:
        files.append(folder / "samples.wav")
        write_wav(files[-1], drawn.items, rate)
    if drawn.latents is not None:
        files.append(folder / "latents.safetensors")
        drawn.latents.save(files[-1])
    return files


def move(g: nn.Module, drawn: Drawn, number: int, directions: Directions | None, strengths: Sequence[float]) -> Drawn:
    """Sample `number` moved along several directions at once, each by a strength in standard deviations.

    Args:
        directions: as many as strengths; None: it stays where it is.

    Raises:
        SampleError: there is no such sample.
    """
    points = chosen(drawn, [number])
    for index, strength in enumerate(strengths):
        if strength and directions is not None:
            points = directions.move(points, index, strength)
    return Drawn(preview(g, points, 1, drawn.options).cpu(), points, drawn.options)


def chosen(drawn: Drawn, numbers: Sequence[int]) -> Latents:
    """The latents of the samples of these numbers, from 0.

    Raises:
        SampleError: nothing was drawn, or there is no such sample.
    """
    if drawn.latents is None:
        raise SampleError("there are no pictures yet: draw some first")
    for number in numbers:
        if not 0 <= number < len(drawn.latents):
            raise SampleError(f"there is no picture {number}: the drawn ones are 0 to {len(drawn.latents) - 1}")
    return drawn.latents[list(numbers)]


def parse_numbers(text: str) -> list[int]:
    """The numbers in "0, 3, 5".

    Raises:
        SampleError: they are no whole numbers.
    """
    try:
        return [int(part) for part in text.replace(",", " ").split()]
    except ValueError as error:
        raise SampleError(f"pictures are named by their numbers, such as 0, 3, 5, not {text!r}") from error


def walk(g: nn.Module, drawn: Drawn, numbers: Sequence[int], frames: int, fps: int, closed: bool, path: Path) -> None:
    """Write a walk between these samples as a video.

    Args:
        frames: images from one sample to the next; `fps` of them are shown a second.
        closed: whether the way leads back to the first one.

    Raises:
        SampleError: it would be too long, or as `ganzoo.walk` and `write_animation`.
    """
    points = chosen(drawn, numbers)
    total = frames * (len(points) - (not closed)) + (not closed)
    if total > LONGEST:
        raise SampleError(f"that walk has {total} frames, more than {LONGEST}: take fewer, or use `ganzoo walk`")
    steps = walk_through(g, points, frames, closed=closed, **drawn.options)
    with counting(total, "frames drawn") as advance:
        images = []
        for image in steps:
            images.append(image.cpu())
            advance(1)
    write_animation(images, path, fps)


def read_upload(path: str, g: nn.Module) -> Tensor:
    """An uploaded picture as a generator of images sees it, cropped to a square and resized: (1, C, H, W) in [-1, 1].

    Raises:
        DataError: it cannot be read as an image.
    """
    config = settings(g)
    try:
        pixels = decode_one(read_file(path), config["image_size"], config["channels"])
    except UNREADABLE as error:
        raise DataError(f"{Path(path).name} cannot be read as an image: {error}") from error
    return torch.from_numpy(pixels.copy())[None].float().div(127.5).sub(1)


def invert(g: nn.Module, target: Tensor, *, steps: int, label: int | None, features: str) -> tuple[Drawn, float]:
    """The latents whose image is nearest to a picture (1, C, H, W), with that image, and their distance.

    Raises:
        SampleError, EvaluationError: as `ganzoo.invert`.
    """
    found = find_latents(g, target, steps=steps, labels=label, features=features)
    return Drawn(found.images.cpu(), found.latents), float(found.distances[0])


def translate(
    g: nn.Module,
    paths: Sequence[str],
    *,
    make: str | None,
    n: int,
    seed: int,
    label: int | None,
    options: dict[str, Any],
) -> list[Image.Image]:
    """For each uploaded picture, the input and its n outputs side by side.

    Args:
        make: how inputs are made from the pictures, such as "edges"; None: the pictures are inputs.

    Raises:
        DataError: a picture cannot be read as an image.
        SampleError, ConfigError: the generator does not translate, or not pictures of this size.
    """
    # Edges and grey values come from all colours of a picture.
    channels = 3 if make in ("edges", "grey") else input_channels(g, options) or 3
    made = []
    with counting(len(paths), "pictures translated") as advance:
        for number, path in enumerate(paths):
            inputs = _read_whole(path, channels)
            inputs = inputs if make is None else make_inputs(inputs, make)
            outputs = translate_images(g, inputs, n, seed + number, label, **options).cpu()
            made.append(side_by_side([as_pixels(column) for column in (inputs, *torch.split(outputs, 1))]))
            advance(1)
    return made


def _read_whole(path: str, channels: int) -> Tensor:
    """An uploaded picture (1, C, H, W), uint8, whose shorter side has at most `LARGEST` pixels."""
    try:
        image = open_image(read_file(path), channels, LARGEST)
        scale = min(1.0, LARGEST / min(image.size))
        width, height = (max(1, round(side * scale)) for side in image.size)
        if max(width, height) > 4 * LARGEST:
            raise DataError(f"{Path(path).name} is more than four times as long as wide: cut it first")
        image = image.resize((width, height), Image.Resampling.BICUBIC)
    except UNREADABLE as error:
        raise DataError(f"{Path(path).name} cannot be read as an image: {error}") from error
    return torch.from_numpy(np.array(image).reshape(height, width, channels)).permute(2, 0, 1)[None]
