"""Images as pixels and as one picture."""

import io
import math
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor, nn

from ganzoo.errors import SampleError
from ganzoo.files import replacing
from ganzoo.sampling.classes import class_names
from ganzoo.sampling.draw import class_count, sample

GRID = 64
"""Images in the grids that show a generator."""
MARGIN = 2
"""Pixels between the images of a grid."""
LONGEST_LABEL = 32
"""Characters of a row's name in a grid."""

Pixels = np.ndarray[Any, np.dtype[np.uint8]]


def is_image(items: Tensor) -> bool:
    """Whether these items can be drawn as images: (N, 1 or 3, H, W)."""
    return items.dim() == 4 and items.shape[1] in (1, 3)


def to_uint8(images: Tensor) -> Pixels:
    """(N, C, H, W) in [-1, 1] to uint8 (N, H, W, C): -1 is 0 and 1 is 255, the same for every batch.

    Raises:
        SampleError: these are not images of 1 or 3 channels.
    """
    return as_uint8(images).cpu().numpy()


def as_uint8(images: Tensor) -> Tensor:
    """As `to_uint8`, but a tensor where the images are."""
    if not is_image(images):
        raise SampleError(f"samples of shape {tuple(images.shape[1:])} are not images of 1 or 3 channels: write a .npy")
    pixels = images.detach().float().mul(127.5).add_(127.5).round_().clamp_(0, 255).to(torch.uint8)
    return pixels.permute(0, 2, 3, 1).contiguous()


def save(picture: Image.Image, path: Path, **options: Any) -> None:
    """Write a picture whole or not at all, in the format of the file's ending, with options of Pillow's for it.

    Raises:
        OSError: it cannot be written.
    """
    content = io.BytesIO()  # Pillow's writer of JPEG does not notice that a file cannot be written
    picture.save(content, Image.registered_extensions()[path.suffix.lower()], **options)
    with replacing(path, shared=True) as temporary:
        temporary.write_bytes(content.getbuffer())


def grid(pixels: Pixels, columns: int | None = None, names: Sequence[str] | None = None) -> Image.Image:
    """Images (N, H, W, C) as one picture, row by row with a margin, as square as possible unless `columns` is given.
    Row i has names[i] at its left, if there are `names`."""
    n, height, width, channels = pixels.shape
    columns = columns or math.ceil(math.sqrt(n))
    rows = -(-n // columns)
    sheet = np.full((rows, height + MARGIN, columns, width + MARGIN, channels), 0, np.uint8)
    for i in range(n):
        sheet[i // columns, :height, i % columns, :width] = pixels[i]
    joined = sheet.reshape(rows * (height + MARGIN), columns * (width + MARGIN), channels)
    padded = np.pad(joined, ((MARGIN, 0), (MARGIN, 0), (0, 0)))
    picture = Image.fromarray(padded[:, :, 0] if channels == 1 else padded)
    return _with_names(picture, names, height) if names else picture


def _with_names(picture: Image.Image, names: Sequence[str], height: int) -> Image.Image:
    """A grid of images of that height, with a name at the left of each row, in Pillow's own font."""
    font = ImageFont.load_default(max(8, min(12, height // 3)))
    texts = [name if len(name) <= LONGEST_LABEL else f"{name[: LONGEST_LABEL - 3]}..." for name in names]
    left = math.ceil(max(font.getlength(text) for text in texts)) + 2 * MARGIN
    sheet = Image.new(picture.mode, (left + picture.width, picture.height))
    sheet.paste(picture, (left, 0))
    draw = ImageDraw.Draw(sheet)
    for row, text in enumerate(texts):
        middle = MARGIN + row * (height + MARGIN) + height / 2
        draw.text((left - MARGIN, middle), text, fill="white", font=font, anchor="rm")
    return sheet


def by_class(n: int, classes: Sequence[int]) -> tuple[list[int], int]:
    """Labels for about n samples in a grid with a class a row, and the number of its columns."""
    columns = max(1, round(n / len(classes)))
    return [label for label in classes for _ in range(columns)], columns


def row_names(g: nn.Module, classes: Sequence[int]) -> list[str] | None:
    """The names of the rows of a grid with a class a row, in the letters of Pillow's font; None if classes have none.

    A name without any such letter, as in another script, gives way to the number of its class.
    """
    names = class_names(g)
    if names is None:
        return None
    plain = [unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().strip() for name in names]
    return [plain[number] or f"class {number}" for number in classes]


def overview(g: nn.Module, seed: int = 0) -> Image.Image:
    """The grid that shows what a generator of images has learned: 64 samples, for a conditional one a class a row, with
    its name if it has one."""
    count = class_count(g)
    if count is None:
        return grid(to_uint8(sample(g, GRID, seed)))
    classes = range(min(count, GRID))
    labels, columns = by_class(GRID, classes)
    return grid(to_uint8(sample(g, len(labels), seed, labels)), columns, row_names(g, classes))
